-- Ledger entries. $1 pack, $2 stream, $3 rule, $4 id, $5 most rows; NULL: all. The original itself
-- only where $6.
SELECT id, run_id::text AS run_id, pack, stream, output, source, locator, record_key, column_name,
    rule, path, CASE WHEN $6 THEN original END AS original,
    octet_length(original)::bigint AS original_bytes, encode(original_hash, 'hex') AS original_hash,
    secret, encode(target_digest, 'hex') AS target_digest, created_at::text AS created_at
FROM toolkit.ledger
WHERE ($1::text IS NULL OR pack = $1) AND ($2::text IS NULL OR stream = $2)
  AND ($3::text IS NULL OR rule = $3) AND ($4::bigint IS NULL OR id = $4)
ORDER BY id
LIMIT $5::bigint
