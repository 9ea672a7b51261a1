-- What became of paper $1: the runs that read it, and its chunks with their vectors. At most $3
-- rows; $2, steps, is met by what there is.
SELECT depth, relation, kind, id, parent, label, problem FROM (
    SELECT 0 AS rank, 0 AS depth, 'is' AS relation, 'document' AS kind, d.doc_id AS id,
           NULL AS parent, coalesce(d.title, d.path) AS label, NULL AS problem, 0::bigint AS place
      FROM ingestion.documents d WHERE d.doc_id = $1::text
    UNION ALL
    SELECT 1, 1, 'read_by', 'run', r.run_id, r.doc_id, r.path, NULL, 0
      FROM ingestion.run_documents r WHERE r.doc_id = $1::text
    UNION ALL
    SELECT 2, 1, 'has_chunk', 'chunk', v.chunk_id, v.doc_id, 'page ' || v.page, NULL, v.id
      FROM indexing.vectors v WHERE v.doc_id = $1::text
    UNION ALL
    SELECT 3, 2, 'has_vector', 'vector', v.id::text, v.chunk_id,
           coalesce('index build ' || v.pipeline_run_id, ''),
           CASE WHEN v.embedding IS NULL THEN 'no embedding' END, v.id
      FROM indexing.vectors v WHERE v.doc_id = $1::text
) AS t WHERE depth <= $2 ORDER BY rank, place, id COLLATE "C" LIMIT $3
