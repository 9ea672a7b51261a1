-- Parked and waiting rows are due again; $1: only these rows, or NULL.
UPDATE public.qdrant_outbox SET attempts = 0, parked_at = NULL, next_try_at = NULL
WHERE processed_at IS NULL AND (parked_at IS NOT NULL OR next_try_at IS NOT NULL)
  AND ($1::bigint[] IS NULL OR id = ANY ($1))
