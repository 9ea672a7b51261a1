-- The newest cut-off of each column by which retention removed rows. $1 pack
SELECT table_schema, table_name, column_name, max(cutoff)::text AS cutoff,
       (extract(epoch FROM max(cutoff) - '2000-01-01 00:00:00+00') * 1000000)::bigint
           AS cutoff_micros
FROM toolkit.retention_removed
WHERE pack = $1 AND rows > 0
GROUP BY table_schema, table_name, column_name
ORDER BY 1, 2, 3
