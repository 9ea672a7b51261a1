-- Tables of some schemas that the session's role neither owns nor may act for. $1 schemas
SELECT format('%I.%I (%I)', n.nspname, c.relname, o.rolname)
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_roles o ON o.oid = c.relowner
WHERE n.nspname = ANY ($1) AND n.nspname <> 'public' AND c.relkind IN ('r', 'p')
  AND NOT pg_catalog.pg_has_role(c.relowner, 'USAGE')
ORDER BY 1
LIMIT 20
