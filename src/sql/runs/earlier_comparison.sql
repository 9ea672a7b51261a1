-- How fast the newest comparison of a pack was that nothing held back: run, records a second.
-- $1 pack, $2 level.
SELECT p.run_id::text AS run,
    (s.records / greatest(extract(epoch FROM p.finished_at - p.started_at), 0.001))::float8 AS rate
FROM toolkit.parity_run p
CROSS JOIN LATERAL (
    SELECT sum((one ->> 'read')::float8) AS records
    FROM jsonb_array_elements(CASE jsonb_typeof(p.streams) WHEN 'array' THEN p.streams END) AS one
) s
WHERE p.pack = $1 AND p.level = $2 AND p.settings ->> 'throttle' IS NULL AND s.records >= 1000
ORDER BY p.finished_at DESC
LIMIT 1
