-- Relations whose owner is not the owner of the pack's history ($1).
-- $2, $3: schemas and names of the relations.
SELECT format('%s.%s', n.nspname, c.relname),
       pg_catalog.pg_get_userbyid(h.relowner)::text,
       pg_catalog.pg_get_userbyid(c.relowner)::text
FROM unnest($2::text[], $3::text[]) AS wanted (schema, name)
JOIN pg_catalog.pg_namespace n ON n.nspname = wanted.schema
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name
JOIN pg_catalog.pg_class h ON h.oid = to_regclass($1)
WHERE c.relowner <> h.relowner
ORDER BY 1
