-- What a stored verification named. $1 run id.
SELECT stream, target, kind, record_key::text AS record_key, column_name, source_value,
       target_value, encode(source_digest, 'hex') AS source_digest,
       encode(target_digest, 'hex') AS target_digest, locator,
       corrected
FROM toolkit.parity_difference
WHERE run_id = $1::uuid
ORDER BY id
