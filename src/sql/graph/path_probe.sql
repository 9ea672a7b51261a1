-- Edges from the nodes $1 to the nodes $2, by node (its place in $1, from 1) and type, the first of
-- each pair: every pair is asked for in the index, so that a hub costs no more than a leaf.
SELECT f.place, e.edge_type, array_agg(t.id) AS to_ids, ARRAY[]::uuid[] AS vias
  FROM unnest($1::uuid[]) WITH ORDINALITY AS f(id, place)
 CROSS JOIN unnest($2::uuid[]) AS t(id)
 CROSS JOIN LATERAL (
    SELECT g.edge_type FROM graph_edge g WHERE g.from_id = f.id AND g.to_id = t.id
     ORDER BY g.edge_type LIMIT 1) AS e
 GROUP BY f.place, e.edge_type ORDER BY f.place, e.edge_type
