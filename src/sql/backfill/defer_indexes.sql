-- Records the non-unique indexes of a table that no constraint needs, and returns their names.
-- pg_get_indexdef says ON ONLY for a partitioned table; without ONLY the partitions get theirs too.
-- $1 run, $2 schema, $3 table.
INSERT INTO toolkit.deferred_index (run_id, table_schema, table_name, index_name, definition)
SELECT $1::uuid, n.nspname, c.relname, i.relname,
       CASE WHEN i.relkind = 'I'
            THEN replace(pg_catalog.pg_get_indexdef(x.indexrelid), ' ON ONLY ', ' ON ')
            ELSE pg_catalog.pg_get_indexdef(x.indexrelid) END
FROM pg_catalog.pg_index x
JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
JOIN pg_catalog.pg_class c ON c.oid = x.indrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $2 AND c.relname = $3
  AND NOT x.indisunique AND NOT x.indisreplident AND NOT x.indisclustered AND x.indisvalid
  AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_constraint k WHERE k.conindid = x.indexrelid)
  AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_inherits h WHERE h.inhrelid = x.indexrelid)
ORDER BY i.relname
RETURNING index_name
