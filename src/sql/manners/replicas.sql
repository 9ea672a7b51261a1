-- How far each replica is: its name, how many seconds it says that it is behind (NULL: it had nothing
-- to replay, or has just connected), the position it has replayed, and where the log ends now.
SELECT coalesce(nullif(application_name, ''), client_addr::text, pid::text) AS replica,
       extract(epoch FROM replay_lag)::float8 AS said,
       (replay_lsn - '0/0'::pg_lsn)::int8 AS replayed,
       ((CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
              ELSE pg_current_wal_lsn() END) - '0/0'::pg_lsn)::int8 AS ends
FROM pg_catalog.pg_stat_replication
WHERE replay_lsn IS NOT NULL
