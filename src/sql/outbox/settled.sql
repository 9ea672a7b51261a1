-- Those of the entities $1 (types), $2 (ids) that have a point and no row that waits.
SELECT e.entity_type, e.id::text
FROM unnest($1::text[], $2::uuid[]) AS e (entity_type, id)
WHERE CASE e.entity_type
        WHEN 'anime' THEN EXISTS (SELECT FROM public.anime a WHERE a.id = e.id)
        WHEN 'episode' THEN EXISTS (SELECT FROM public.episode p WHERE p.id = e.id)
        ELSE EXISTS (SELECT FROM public.character c WHERE c.id = e.id)
            AND NOT EXISTS (SELECT FROM public.character_redirect r WHERE r.from_id = e.id)
    END
  AND NOT EXISTS (
    SELECT FROM public.qdrant_outbox o WHERE o.entity_id = e.id AND o.processed_at IS NULL)
