-- What was derived from artifact $1, nearest first: at most $2 steps and $3 rows.
WITH RECURSIVE lineage AS (
    SELECT 0 AS depth, a.artifact_id, NULL::uuid AS parent_id, a.type, a.version
      FROM webtoon.artifacts a WHERE a.artifact_id = $1::text::uuid
    UNION ALL
    SELECT l.depth + 1, a.artifact_id, a.parent_id, a.type, a.version
      FROM lineage l JOIN webtoon.artifacts a ON a.parent_id = l.artifact_id
     WHERE l.depth < $2
) CYCLE artifact_id SET is_cycle USING trail
SELECT l.depth, CASE l.depth WHEN 0 THEN 'is' ELSE 'derived' END AS relation,
       'artifact' AS kind, l.artifact_id::text AS id, l.parent_id::text AS parent,
       l.type || ' v' || l.version AS label,
       CASE WHEN l.is_cycle THEN 'cycle'
            WHEN l.depth >= $2 AND EXISTS (SELECT FROM webtoon.artifacts a
                                            WHERE a.parent_id = l.artifact_id)
                THEN 'depth limit' END AS problem
  FROM (SELECT depth, artifact_id, parent_id, type, version, is_cycle
          FROM lineage LIMIT $3) AS l ORDER BY l.depth, l.artifact_id
