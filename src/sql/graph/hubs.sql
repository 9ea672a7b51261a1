-- The $1 nodes with most edges.
SELECT from_id AS id, count(*) AS edges FROM graph_edge
 GROUP BY from_id ORDER BY count(*) DESC, from_id LIMIT $1
