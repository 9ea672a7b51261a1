-- What the current role may not do with one table. $1 schema, $2 table.
SELECT current_user::text AS role,
       pg_catalog.has_schema_privilege(n.oid, 'USAGE') AS usage,
       ARRAY(SELECT p.name
             FROM (VALUES ('SELECT'), ('INSERT'), ('UPDATE')) AS p (name)
             WHERE NOT pg_catalog.has_any_column_privilege(c.oid, p.name)) AS missing,
       pg_catalog.row_security_active(c.oid) AS hidden
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2
