-- Ledger entries. $1 pack, $2 stream, $3 rule, $4 of rejects only, $5 id, $6 most rows; NULL: all.
-- The original itself only where $7.
SELECT id, run_id::text AS run_id, pack, stream, output, source, locator, record_key, column_name,
    rule, path, CASE WHEN $7 THEN original END AS original,
    octet_length(original)::bigint AS original_bytes, encode(original_hash, 'hex') AS original_hash,
    secret, encode(target_digest, 'hex') AS target_digest, created_at::text AS created_at
FROM toolkit.ledger
WHERE ($1::text IS NULL OR pack = $1) AND ($2::text IS NULL OR stream = $2)
  AND ($3::text IS NULL OR rule = $3) AND ($4::text IS NULL OR true)
  AND ($5::bigint IS NULL OR id = $5)
ORDER BY id
LIMIT $6::bigint
