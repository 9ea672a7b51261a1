-- Edges from the nodes $1 to the nodes $2, by node (its place in $1, from 1) and type: each pair is
-- asked for in the index, by the few types that edges of a node have, so that a hub costs no more
-- than a leaf.
SELECT f.place, k.edge_type, array_agg(e.to_id ORDER BY e.to_id) AS to_ids, ARRAY[]::uuid[] AS vias
  FROM unnest($1::uuid[]) WITH ORDINALITY AS f(id, place)
 CROSS JOIN LATERAL (
    WITH RECURSIVE kinds AS (
        (SELECT g.edge_type FROM graph_edge g WHERE g.from_id = f.id
          ORDER BY g.edge_type LIMIT 1)
        UNION ALL
        SELECT next.edge_type
          FROM kinds
         CROSS JOIN LATERAL (
            SELECT g.edge_type FROM graph_edge g
             WHERE g.from_id = f.id AND g.edge_type > kinds.edge_type
             ORDER BY g.edge_type LIMIT 1) AS next
    )
    SELECT kinds.edge_type FROM kinds) AS k
 CROSS JOIN unnest($2::uuid[]) AS t(id)
 CROSS JOIN LATERAL (
    SELECT g.to_id FROM graph_edge g
     WHERE g.from_id = f.id AND g.edge_type = k.edge_type AND g.to_id = t.id LIMIT 1) AS e
 GROUP BY f.place, k.edge_type ORDER BY f.place, k.edge_type
