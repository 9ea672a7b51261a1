-- Keeps a chunk for a worker that still has it.
-- $1 run, $2 stream, $3 source, $4 span, $5 chunk number, $6 worker, $7 lease in seconds.
UPDATE toolkit.chunk
SET lease_until = clock_timestamp() + make_interval(secs => $7)
WHERE run_id = $1::uuid AND stream = $2 AND source = $3 AND span = $4 AND chunk_no = $5
  AND status = 'pending' AND worker = $6
