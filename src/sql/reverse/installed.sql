-- Capture triggers of a pack: $1 the row triggers' name. Those that are off do not count.
SELECT n.nspname::text AS schema, c.relname::text AS table
FROM pg_catalog.pg_trigger t
JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE t.tgname = $1 AND t.tgenabled IN ('O', 'A') AND NOT t.tgisinternal
