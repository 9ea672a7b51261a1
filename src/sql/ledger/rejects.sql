-- Rejects, open ones first. $1 pack, $2 stream, $3 reason, $4 state, $5 id, $6 most rows;
-- NULL: all. The record itself only where $7.
SELECT id, run_id::text AS run_id, pack, stream, output, source, locator, record_key, column_name,
    reason, detail, CASE WHEN $7 THEN record END AS record,
    octet_length(record)::bigint AS record_bytes, encode(record_sha256, 'hex') AS record_sha256,
    secret, shape, state, created_at::text AS created_at
FROM toolkit.reject
WHERE ($1::text IS NULL OR pack = $1) AND ($2::text IS NULL OR stream = $2)
  AND ($3::text IS NULL OR reason = $3) AND ($4::text IS NULL OR state = $4)
  AND ($5::bigint IS NULL OR id = $5)
ORDER BY array_position(ARRAY['open', 'acknowledged', 'retried', 'resolved'], state), id
LIMIT $6::bigint
