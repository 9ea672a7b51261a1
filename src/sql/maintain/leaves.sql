-- The tables that hold a table's rows, and whether all of theirs are before the cut-off: direct
-- partitions by range of the very column, without partitions of their own.
-- $1 schema, $2 table, $3 column, $4 cut-off
WITH parent AS (
    SELECT c.oid, p.partstrat = 'r' AND p.partnatts = 1 AND a.attname = $3 AS is_by_column
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = c.oid
    LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0]
    WHERE n.nspname = $1 AND c.relname = $2
)
SELECT ln.nspname::text AS leaf_schema, l.relname::text AS leaf,
       coalesce(parent.is_by_column AND i.inhparent = parent.oid
           AND substring(pg_catalog.pg_get_expr(l.relpartbound, l.oid)
                   FROM 'TO \(''([^'']+)''\)')::timestamptz <= $4::timestamptz, false) AS is_old
FROM parent
CROSS JOIN LATERAL (
    SELECT t.relid FROM pg_catalog.pg_partition_tree(parent.oid) t WHERE t.isleaf
    UNION
    SELECT parent.oid WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_partition_tree(parent.oid))
) AS leaf (relid)
JOIN pg_catalog.pg_class l ON l.oid = leaf.relid
JOIN pg_catalog.pg_namespace ln ON ln.oid = l.relnamespace
LEFT JOIN pg_catalog.pg_inherits i ON i.inhrelid = l.oid
WHERE l.relkind = 'r'
ORDER BY is_old DESC, l.relname
