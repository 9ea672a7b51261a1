-- Who holds the advisory lock ($1, $2) of this database.
SELECT format('pid %s, user %s, application %s, connected since %s',
              l.pid,
              coalesce(a.usename::text, 'unknown'),
              coalesce(nullif(a.application_name, ''), 'unnamed'),
              coalesce(to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'),
                       'unknown'))
  FROM pg_catalog.pg_locks l
  LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
 WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
   AND l.classid = $1::int4::oid AND l.objid = $2::int4::oid
   AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
 LIMIT 1
