-- All edges of the nodes $1, at most $2 of each, by node (its place in $1, from 1) and type. As the
-- index has them: nothing is sorted.
SELECT f.place, g.edge_type, g.to_ids, ARRAY[]::uuid[] AS vias
  FROM unnest($1::uuid[]) WITH ORDINALITY AS f(id, place)
 CROSS JOIN LATERAL (
    SELECT e.edge_type, array_agg(e.to_id) AS to_ids
      FROM (SELECT s.edge_type, s.to_id FROM graph_edge s WHERE s.from_id = f.id
             ORDER BY s.edge_type, s.to_id LIMIT $2) AS e
     GROUP BY e.edge_type ORDER BY e.edge_type) AS g
