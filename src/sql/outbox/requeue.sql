-- The entities $1 (types), $2 (ids) are to be written again, or removed where they are no more.
INSERT INTO public.qdrant_outbox (entity_type, entity_id, op)
SELECT e.entity_type, e.id,
       CASE WHEN CASE e.entity_type
           WHEN 'anime' THEN EXISTS (SELECT FROM public.anime a WHERE a.id = e.id)
           WHEN 'character' THEN EXISTS (SELECT FROM public.character c WHERE c.id = e.id)
               AND NOT EXISTS (SELECT FROM public.character_redirect r WHERE r.from_id = e.id)
           ELSE EXISTS (SELECT FROM public.episode p WHERE p.id = e.id)
       END THEN 'upsert' ELSE 'delete' END
FROM unnest($1::text[], $2::uuid[]) AS e (entity_type, id)
