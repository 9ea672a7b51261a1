-- How $1 is connected with $2 itself, by the types $3.
SELECT DISTINCT g.edge_type FROM graph_edge g
 WHERE g.from_id = $1 AND g.edge_type = ANY ($3::text[]) AND g.to_id = $2 ORDER BY g.edge_type
