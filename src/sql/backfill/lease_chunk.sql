-- Takes a pending chunk that nobody has: never leased, its lease expired, or its worker's session
-- gone. A worker's session holds an advisory lock on the worker's name.
-- $1 run, $2 stream, $3 source, $4 worker, $5 lease in seconds.
WITH alive AS (
    SELECT (l.classid::bigint << 32) | l.objid::bigint AS name
    FROM pg_catalog.pg_locks l
    WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
      AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d
                        WHERE d.datname = current_database())
), free AS (
    SELECT c.span, c.chunk_no, c.worker IS NOT NULL AND c.worker <> $4 AS was_anothers
    FROM toolkit.chunk c
    JOIN toolkit.run r USING (run_id)
    WHERE c.run_id = $1::uuid AND c.stream = $2 AND c.source = $3 AND c.status = 'pending'
      AND r.status = 'running'
      AND (c.lease_until IS NULL OR c.worker = $4 OR c.lease_until < clock_timestamp()
           OR hashtextextended('toolkit.worker.' || c.worker, 0) NOT IN (SELECT name FROM alive))
    ORDER BY c.span, c.chunk_no
    FOR UPDATE OF c SKIP LOCKED
    LIMIT 1
)
UPDATE toolkit.chunk c
SET worker = $4, lease_until = clock_timestamp() + make_interval(secs => $5)
FROM free f
WHERE c.run_id = $1::uuid AND c.stream = $2 AND c.source = $3 AND c.span = f.span
  AND c.chunk_no = f.chunk_no
RETURNING c.span, c.chunk_no, c.range_from::text AS range_from, c.range_to::text AS range_to,
    f.was_anothers
