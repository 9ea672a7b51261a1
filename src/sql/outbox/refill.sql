-- Every entity that has a point and no row that waits: for a collection that is about to be made.
INSERT INTO public.qdrant_outbox (entity_type, entity_id, op)
SELECT e.entity_type, e.id, 'upsert'
FROM (
    SELECT 'anime' AS entity_type, id FROM public.anime
    UNION ALL
    SELECT 'episode', id FROM public.episode
    UNION ALL
    SELECT 'character', c.id FROM public.character c
    WHERE NOT EXISTS (SELECT FROM public.character_redirect r WHERE r.from_id = c.id)
) AS e
WHERE NOT EXISTS (
    SELECT FROM public.qdrant_outbox o WHERE o.entity_id = e.id AND o.processed_at IS NULL
)
