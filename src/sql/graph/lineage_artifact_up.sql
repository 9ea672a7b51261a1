-- What artifact $1 was derived from, nearest first: at most $2 steps and $3 rows. A circle ends
-- where it closes and says so.
WITH RECURSIVE lineage AS (
    SELECT 0 AS depth, a.artifact_id, a.parent_id, a.type, a.version
      FROM webtoon.artifacts a WHERE a.artifact_id = $1::text::uuid
    UNION ALL
    SELECT l.depth + 1, a.artifact_id, a.parent_id, a.type, a.version
      FROM lineage l JOIN webtoon.artifacts a ON a.artifact_id = l.parent_id
     WHERE l.depth < $2
) CYCLE artifact_id SET is_cycle USING trail
SELECT depth, CASE depth WHEN 0 THEN 'is' ELSE 'derived_from' END AS relation,
       'artifact' AS kind, artifact_id::text AS id,
       lag(artifact_id) OVER (ORDER BY depth)::text AS parent,
       type || ' v' || version AS label,
       CASE WHEN is_cycle THEN 'cycle'
            WHEN depth >= $2 AND parent_id IS NOT NULL THEN 'depth limit' END AS problem
  FROM (SELECT depth, artifact_id, parent_id, type, version, is_cycle
          FROM lineage LIMIT $3) AS l ORDER BY depth
