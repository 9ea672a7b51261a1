-- How far a pack is written back: $1 pack. Lag by this server's clock.
SELECT
    (SELECT count(*) FROM toolkit.reverse_target WHERE pack = $1) AS targets,
    count(l.id) AS lag_changes,
    coalesce(extract(epoch FROM clock_timestamp() - min(l.at)), 0)::float8 AS lag_seconds,
    (SELECT count(*) FROM toolkit.reverse_reject WHERE pack = $1) AS rejects,
    (SELECT changes FROM toolkit.reverse_state WHERE pack = $1) AS changes,
    (SELECT applied_at::text FROM toolkit.reverse_state WHERE pack = $1) AS applied_at,
    EXISTS (
        SELECT FROM pg_catalog.pg_locks k
        WHERE k.locktype = 'advisory' AND k.granted AND k.objsubid = 1
          AND k.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
          AND (k.classid::bigint << 32) | k.objid::bigint
              = hashtextextended('toolkit reverse ' || $1, 0)
    ) AS running
FROM toolkit.reverse_log l
WHERE l.pack = $1
