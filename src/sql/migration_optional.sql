-- Which optional parts of the server the migrated schemas use.
SELECT 'vector' AS name,
       t.typname = 'vector' AS used,
       CASE
           WHEN t.typname = 'vector' THEN 'indexing.vectors.embedding is vector '
                || coalesce((SELECT extversion FROM pg_catalog.pg_extension
                              WHERE extname = 'vector'), '')
           WHEN EXISTS (SELECT FROM pg_catalog.pg_available_extensions WHERE name = 'vector')
                THEN 'indexing.vectors.embedding is real[]: the extension is there but could not '
                     'be created when the table was'
           ELSE 'indexing.vectors.embedding is real[]: the server does not have the extension'
       END AS state
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
 WHERE a.attrelid = to_regclass('indexing.vectors') AND a.attname = 'embedding'
UNION ALL
-- Through jsonb, since pg_attribute has no attcompression before PostgreSQL 14.
SELECT 'lz4',
       to_jsonb(a) ->> 'attcompression' = 'l' IS TRUE,
       CASE
           WHEN to_jsonb(a) ->> 'attcompression' = 'l' THEN 'wide columns are compressed with lz4'
           ELSE 'wide columns have the default compression: the server has no lz4'
       END
  FROM pg_catalog.pg_attribute a
 WHERE a.attrelid = to_regclass('workflow.run_records') AND a.attname = 'payload_json'
