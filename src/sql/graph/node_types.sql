-- Of each node of $1 that has an edge, its type.
SELECT n.id, (SELECT g.from_type FROM graph_edge g WHERE g.from_id = n.id
                 ORDER BY g.edge_type LIMIT 1) AS entity_type
  FROM unnest($1::uuid[]) AS n(id)
