-- Rows $1 could not be settled for the reason $2: again later, 1 s to 1 h, or parked after $3 tries.
-- Without $3 it was no try of theirs: again in half a minute, and never parked.
UPDATE public.qdrant_outbox SET
    attempts = attempts + CASE WHEN $3::int IS NULL THEN 0 ELSE 1 END,
    last_error = $2,
    next_try_at = clock_timestamp() + make_interval(secs => CASE WHEN $3::int IS NULL THEN 30
        ELSE least(power(2, attempts), 3600) END),
    parked_at = CASE WHEN attempts + 1 >= $3::int THEN clock_timestamp() END
WHERE id IN (
    SELECT id FROM public.qdrant_outbox
    WHERE id = ANY ($1) AND processed_at IS NULL FOR UPDATE SKIP LOCKED
)
