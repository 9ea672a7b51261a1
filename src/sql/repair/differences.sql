-- The differing rows of a verification, one line a row. $1 run id.
SELECT kind, target, stream, record_key::text AS record_key,
       coalesce(array_agg(column_name ORDER BY id) FILTER (WHERE column_name IS NOT NULL), '{}')
           AS columns,
       count(*) AS lines,
       encode(source_digest, 'hex') AS source_digest,
       encode(target_digest, 'hex') AS target_digest
FROM toolkit.parity_difference
WHERE run_id = $1::uuid
GROUP BY kind, target, stream, record_key, source_digest, target_digest
ORDER BY min(id)
