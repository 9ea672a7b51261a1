-- The obvious k_hop, for comparison only: every simple path with its own list of visited nodes;
-- caps come after it.
WITH RECURSIVE walk AS (
    SELECT $1::uuid AS id, 0 AS depth, ARRAY[$1::uuid] AS visited
    UNION ALL
    SELECT g.to_id, w.depth + 1, w.visited || g.to_id
      FROM walk w JOIN graph_edge g ON g.from_id = w.id
     WHERE w.depth < $2 AND g.to_id <> ALL (w.visited)
)
SELECT id, min(depth) AS depth FROM walk WHERE depth > 0 GROUP BY id ORDER BY min(depth), id
 LIMIT $3
