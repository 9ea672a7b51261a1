-- The replica that is furthest behind in replaying, and by how many seconds. NULL: it has nothing
-- to replay, or has just connected.
SELECT coalesce(nullif(application_name, ''), client_addr::text, pid::text),
       extract(epoch FROM replay_lag)::float8
FROM pg_catalog.pg_stat_replication
WHERE replay_lag IS NOT NULL
ORDER BY replay_lag DESC
LIMIT 1
