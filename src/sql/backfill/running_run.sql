-- The newest backfill of a pack, if it is running. $1 pack.
SELECT r.run_id::text AS run_id, r.settings::text AS settings, r.inputs::text AS inputs
FROM (SELECT * FROM toolkit.run WHERE pack = $1 AND command = 'backfill'
      ORDER BY started_at DESC LIMIT 1) AS r
WHERE r.status = 'running'
