-- $1 schemas
SELECT s.schemaname || '.' || s.relname AS table_name, s.n_dead_tup AS rows,
       CASE WHEN age(c.relfrozenxid)
                 > 0.8 * current_setting('autovacuum_freeze_max_age')::bigint
            THEN 'its oldest transaction id is ' || age(c.relfrozenxid) || ' transactions old'
            ELSE 'dead rows' END AS why
FROM pg_catalog.pg_stat_all_tables s
JOIN pg_catalog.pg_class c ON c.oid = s.relid
WHERE s.schemaname = ANY ($1) AND c.relkind IN ('r', 'm')
  AND (s.n_dead_tup > current_setting('autovacuum_vacuum_threshold')::bigint
           + current_setting('autovacuum_vacuum_scale_factor')::float8 * greatest(c.reltuples, 0)
       OR age(c.relfrozenxid) > 0.8 * current_setting('autovacuum_freeze_max_age')::bigint)
ORDER BY rows DESC, table_name
