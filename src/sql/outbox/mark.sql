-- Rows $1 are settled. One that a worker has claimed but not got the entity of stays: it is
-- settled again, which changes nothing, instead of two workers waiting for each other.
UPDATE public.qdrant_outbox SET processed_at = clock_timestamp(), last_error = NULL,
    parked_at = NULL, next_try_at = NULL
WHERE id IN (
    SELECT id FROM public.qdrant_outbox
    WHERE id = ANY ($1) AND processed_at IS NULL FOR UPDATE SKIP LOCKED
)
