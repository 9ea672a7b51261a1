-- For each node of $1 another of its type: the next by id.
SELECT r.id AS a, n.id AS b FROM unnest($1::uuid[]) WITH ORDINALITY AS r(id, place)
 CROSS JOIN LATERAL (SELECT g.from_type FROM graph_edge g WHERE g.from_id = r.id
                     ORDER BY g.edge_type LIMIT 1) AS t
 CROSS JOIN LATERAL (SELECT g.from_id AS id FROM graph_edge g
                      WHERE g.from_id > r.id AND g.from_type = t.from_type
                      ORDER BY g.from_id LIMIT 1) AS n
 ORDER BY r.place
