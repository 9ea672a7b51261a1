SELECT count(*) FILTER (WHERE parked_at IS NULL),
       count(DISTINCT entity_id) FILTER (WHERE parked_at IS NULL),
       count(*) FILTER (WHERE parked_at IS NULL AND next_try_at > clock_timestamp()),
       count(*) FILTER (WHERE parked_at IS NOT NULL),
       (extract(epoch FROM clock_timestamp() - min(queued_at) FILTER (WHERE parked_at IS NULL)))::float8
FROM public.qdrant_outbox
WHERE processed_at IS NULL
