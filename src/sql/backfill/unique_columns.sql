-- Columns of a unique index by its name, of a table or one of its partitions; NULL for an
-- expression. $1 schema, $2 table, $3 index.
SELECT ARRAY(
           SELECT a.attname::text
           FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, position)
           LEFT JOIN pg_catalog.pg_attribute a
                  ON a.attrelid = i.indrelid AND a.attnum = k.attnum AND k.attnum > 0
           WHERE k.position <= i.indnkeyatts
           ORDER BY k.position)
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
JOIN pg_catalog.pg_class c ON c.relname = $2
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = $1
WHERE x.relname = $3 AND i.indisunique
  AND (i.indrelid = c.oid
       OR i.indrelid IN (SELECT p.relid FROM pg_catalog.pg_partition_tree(c.oid) AS p))
LIMIT 1
