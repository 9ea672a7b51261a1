-- Edges from the nodes $1 to the nodes $2, by node (its place in $1, from 1) and type, the first of
-- each pair: every pair is asked for in the index, so that a hub costs no more than a leaf. OFFSET
-- keeps the planner from the primary key, which would read all edges of a hub.
SELECT f.place, e.edge_type, array_agg(t.id) AS to_ids, ARRAY[]::uuid[] AS vias
  FROM unnest($1::uuid[]) WITH ORDINALITY AS f(id, place)
 CROSS JOIN unnest($2::uuid[]) AS t(id)
 CROSS JOIN LATERAL (
    SELECT min(s.edge_type) AS edge_type
      FROM (SELECT g.from_id, g.to_id, g.edge_type FROM graph_edge g
             WHERE uuid_hash_extended(g.from_id, uuid_hash_extended(g.to_id, 0))
                   = uuid_hash_extended(f.id, uuid_hash_extended(t.id, 0))
            OFFSET 0) AS s
     WHERE s.from_id = f.id AND s.to_id = t.id) AS e
 WHERE e.edge_type IS NOT NULL
 GROUP BY f.place, e.edge_type ORDER BY f.place, e.edge_type
