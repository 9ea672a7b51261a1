-- $1 run, $2 pack, $3 stream, then one array per column.
INSERT INTO toolkit.ledger AS l (run_id, pack, stream, output, source, locator, column_name, rule,
    path, original, original_hash, secret, target_digest, entry_hash)
SELECT DISTINCT ON (e.entry_hash)
    $1::uuid, $2, $3, e.output, e.source, e.locator, nullif(e.column_name, ''), e.rule,
    nullif(e.path, ''), e.original, e.original_hash, e.secret, e.target_digest, e.entry_hash
FROM unnest($4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::bytea[],
            $11::bytea[], $12::boolean[], $13::bytea[], $14::bytea[])
     AS e (output, source, locator, column_name, rule, path, original, original_hash, secret,
           target_digest, entry_hash)
ON CONFLICT (pack, stream, entry_hash) DO UPDATE
SET run_id = EXCLUDED.run_id, rule = EXCLUDED.rule, target_digest = CASE
    WHEN l.rule = 'corrected_by_retry' THEN coalesce(EXCLUDED.target_digest, l.target_digest)
    ELSE EXCLUDED.target_digest END,
    original = coalesce(EXCLUDED.original, l.original)
