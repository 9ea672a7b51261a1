-- The newest backfill of a pack, if it is unfinished and has committed a chunk. $1 pack.
SELECT r.run_id::text AS run_id, r.settings::text AS settings, r.inputs::text AS inputs
FROM (SELECT * FROM toolkit.run WHERE pack = $1 AND command = 'backfill'
      ORDER BY started_at DESC LIMIT 1) AS r
WHERE r.status IN ('running', 'interrupted', 'failed')
  AND EXISTS (SELECT 1 FROM toolkit.chunk c WHERE c.run_id = r.run_id AND c.status = 'done')
