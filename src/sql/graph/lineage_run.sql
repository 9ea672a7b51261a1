-- What run $1 left behind: the run and the runs it came from, its steps, its report with the
-- questions, artifacts, workstreams, papers and index builds. At most $2 runs up and $3 rows.
WITH RECURSIVE ancestors AS (
    SELECT 0 AS depth, r.run_id, r.parent_run_id, r.status
      FROM workflow.run_records r
     WHERE r.run_id = $1::text AND r.record_kind IN ('run', 'report')
       AND NOT EXISTS (SELECT FROM workflow.run_records s
                        WHERE s.run_id = r.run_id AND s.record_kind = 'run'
                          AND r.record_kind = 'report')
    UNION ALL
    SELECT a.depth + 1, r.run_id, r.parent_run_id, r.status
      FROM ancestors a JOIN workflow.run_records r
        ON r.run_id = a.parent_run_id AND r.record_kind = 'run'
     WHERE a.depth < $2
) CYCLE run_id SET is_cycle USING trail,
tree AS (
    SELECT 0 AS rank, a.depth, CASE a.depth WHEN 0 THEN 'is' ELSE 'came_from' END AS relation,
           'run' AS kind, a.run_id AS id,
           CASE WHEN a.depth > 0 THEN lag(a.run_id) OVER (ORDER BY a.depth) END AS parent,
           a.status AS label,
           CASE WHEN a.is_cycle THEN 'cycle'
                WHEN a.parent_run_id IS NOT NULL AND NOT EXISTS (
                    SELECT FROM workflow.run_records r WHERE r.run_id = a.parent_run_id)
                    THEN 'parent is missing' END AS problem,
           '' AS place
      FROM ancestors a
    UNION ALL
    SELECT CASE r.record_kind WHEN 'step' THEN 1 WHEN 'report' THEN 2 WHEN 'question' THEN 3
                              WHEN 'artifact' THEN 4 ELSE 5 END,
           CASE r.record_kind WHEN 'question' THEN 2 WHEN 'artifact' THEN 2 ELSE 1 END,
           'has_' || r.record_kind, r.record_kind,
           CASE r.record_kind WHEN 'step' THEN r.step ELSE r.record_key END,
           CASE WHEN r.record_kind IN ('question', 'artifact') THEN 'main' ELSE r.run_id END,
           coalesce(CASE r.record_kind WHEN 'question' THEN r.question
                                       WHEN 'artifact' THEN r.artifact_path END, r.status),
           NULL, coalesce(to_char(r.started_at, 'YYYYMMDDHH24MISSUS'), '')
      FROM workflow.run_records r WHERE r.run_id = $1::text AND r.record_kind <> 'run'
    UNION ALL
    SELECT 6, 1, 'read_document', 'document', d.doc_id, d.run_id, d.path, NULL, ''
      FROM ingestion.run_documents d WHERE d.run_id = $1::text
    UNION ALL
    SELECT 7, 1, 'built_index', 'pipeline_run', p.id::text, p.workflow_run_id, p.embedding_model,
           NULL, ''
      FROM indexing.pipeline_runs p WHERE p.workflow_run_id = $1::text
)
SELECT depth, relation, kind, id, parent, label, problem
  FROM tree ORDER BY rank, depth, place, id COLLATE "C" LIMIT $3
