-- What waits for the entities $1, parked rows too: the newest state settles them all.
SELECT id, entity_type, entity_id::text, version
FROM public.qdrant_outbox
WHERE processed_at IS NULL AND entity_id = ANY ($1::uuid[])
