-- How fast the newest completed load of a pack was that nothing held back: run, records a second.
-- Gaps of more than ten seconds between two commits are pauses, or nights between two processes.
-- $1 pack.
SELECT r.run_id::text AS run,
    (s.rows / greatest(s.seconds, 0.001))::float8 AS rate
FROM toolkit.run r
CROSS JOIN LATERAL (
    SELECT sum(g.rows_read)::float8 AS rows, sum(least(g.gap, 10))::float8 AS seconds
    FROM (SELECT c.rows_read,
              extract(epoch FROM c.committed_at
                  - lag(c.committed_at, 1, r.started_at) OVER (ORDER BY c.committed_at)) AS gap
          FROM toolkit.chunk c
          WHERE c.run_id = r.run_id AND c.status = 'done') g
) s
WHERE r.pack = $1 AND r.command = 'backfill' AND r.status = 'completed'
  AND r.settings ->> 'throttle' IS NULL AND s.rows >= 1000
ORDER BY r.started_at DESC
LIMIT 1
