-- Columns of one table, in order. $1 schema, $2 table. base_type is format_type(..., -1): with
-- NULL, char(n) reads `character` and bit(n) reads `bit`, which SQL takes for a length of 1.
WITH RECURSIVE base AS (
    SELECT t.oid AS type_oid, t.oid AS base_oid, t.typtype, t.typbasetype, t.typtypmod
    FROM pg_catalog.pg_type t
    UNION ALL
    SELECT b.type_oid, t.oid, t.typtype, t.typbasetype,
           CASE WHEN b.typtypmod >= 0 THEN b.typtypmod ELSE t.typtypmod END
    FROM base b
    JOIN pg_catalog.pg_type t ON t.oid = b.typbasetype
    WHERE b.typtype = 'd'
)
SELECT a.attname::text                                            AS name,
       bt.typname::text                                           AS base_name,
       bt.typtype::text                                           AS base_kind,
       coalesce(et.typname::text, '')                             AS element_name,
       coalesce(et.typtype::text, '')                             AS element_kind,
       pg_catalog.format_type(a.atttypid, a.atttypmod)            AS declared_type,
       -- -1, not NULL: "character" and "bit" would mean a length of one.
       pg_catalog.format_type(bt.oid, -1)                         AS base_type,
       CASE WHEN a.atttypmod >= 0 THEN a.atttypmod ELSE b.typtypmod END AS modifier,
       a.attnotnull OR t.typnotnull                               AS not_null,
       a.attidentity::text                                        AS identity,
       a.attgenerated::text                                       AS generated,
       d.adbin IS NOT NULL                                        AS has_default,
       coalesce(coll.collisdeterministic, true)                   AS deterministic,
       -- Its own (serial, identity), or one somebody else owns, named in the default. Not
       -- pg_get_serial_sequence, which refuses schemas the role may not use.
       (SELECT quote_ident(sn.nspname) || '.' || quote_ident(s.relname)
        FROM pg_catalog.pg_depend p
        JOIN pg_catalog.pg_class s ON s.relkind = 'S'
             AND s.oid = CASE WHEN p.classid = 'pg_catalog.pg_class'::regclass THEN p.objid
                              ELSE p.refobjid END
        JOIN pg_catalog.pg_namespace sn ON sn.oid = s.relnamespace
        WHERE (p.classid = 'pg_catalog.pg_class'::regclass AND p.deptype IN ('a', 'i')
               AND p.refclassid = 'pg_catalog.pg_class'::regclass
               AND p.refobjid = c.oid AND p.refobjsubid = a.attnum)
           OR (p.classid = 'pg_catalog.pg_attrdef'::regclass AND p.objid = d.oid
               AND p.refclassid = 'pg_catalog.pg_class'::regclass)
        ORDER BY p.classid = 'pg_catalog.pg_attrdef'::regclass DESC
        LIMIT 1)                                                  AS sequence,
       ARRAY(SELECT e.enumlabel::text FROM pg_catalog.pg_enum e
             WHERE e.enumtypid IN (bt.oid, et.oid) ORDER BY e.enumsortorder) AS labels
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
JOIN base b ON b.type_oid = a.atttypid AND b.typtype <> 'd'
JOIN pg_catalog.pg_type bt ON bt.oid = b.base_oid
LEFT JOIN pg_catalog.pg_type et ON et.oid = bt.typelem AND bt.typcategory = 'A'
LEFT JOIN pg_catalog.pg_collation coll ON coll.oid = a.attcollation
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'v', 'f', 'm')
ORDER BY a.attnum
