-- Indexes that were never scanned, those of partitions added up under the parent's. $1 schemas
WITH RECURSIVE above AS (
    SELECT x.indexrelid AS index_oid, x.indexrelid AS top
    FROM pg_catalog.pg_index x
    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = x.indexrelid)
    UNION ALL
    SELECT i.inhrelid, above.top
    FROM above JOIN pg_catalog.pg_inherits i ON i.inhparent = above.index_oid
)
SELECT tn.nspname || '.' || t.relname AS table_name, c.relname::text AS index_name,
       sum(pg_catalog.pg_relation_size(a.index_oid))::bigint AS bytes
FROM above a
JOIN pg_catalog.pg_index x ON x.indexrelid = a.top
JOIN pg_catalog.pg_class c ON c.oid = a.top
JOIN pg_catalog.pg_class t ON t.oid = x.indrelid
JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
LEFT JOIN pg_catalog.pg_stat_all_indexes s ON s.indexrelid = a.index_oid
WHERE tn.nspname = ANY ($1) AND NOT x.indisunique AND NOT x.indisexclusion
GROUP BY a.top, tn.nspname, t.relname, c.relname
HAVING sum(coalesce(s.idx_scan, 0)) = 0
ORDER BY bytes DESC, table_name, index_name
