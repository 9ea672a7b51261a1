-- Sessions of the whole server that work at this moment, but for the toolkit's own.
SELECT pg_catalog.count(*)
FROM pg_catalog.pg_stat_activity
WHERE backend_type = 'client backend' AND state IN ('active', 'fastpath function call')
  AND application_name NOT IN ('toolkit', 'toolkit watch')
