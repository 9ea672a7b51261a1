-- What nodes $1 and $2 are both connected with by the same type of edge, at most $3; of each side
-- the first $4 edges are looked at, in the order of the index, and merged.
WITH one AS (
    SELECT g.edge_type, g.to_id, g.to_type FROM graph_edge g WHERE g.from_id = $1
     ORDER BY g.edge_type, g.to_id LIMIT $4
), other AS (
    SELECT g.edge_type, g.to_id FROM graph_edge g WHERE g.from_id = $2
     ORDER BY g.edge_type, g.to_id LIMIT $4
)
SELECT DISTINCT ON (one.edge_type, one.to_id) one.edge_type, one.to_id, one.to_type
  FROM one JOIN other ON other.edge_type = one.edge_type AND other.to_id = one.to_id
 ORDER BY one.edge_type, one.to_id LIMIT $3
