-- The index $1 in the schema of table $2: its quoted name, and whether it is usable.
SELECT format('%I.%I', n.nspname, c.relname), i.indisvalid AND i.indisready
  FROM pg_catalog.pg_class t
  JOIN pg_catalog.pg_class c ON c.relnamespace = t.relnamespace AND c.relname = $1::text::name
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
 WHERE t.oid = to_regclass($2)
