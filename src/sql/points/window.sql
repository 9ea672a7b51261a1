-- Entities with a point, by id: after $1 (or from the first), at most $3, none after $2.
SELECT e.entity_type, e.id::text
FROM (
    (SELECT 'anime' AS entity_type, id FROM public.anime
     WHERE ($1::uuid IS NULL OR id > $1::uuid) AND id <= $2::uuid ORDER BY id LIMIT $3)
    UNION ALL
    (SELECT 'character', id FROM public.character c
     WHERE ($1::uuid IS NULL OR id > $1::uuid) AND id <= $2::uuid
       AND NOT EXISTS (SELECT FROM public.character_redirect r WHERE r.from_id = c.id)
     ORDER BY id LIMIT $3)
    UNION ALL
    (SELECT 'episode', id FROM public.episode
     WHERE ($1::uuid IS NULL OR id > $1::uuid) AND id <= $2::uuid ORDER BY id LIMIT $3)
) e
ORDER BY e.id
LIMIT $3
