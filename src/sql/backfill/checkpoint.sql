-- Marks a pending chunk done. $1 run, $2 stream, $3 source, $4 chunk number, $5 next position,
-- $6 mode, $7 counts, $8 digest, $9 records read, $10 encoded bytes.
UPDATE toolkit.chunk
SET status = 'done', range_to = $5::jsonb, mode = $6, counts = $7::jsonb, digest = $8,
    rows_read = $9, bytes_read = $10, committed_at = now(),
    worker = pg_backend_pid()::text
WHERE run_id = $1::uuid AND stream = $2 AND source = $3 AND chunk_no = $4
