-- Tables with a trigger of one of the names $1; not the copies that a partitioned parent gave to
-- its partitions, which go with it.
SELECT n.nspname::text AS schema, c.relname::text AS table, t.tgname::text AS trigger
FROM pg_catalog.pg_trigger t
JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE t.tgname = ANY ($1) AND t.tgparentid = 0
