-- Asks a run to pause; whoever asked first is remembered. $1 run, $2 user and host.
UPDATE toolkit.run
SET pause_asked_at = coalesce(pause_asked_at, clock_timestamp()),
    pause_asked_by = coalesce(pause_asked_by, session_user || ' (' || $2 || ')')
WHERE run_id = $1::uuid
