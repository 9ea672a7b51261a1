-- Constraints of one table that a census cannot evaluate, those of its columns' domains among them.
-- $1 schema, $2 table.
SELECT CASE c.contype WHEN 'c' THEN 'check ' WHEN 'x' THEN 'exclusion ' ELSE 'deferrable unique ' END
           || c.conname
FROM pg_catalog.pg_constraint c
JOIN pg_catalog.pg_class t ON t.oid = c.conrelid
JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
WHERE (c.contype IN ('c', 'x') OR (c.contype IN ('p', 'u') AND c.condeferrable))
  AND n.nspname = $1 AND t.relname = $2
UNION ALL
SELECT 'check ' || c.conname || ' of ' || a.attname || ' as ' || pg_catalog.format_type(d.oid, NULL)
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class t ON t.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
JOIN pg_catalog.pg_type d ON d.oid = a.atttypid AND d.typtype = 'd'
JOIN pg_catalog.pg_constraint c ON c.contypid = d.oid AND c.contype = 'c'
WHERE n.nspname = $1 AND t.relname = $2 AND NOT a.attisdropped
ORDER BY 1
