-- Who holds the lock of a pack's tail. $1 pack.
WITH lock AS (SELECT hashtextextended('toolkit.tail.' || $1, 0) AS key)
SELECT l.pid AS backend_pid,
       coalesce(host(a.client_addr), 'this machine') AS client,
       (SELECT r.pid FROM toolkit.run r WHERE r.pack = $1 AND r.command = 'dual-write'
          AND r.status = 'running' AND r.settings ->> 'exclusive' = 'true' ORDER BY r.started_at DESC LIMIT 1) AS pid
FROM pg_catalog.pg_locks l
CROSS JOIN lock
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
  AND l.classid = ((lock.key >> 32) & 4294967295)::oid AND l.objid = (lock.key & 4294967295)::oid
LIMIT 1
