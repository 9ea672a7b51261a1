-- Held rows of one output of one chunk, as many as fit into $8 bytes. A derived row waits until
-- its record's own row is stored. $1 run, $2 stream, $3 source, $4 chunk, $5 output, $6 state
-- ('all': those waiting, with those that wait for their record), $7 last id, $9 span.
SELECT id, record, element, file, locator, fields, nulled, reason, detail, position
FROM (
    SELECT h.*, sum(octet_length(h.fields) + 64) OVER (ORDER BY h.id) AS upto,
           row_number() OVER (ORDER BY h.id) AS nth
    FROM toolkit.held_row h
    WHERE h.run_id = $1::uuid AND h.stream = $2 AND h.source = $3 AND h.span = $9
      AND h.chunk_no = $4
      AND h.output = $5 AND ($6 = 'all' AND h.state = 'waiting' OR h.state = $6) AND h.id > $7
      AND (h.output = 0 OR $6 = 'all' OR NOT EXISTS (
          SELECT 1 FROM toolkit.held_row m
          WHERE m.run_id = h.run_id AND m.stream = h.stream AND m.source = h.source
            AND m.span = h.span AND m.chunk_no = h.chunk_no AND m.record = h.record AND m.output = 0
            AND m.state NOT IN ('tied', 'early')))
) AS page
WHERE upto <= $8 OR nth = 1
ORDER BY id
