-- Reviews with the names of what they are about. $1 state, $2 field, $3 anime, $4 number, each NULL
-- for all; $5 rows at most.
SELECT q.id, q.entity_type, q.entity_id::text AS entity_id, q.field, q.reason,
       q.before::text AS before, q.after::text AS after, q.state, q.decided_by,
       r.artifact_uri AS artifact, to_char(q.queued_at, 'YYYY-MM-DD HH24:MI:SS"Z"') AS queued_at,
       CASE q.entity_type
           WHEN 'anime' THEN (SELECT a.title FROM anime a WHERE a.id = q.entity_id)
           WHEN 'character' THEN (SELECT c.name FROM character c WHERE c.id = q.entity_id)
           ELSE (SELECT a.title || ' #' || e.episode_number
                 FROM episode e JOIN anime a ON a.id = e.anime_id WHERE e.id = q.entity_id)
       END AS label,
       count(*) OVER () AS total
FROM review_queue q LEFT JOIN ingestion_runs r ON r.id = q.run_id
WHERE ($1::text IS NULL OR q.state = $1)
  AND ($2::text IS NULL OR q.field = $2)
  AND ($3::uuid IS NULL OR q.anime_id = $3::uuid)
  AND ($4::bigint IS NULL OR q.id = $4)
ORDER BY q.id
LIMIT $5
