-- The first chunk of every span. $1 run, $2 stream, $3 source, $4 where spans begin, $5 where they
-- end, as arrays of positions.
INSERT INTO toolkit.chunk (run_id, stream, source, span, chunk_no, range_from, range_to)
SELECT $1::uuid, $2, $3, s.n - 1, 0, s.range_from::jsonb, s.range_to::jsonb
FROM unnest($4::text[], $5::text[]) WITH ORDINALITY AS s (range_from, range_to, n)
