-- Up to $1 rows that are due, from a place in the queue on ($2) and then from its start, so that
-- none waits behind entities that change all the time. Rows another worker has are passed over.
WITH after AS (
    SELECT entity_type, entity_id FROM public.qdrant_outbox
    WHERE processed_at IS NULL AND parked_at IS NULL
      AND (next_try_at IS NULL OR next_try_at <= clock_timestamp())
      AND entity_id >= $2::uuid
    ORDER BY entity_id
    LIMIT $1
    FOR UPDATE SKIP LOCKED
), before AS (
    SELECT entity_type, entity_id FROM public.qdrant_outbox
    WHERE processed_at IS NULL AND parked_at IS NULL
      AND (next_try_at IS NULL OR next_try_at <= clock_timestamp())
      AND entity_id < $2::uuid
      AND (SELECT count(*) FROM after) < $1
    ORDER BY entity_id
    LIMIT $1
    FOR UPDATE SKIP LOCKED
)
SELECT entity_type, entity_id::text FROM after
UNION
SELECT entity_type, entity_id::text FROM before
