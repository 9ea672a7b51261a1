-- Runs, newest first. $1 one of them, or NULL; $2 a pack, or NULL; $3 whether only unfinished ones;
-- $4 how many at most.
WITH held AS (
    SELECT (l.classid::bigint << 32) | l.objid::bigint AS name
    FROM pg_catalog.pg_locks l
    WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
      AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d
                        WHERE d.datname = current_database())
), seen AS (
    SELECT r.*,
        -- Alive: somebody holds the pack's lock, and works on the newest run.
        r.command = 'backfill'
        AND hashtextextended('toolkit.backfill.' || r.pack, 0) IN (SELECT name FROM held)
        AND r.started_at = (SELECT max(n.started_at) FROM toolkit.run n
                            WHERE n.pack = r.pack AND n.command = 'backfill') AS is_alive,
        r.command = 'backfill' AND r.status IN ('running', 'interrupted', 'failed')
        AND r.started_at = (SELECT max(n.started_at) FROM toolkit.run n
                            WHERE n.pack = r.pack AND n.command = 'backfill') AS is_unfinished,
        (SELECT count(*) FROM toolkit.run_process p WHERE p.run_id = r.run_id
         AND p.state <> 'ended'
         AND hashtextextended('toolkit.process.' || p.process, 0) IN (SELECT name FROM held)
        ) AS processes,
        (SELECT count(*) FROM toolkit.run_process p WHERE p.run_id = r.run_id
         AND p.state = 'paused'
         AND hashtextextended('toolkit.process.' || p.process, 0) IN (SELECT name FROM held)
        ) AS paused,
        coalesce((SELECT sum(c.rows_read) FROM toolkit.chunk c WHERE c.run_id = r.run_id)::bigint,
                 (r.counts ->> 'read')::bigint, 0) AS rows_read
    FROM toolkit.run r
    WHERE ($1::uuid IS NULL OR r.run_id = $1::uuid) AND ($2::text IS NULL OR r.pack = $2)
)
SELECT run_id::text AS run, pack, command, status,
    CASE
        WHEN status = 'running' AND command = 'backfill' AND NOT is_alive THEN 'cut off'
        WHEN status <> 'running' THEN status
        WHEN stop_asked_by IS NOT NULL THEN 'stopping'
        WHEN processes > 0 AND paused = processes THEN 'paused'
        WHEN pause_asked_by IS NOT NULL THEN 'pausing'
        ELSE 'running'
    END AS state,
    is_alive, is_unfinished, processes, paused, rows_read, error, begun_by, pause_asked_by,
    to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS began_at,
    to_char(finished_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS finished_at,
    to_char(pause_asked_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS pause_asked_at
FROM seen
WHERE NOT $3 OR is_unfinished
ORDER BY seen.started_at DESC, run_id
LIMIT $4
