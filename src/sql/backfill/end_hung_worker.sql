-- Ends sessions of other processes' workers that have hung for a lease and a half: their client
-- says nothing in the middle of a statement, so that no time limit of the server ends them, and
-- their transactions hold rows that whoever takes the chunk over needs. A process that goes on
-- after all finds its connection broken and its chunk taken.
-- $1 run, $2 stream, $3 source, $4 pattern of this process's own workers.
SELECT count(pg_terminate_backend(a.pid))
FROM toolkit.chunk c
JOIN pg_catalog.pg_locks l
  ON l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
 AND ((l.classid::bigint << 32) | l.objid::bigint)
     = hashtextextended('toolkit.worker.' || c.worker, 0)
 AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d
                   WHERE d.datname = current_database())
JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE c.run_id = $1::uuid AND c.stream = $2 AND c.source = $3 AND c.status = 'pending'
  AND c.worker NOT LIKE $4
  AND c.lease_until < clock_timestamp() - interval '30 seconds'
  AND a.wait_event = 'ClientRead'
  AND a.state_change < clock_timestamp() - interval '90 seconds'
