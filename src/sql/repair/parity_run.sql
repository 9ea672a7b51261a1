-- A stored verification by id, or the newest one for 'latest'. $1 run id or 'latest', $2 pack or
-- NULL for any.
SELECT run_id::text AS run_id, pack,
       coalesce((totals ->> 'encoding_version')::int, 0) AS encoding_version,
       coalesce((totals ->> 'differing_rows')::bigint, 0) AS differing_rows
FROM toolkit.parity_run
WHERE (run_id::text = $1 OR $1 = 'latest') AND ($2::text IS NULL OR pack = $2)
ORDER BY finished_at DESC
LIMIT 1
