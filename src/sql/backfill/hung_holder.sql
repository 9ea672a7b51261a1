-- The processes that hold a pack's lock and are all silent for long, while nobody works for them:
-- no limit of the server ends them, and whoever waits for the lock would wait for ever.
-- $1 name of the lock, $2 seconds.
SELECT string_agg(DISTINCT a.pid::text, ', ')
FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted AND l.pid <> pg_backend_pid()
  AND ((l.classid::bigint << 32) | l.objid::bigint) = hashtextextended($1, 0)
  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d
                    WHERE d.datname = current_database())
  AND NOT EXISTS (
      SELECT 1 FROM pg_catalog.pg_stat_activity w
      WHERE w.datname = current_database() AND w.application_name = 'toolkit'
        AND w.pid <> pg_backend_pid()
        AND (w.wait_event IS DISTINCT FROM 'ClientRead'
             OR w.state_change > clock_timestamp() - make_interval(secs => $2)))
