-- What the owners of the pack's own schemas let a role do with what they make there later.
-- $1 role, $2 whether it only reads, $3 the pack's own schemas.
SELECT pg_catalog.quote_ident(n.nspname) AS schema, pg_catalog.quote_ident(r.rolname) AS owner,
       k.kind, k.wanted, ARRAY(
           SELECT w.privilege FROM unnest(k.wanted) WITH ORDINALITY AS w(privilege, place)
           WHERE NOT EXISTS (
               SELECT FROM pg_catalog.pg_default_acl d, pg_catalog.aclexplode(d.defaclacl) AS a
               WHERE d.defaclnamespace IN (n.oid, 0) AND d.defaclrole = r.oid
                 AND d.defaclobjtype = k.objtype AND a.privilege_type = w.privilege
                 AND CASE a.grantee WHEN 0 THEN true
                     ELSE pg_catalog.pg_has_role($1::name, a.grantee, 'USAGE') END)
           ORDER BY w.place) AS missing
FROM pg_catalog.pg_namespace n
JOIN (SELECT DISTINCT c.relnamespace, c.relowner FROM pg_catalog.pg_class c
      WHERE c.relkind IN ('r', 'p')) AS o ON o.relnamespace = n.oid
JOIN pg_catalog.pg_roles r ON r.oid = o.relowner
JOIN (VALUES ('r'::"char", 'TABLES', CASE WHEN $2::bool THEN ARRAY['SELECT']
                   ELSE ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'] END),
             ('S'::"char", 'SEQUENCES', CASE WHEN $2::bool THEN ARRAY[]::text[]
                   ELSE ARRAY['USAGE'] END)) AS k(objtype, kind, wanted)
    ON pg_catalog.cardinality(k.wanted) > 0
WHERE n.nspname = ANY ($3::text[]) AND r.rolname <> $1::name
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_roles s WHERE s.rolname = $1::name AND s.rolsuper)
ORDER BY 1, 2, 3 DESC
