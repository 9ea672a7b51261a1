-- Locks a pending chunk that is still this worker's, of a run that goes on.
-- $1 run, $2 stream, $3 source, $4 span, $5 chunk number, $6 worker.
SELECT 1
FROM toolkit.chunk c
JOIN toolkit.run r USING (run_id)
WHERE c.run_id = $1::uuid AND c.stream = $2 AND c.source = $3 AND c.span = $4 AND c.chunk_no = $5
  AND c.status = 'pending' AND c.worker = $6 AND r.status = 'running'
FOR UPDATE OF c
