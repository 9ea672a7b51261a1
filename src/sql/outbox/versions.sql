-- The newest version of each of the entities $1 that has one.
SELECT entity_type, entity_id::text, max(version)
FROM public.qdrant_outbox
WHERE entity_id = ANY ($1::uuid[])
GROUP BY entity_type, entity_id
