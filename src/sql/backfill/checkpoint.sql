-- Marks a pending chunk done, and leaves the rest of its span to the same worker.
-- $1 run, $2 stream, $3 source, $4 chunk number, $5 next position (NULL: the span is done),
-- $6 mode, $7 counts, $8 digest, $9 records read, $10 encoded bytes, $11 span, $12 lease in seconds.
WITH pending AS (
    SELECT range_to, worker FROM toolkit.chunk
    WHERE run_id = $1::uuid AND stream = $2 AND source = $3 AND span = $11 AND chunk_no = $4
), rest AS (
    INSERT INTO toolkit.chunk (run_id, stream, source, span, chunk_no, range_from, range_to, worker,
        lease_until)
    SELECT $1::uuid, $2, $3, $11, $4 + 1, $5::jsonb, p.range_to, p.worker,
           clock_timestamp() + make_interval(secs => $12)
    FROM pending p WHERE $5 IS NOT NULL
)
UPDATE toolkit.chunk
SET status = 'done', range_to = coalesce($5::jsonb, range_to), mode = $6, counts = $7::jsonb,
    digest = $8, rows_read = $9, bytes_read = $10, committed_at = now(), lease_until = NULL
WHERE run_id = $1::uuid AND stream = $2 AND source = $3 AND span = $11 AND chunk_no = $4
