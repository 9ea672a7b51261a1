-- Rows that failed: parked ones first.
SELECT id, entity_type, entity_id::text, version, attempts, parked_at IS NOT NULL,
       coalesce(last_error, ''), to_char(queued_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
FROM public.qdrant_outbox
WHERE processed_at IS NULL AND (attempts > 0 OR next_try_at IS NOT NULL)
ORDER BY parked_at IS NULL, id
LIMIT $1
