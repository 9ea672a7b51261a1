-- A process is alive, and stands so. $1 process, $2 state, $3 why it waits.
UPDATE toolkit.run_process
SET seen_at = clock_timestamp(), state = $2, reason = $3::text,
    paused_since = CASE WHEN $3::text IS NOT NULL THEN coalesce(paused_since, clock_timestamp()) END
WHERE process = $1::uuid
