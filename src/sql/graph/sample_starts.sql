-- For each of the random ids $1 the next node that has an edge, by id.
SELECT n.id FROM unnest($1::uuid[]) WITH ORDINALITY AS r(id, place)
 CROSS JOIN LATERAL (SELECT g.from_id AS id FROM graph_edge g WHERE g.from_id >= r.id
                      ORDER BY g.from_id LIMIT 1) AS n
 ORDER BY r.place
