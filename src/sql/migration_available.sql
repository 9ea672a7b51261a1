-- Which optional parts this server offers to migrations that are still to come.
SELECT 'vector' AS name,
       offered,
       CASE WHEN offered THEN 'the server has the extension: embeddings become vector'
            ELSE 'the server does not have the extension: embeddings become real[]' END
  FROM (SELECT EXISTS (SELECT FROM pg_catalog.pg_available_extensions
                        WHERE name = 'vector') AS offered) AS vector
UNION ALL
SELECT 'lz4',
       offered,
       CASE WHEN offered THEN 'the server has it: wide columns will be compressed with lz4'
            ELSE 'the server does not have it: wide columns keep the default compression' END
  FROM (SELECT EXISTS (SELECT FROM pg_catalog.pg_settings
                        WHERE name = 'default_toast_compression'
                          AND 'lz4' = ANY (enumvals)) AS offered) AS lz4
