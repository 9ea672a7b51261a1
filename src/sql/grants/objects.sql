-- What of a pack's schemas and tables an application's role uses, and which rights to it the role
-- lacks. $1 role, $2 whether it only reads, $3 schemas that are the pack's own, $4 and $5 schemas and
-- names of the pack's tables in others.
WITH listed AS (
    SELECT c.oid, c.relowner
    FROM unnest($4::text[], $5::text[]) AS t(table_schema, table_name)
    JOIN pg_catalog.pg_namespace n ON n.nspname = t.table_schema
    JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.table_name
), own AS (
    SELECT n.oid, n.nspname FROM pg_catalog.pg_namespace n WHERE n.nspname = ANY ($3::text[])
), objects AS (
    SELECT 1 AS rank, 'SCHEMA' AS kind, pg_catalog.quote_ident(n.nspname) AS name,
           n.oid, ARRAY['USAGE'] AS wanted
    FROM pg_catalog.pg_namespace n
    WHERE n.nspname = ANY ($3::text[]) OR n.nspname = ANY ($4::text[])
    UNION ALL
    SELECT 2, 'TYPE', pg_catalog.format('%I.%I', n.nspname, t.typname), t.oid, ARRAY['USAGE']
    FROM pg_catalog.pg_type t
    JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
    LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid
    WHERE (t.typtype IN ('e', 'd', 'r') OR t.typtype = 'c' AND c.relkind = 'c')
      AND (n.oid IN (SELECT oid FROM own)
           OR EXISTS (SELECT FROM pg_catalog.pg_attribute a
                      WHERE a.attrelid IN (SELECT oid FROM listed) AND NOT a.attisdropped
                        AND a.atttypid IN (t.oid, t.typarray)
                        AND t.typnamespace <> 'pg_catalog'::regnamespace))
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                      WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e')
    UNION ALL
    SELECT 3, 'TABLE', pg_catalog.format('%I.%I', n.nspname, c.relname), c.oid,
           CASE WHEN $2::bool OR c.relkind IN ('v', 'm') THEN ARRAY['SELECT']
                ELSE ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'] END
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
      AND (n.oid IN (SELECT oid FROM own) OR c.oid IN (SELECT oid FROM listed))
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                      WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
    UNION ALL
    -- Behind an identity column (deptype i) no right is asked for.
    SELECT 4, 'SEQUENCE', pg_catalog.format('%I.%I', n.nspname, c.relname), c.oid, ARRAY['USAGE']
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'S' AND NOT $2::bool
      AND (n.oid IN (SELECT oid FROM own)
           OR EXISTS (SELECT FROM pg_catalog.pg_depend d
                      WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                        AND d.deptype = 'a' AND d.refobjid IN (SELECT oid FROM listed)))
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                      WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                        AND d.deptype IN ('e', 'i'))
    UNION ALL
    -- A trigger's function is called by whoever fires it, without a right.
    SELECT 5, CASE p.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END,
           pg_catalog.format('%I.%I(%s)', n.nspname, p.proname,
                             pg_catalog.pg_get_function_identity_arguments(p.oid)),
           p.oid, ARRAY['EXECUTE']
    FROM pg_catalog.pg_proc p
    JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE n.oid IN (SELECT oid FROM own)
      AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
      AND NOT ($2::bool AND p.provolatile = 'v')
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                      WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
)
SELECT o.kind, o.name, o.wanted, ARRAY(
    SELECT w.privilege FROM unnest(o.wanted) WITH ORDINALITY AS w(privilege, place)
    WHERE NOT CASE
        WHEN o.kind = 'SCHEMA' THEN pg_catalog.has_schema_privilege($1::name, o.oid, w.privilege)
        WHEN o.kind = 'TYPE' THEN pg_catalog.has_type_privilege($1::name, o.oid, w.privilege)
        WHEN o.kind = 'TABLE' THEN pg_catalog.has_table_privilege($1::name, o.oid, w.privilege)
        WHEN o.kind = 'SEQUENCE' THEN pg_catalog.has_sequence_privilege($1::name, o.oid, w.privilege)
        ELSE pg_catalog.has_function_privilege($1::name, o.oid, w.privilege) END
    ORDER BY w.place) AS missing
FROM objects o
ORDER BY o.rank, o.name COLLATE "C"
