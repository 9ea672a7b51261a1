-- What evidence about a pack depends on. $1 pack, $2 schemas and $3 names of its targets.
WITH target AS (
    SELECT DISTINCT c.oid, n.nspname, c.relname
    FROM unnest($2::text[], $3::text[]) AS t (nspname, relname)
    JOIN pg_catalog.pg_namespace n ON n.nspname = t.nspname
    JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.relname
),
object AS (
    SELECT format('%s.%s column %s %s %s %s', t.nspname, t.relname, a.attname,
                  pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull,
                  pg_catalog.pg_get_expr(d.adbin, d.adrelid)) AS definition
    FROM target t
    JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    UNION ALL
    SELECT format('%s.%s constraint %s %s', t.nspname, t.relname, k.conname,
                  pg_catalog.pg_get_constraintdef(k.oid))
    FROM target t
    JOIN pg_catalog.pg_constraint k ON k.conrelid = t.oid
    WHERE k.contype IN ('p', 'u', 'f', 'c', 'x')
)
SELECT coalesce((SELECT generation FROM toolkit.phase WHERE pack = $1), 1) AS generation,
       (SELECT encode(sha256(convert_to(
                   coalesce(string_agg(definition, E'\n' ORDER BY definition COLLATE "C"), ''),
                   'UTF8')), 'hex')
        FROM object) AS target_schema,
       (SELECT count(*) FROM toolkit.reject WHERE pack = $1) AS rejects,
       (SELECT coalesce(max(id), 0) FROM toolkit.reject WHERE pack = $1) AS newest_reject
