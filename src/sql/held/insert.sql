-- $1 run, $2 pack, $3 stream, $4 source, $5 chunk, $6 output, $12 span, $13 captured position, $14 state, then one array per column.
INSERT INTO toolkit.held_row (run_id, pack, stream, source, span, chunk_no, output, record,
    element, file, locator, fields, position,
    state)
SELECT $1::uuid, $2, $3, $4, $12, $5, $6, h.record, h.element, h.file, h.locator, h.fields, $13, $14
FROM unnest($7::int4[], $8::int4[], $9::text[], $10::text[], $11::bytea[])
     WITH ORDINALITY AS h (record, element, file, locator, fields, place)
ORDER BY h.place
