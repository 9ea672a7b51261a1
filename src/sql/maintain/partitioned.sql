-- A table partitioned by range of one column of time, its DEFAULT partition, and the columns that
-- can be written. $1 schema, $2 table
SELECT a.attname::text AS column_name,
       dn.nspname::text AS default_schema,
       d.relname::text AS default_table,
       (SELECT array_agg(w.attname::text ORDER BY w.attnum) FROM pg_catalog.pg_attribute w
         WHERE w.attrelid = c.oid AND w.attnum > 0 AND NOT w.attisdropped
           AND w.attgenerated = '') AS columns
FROM pg_catalog.pg_partitioned_table p
JOIN pg_catalog.pg_class c ON c.oid = p.partrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0]
LEFT JOIN pg_catalog.pg_class d ON d.oid = p.partdefid
LEFT JOIN pg_catalog.pg_namespace dn ON dn.oid = d.relnamespace
WHERE n.nspname = $1 AND c.relname = $2
  AND p.partstrat = 'r' AND p.partnatts = 1
  AND a.atttypid IN ('timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype)
