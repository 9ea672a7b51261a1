-- Gives each edge that stays its target, the urls of all it stands for, and what those said
-- otherwise. Names in braces are the table's.
WITH urls AS (
    SELECT keeper, array_agg(url ORDER BY rank, place) AS urls
    FROM (
        SELECT DISTINCT ON (r.keeper, u.url) r.keeper, u.url, r.rank, u.place
        FROM ranked_edge r, unnest(r.urls) WITH ORDINALITY AS u (url, place)
        ORDER BY r.keeper, u.url, r.rank, u.place
    ) AS first_met
    GROUP BY keeper
), said AS (
    SELECT r.keeper, jsonb_agg(o.other ORDER BY r.rank) AS also
    FROM ranked_edge r
    JOIN ranked_edge k ON k.id = r.keeper
    CROSS JOIN LATERAL (SELECT jsonb_strip_nulls(jsonb_build_object(
        'title', CASE WHEN r.title IS DISTINCT FROM k.title THEN r.title END,
        'relation_type', CASE WHEN r.source_relation_type IS DISTINCT FROM k.source_relation_type
                              THEN r.source_relation_type END,
        'format', CASE WHEN r.format IS DISTINCT FROM k.format THEN r.format END,
        'meta', nullif(r.meta, '{}'))) AS other) AS o
    WHERE r.rank > 1 AND o.other <> '{}'
    GROUP BY r.keeper
), fallback AS (
    SELECT keeper, (array_agg(title ORDER BY rank) FILTER (WHERE title IS NOT NULL))[1] AS title
    FROM ranked_edge GROUP BY keeper
)
UPDATE {table} e
SET {to} = k.target,
    {p}_urls = coalesce(u.urls, e.{p}_urls),
    {p}_title = coalesce(e.{p}_title, f.title),
    meta = CASE WHEN s.also IS NULL THEN e.meta
                ELSE e.meta || jsonb_build_object('also',
                     coalesce(e.meta -> 'also', '[]') || s.also) END
FROM ranked_edge k
LEFT JOIN urls u ON u.keeper = k.id
LEFT JOIN said s ON s.keeper = k.id
LEFT JOIN fallback f ON f.keeper = k.id
WHERE k.rank = 1 AND e.id = k.id
