-- Rows $1 could not be settled for the reason $2: again later, 1 s to 1 h, or parked after $3 tries.
UPDATE public.qdrant_outbox SET
    attempts = attempts + 1,
    last_error = $2,
    next_try_at = clock_timestamp() + make_interval(secs => least(power(2, attempts), 3600)),
    parked_at = CASE WHEN attempts + 1 >= $3 THEN clock_timestamp() END
WHERE id IN (
    SELECT id FROM public.qdrant_outbox
    WHERE id = ANY ($1) AND processed_at IS NULL FOR UPDATE SKIP LOCKED
)
