-- $1 run, then one array per column.
INSERT INTO toolkit.parity_difference (run_id, stream, target, kind, record_key, column_name,
    source_value, target_value, source_digest, target_digest, locator, corrected)
SELECT $1::uuid, d.stream, d.target, d.kind, d.record_key::jsonb, d.column_name, d.source_value,
       d.target_value, decode(d.source_digest, 'hex'), decode(d.target_digest, 'hex'), d.locator,
       d.corrected
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
            $9::text[], $10::text[], $11::text[], $12::bool[])
     AS d (stream, target, kind, record_key, column_name, source_value, target_value,
           source_digest, target_digest, locator, corrected)
