-- Constraints of one table that a census cannot evaluate. $1 schema, $2 table.
SELECT CASE c.contype WHEN 'c' THEN 'check ' WHEN 'x' THEN 'exclusion ' ELSE 'deferrable unique ' END
           || c.conname
FROM pg_catalog.pg_constraint c
JOIN pg_catalog.pg_class t ON t.oid = c.conrelid
JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
WHERE (c.contype IN ('c', 'x') OR (c.contype IN ('p', 'u') AND c.condeferrable))
  AND n.nspname = $1 AND t.relname = $2
ORDER BY 1
