-- $1 run, $2 pack, $3 stream, then one array per column, $14 shape. A reject met again belongs to the
-- newest run and is open again unless somebody has acknowledged it.
INSERT INTO toolkit.reject AS r (run_id, pack, stream, output, source, locator, record_key,
    column_name, reason, detail, record, record_sha256, secret, shape)
SELECT DISTINCT ON (e.output, e.source, e.locator, e.record_sha256, e.reason)
    $1::uuid, $2, $3, e.output, e.source, e.locator, e.record_key, e.column_name, e.reason,
    e.detail, e.record, e.record_sha256, e.secret, $14
FROM unnest($4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
            $11::bytea[], $12::bytea[], $13::boolean[])
     AS e (output, source, locator, record_key, column_name, reason, detail, record,
           record_sha256, secret)
ON CONFLICT (pack, stream, output, source, locator, record_sha256, reason) DO UPDATE
SET run_id = EXCLUDED.run_id, detail = EXCLUDED.detail, record = EXCLUDED.record,
    record_key = EXCLUDED.record_key, column_name = EXCLUDED.column_name,
    shape = EXCLUDED.shape,
    state = CASE WHEN r.state = 'acknowledged' THEN r.state ELSE 'open' END
