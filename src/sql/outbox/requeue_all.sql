-- Every entity that has a point, and every merged character, which must have none.
INSERT INTO public.qdrant_outbox (entity_type, entity_id, op)
SELECT 'anime', id, 'upsert' FROM public.anime
UNION ALL
SELECT 'episode', id, 'upsert' FROM public.episode
UNION ALL
SELECT 'character', c.id, 'upsert' FROM public.character c
WHERE NOT EXISTS (SELECT FROM public.character_redirect r WHERE r.from_id = c.id)
UNION ALL
SELECT 'character', r.from_id, 'delete' FROM public.character_redirect r
