-- Processes that work on a run, or did; the newest first. $1 run.
SELECT p.process::text AS process, p.host, p.pid, p.workers, p.begun_by, p.reason,
    CASE
        WHEN p.state = 'ended' THEN 'ended'
        WHEN EXISTS (
            SELECT 1 FROM pg_catalog.pg_locks l
            WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
              AND ((l.classid::bigint << 32) | l.objid::bigint)
                  = hashtextextended('toolkit.process.' || p.process, 0)
              AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d
                                WHERE d.datname = current_database())
        ) THEN p.state
        ELSE 'gone'
    END AS state,
    extract(epoch FROM clock_timestamp() - p.seen_at)::float8 AS silent_seconds,
    to_char(p.began_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS began_at,
    to_char(p.seen_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS seen_at,
    to_char(p.paused_since AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS paused_since
FROM toolkit.run_process p
WHERE p.run_id = $1::uuid
ORDER BY p.began_at DESC, p.process
LIMIT 100
