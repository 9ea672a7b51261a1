-- What episode $1 and $2 say of themselves, without what is kept as documents.
SELECT t.id, (to_jsonb(t) - ARRAY['id', 'meta', 'raw_by_source', 'created_at', 'updated_at'])::text
       AS scalars
  FROM episode t WHERE t.id = ANY (ARRAY[$1, $2]::uuid[])
