-- Up to $2 entities of each type that have a point and no row that waits, by id from $1 on.
(SELECT 'anime' AS entity_type, a.id::text FROM public.anime a
 WHERE a.id >= $1::uuid AND NOT EXISTS (
     SELECT FROM public.qdrant_outbox o WHERE o.entity_id = a.id AND o.processed_at IS NULL)
 ORDER BY a.id LIMIT $2)
UNION ALL
(SELECT 'episode', e.id::text FROM public.episode e
 WHERE e.id >= $1::uuid AND NOT EXISTS (
     SELECT FROM public.qdrant_outbox o WHERE o.entity_id = e.id AND o.processed_at IS NULL)
 ORDER BY e.id LIMIT $2)
UNION ALL
(SELECT 'character', c.id::text FROM public.character c
 WHERE c.id >= $1::uuid
   AND NOT EXISTS (SELECT FROM public.character_redirect r WHERE r.from_id = c.id)
   AND NOT EXISTS (
     SELECT FROM public.qdrant_outbox o WHERE o.entity_id = c.id AND o.processed_at IS NULL)
 ORDER BY c.id LIMIT $2)
