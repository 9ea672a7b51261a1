-- Months that should have a partition and have none, oldest first.
-- $1 schema, $2 table, $3 months ahead, $4 months DEFAULT holds rows of, $5 how many of each
WITH bound AS (
    SELECT substring(b.text FROM 'FROM \(''([^'']+)''\)')::timestamp AS range_from,
           substring(b.text FROM 'TO \(''([^'']+)''\)')::timestamp AS range_to,
           b.text ~ 'FROM \(MINVALUE\)' AS from_start,
           b.text ~ 'TO \(MAXVALUE\)' AS to_end
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_inherits i ON i.inhparent = c.oid
    JOIN pg_catalog.pg_class p ON p.oid = i.inhrelid
    CROSS JOIN LATERAL (
        SELECT pg_catalog.pg_get_expr(p.relpartbound, p.oid) AS text) b
    WHERE n.nspname = $1 AND c.relname = $2 AND b.text <> 'DEFAULT'
), wanted AS (
    SELECT month::timestamp AS range_from, sum(rows)::bigint AS rows
    FROM (
        SELECT date_trunc('month', now()::timestamp) + step * interval '1 month' AS month, 0 AS rows
        FROM generate_series(0, $3) AS step
        UNION ALL
        SELECT held.month::timestamp, held.rows
        FROM unnest($4::text[], $5::bigint[]) AS held (month, rows)
        WHERE held.month IS NOT NULL
    ) AS every
    WHERE month >= '1970-01-01' AND month < now()::timestamp + interval '10 years'
    GROUP BY 1
)
SELECT $2 || '_y' || to_char(w.range_from, 'YYYY"m"MM') AS partition,
       w.range_from::date::text AS range_from,
       (w.range_from + interval '1 month')::date::text AS range_to,
       w.rows
FROM wanted w
WHERE NOT EXISTS (
    SELECT FROM bound b
    WHERE (b.from_start OR b.range_from < w.range_from + interval '1 month')
      AND (b.to_end OR b.range_to > w.range_from))
ORDER BY w.range_from
