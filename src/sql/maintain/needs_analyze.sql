-- $1 schemas
WITH RECURSIVE below AS (
    SELECT c.oid AS top, c.oid FROM pg_catalog.pg_class c WHERE c.relkind = 'p'
    UNION ALL
    SELECT below.top, i.inhrelid FROM below JOIN pg_catalog.pg_inherits i ON i.inhparent = below.oid
), of_parent AS (
    SELECT b.top, sum(s.n_live_tup)::bigint AS live, sum(s.n_mod_since_analyze)::bigint AS changed
    FROM below b JOIN pg_catalog.pg_stat_all_tables s ON s.relid = b.oid AND b.oid <> b.top
    GROUP BY b.top
), seen AS (
    SELECT n.nspname || '.' || c.relname AS table_name, c.relkind,
           coalesce(p.live, s.n_live_tup, 0) AS live,
           coalesce(s.n_mod_since_analyze, 0) AS changed,
           EXISTS (SELECT FROM pg_catalog.pg_statistic t WHERE t.starelid = c.oid) AS has_statistics,
           greatest(c.reltuples, 0) AS tuples
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_stat_all_tables s ON s.relid = c.oid
    LEFT JOIN of_parent p ON p.top = c.oid
    WHERE n.nspname = ANY ($1) AND c.relkind IN ('r', 'm', 'p')
)
SELECT table_name, CASE WHEN has_statistics THEN changed ELSE live END AS rows,
       CASE WHEN has_statistics THEN 'changed since the last ANALYZE'
            WHEN relkind = 'p' THEN 'partitioned and never analyzed: autovacuum leaves it out'
            ELSE 'never analyzed' END AS why
FROM seen
WHERE live > 0 AND NOT has_statistics
   OR changed > current_setting('autovacuum_analyze_threshold')::bigint
          + current_setting('autovacuum_analyze_scale_factor')::float8 * tuples
ORDER BY rows DESC, table_name
