-- How many edges the nodes $1 have, at most $3, and those of them that lead to a node of $2; by node
-- (its place in $1, from 1). The CASE has $2 hashed once, whatever the planner expects of it.
SELECT count(*) AS visited,
       coalesce(array_agg(e.place) FILTER (WHERE e.is_met), '{}') AS places,
       coalesce(array_agg(e.edge_type) FILTER (WHERE e.is_met), '{}') AS edge_types,
       coalesce(array_agg(e.to_id) FILTER (WHERE e.is_met), '{}') AS to_ids,
       ARRAY[]::uuid[] AS vias
  FROM (SELECT n.*, CASE WHEN n.to_id IN (SELECT o.id FROM unnest($2::uuid[]) AS o(id))
                         THEN true ELSE false END AS is_met
          FROM (SELECT f.place, g.edge_type, g.to_id
                  FROM unnest($1::uuid[]) WITH ORDINALITY AS f(id, place)
                 CROSS JOIN LATERAL (
                    SELECT s.edge_type, s.to_id FROM graph_edge s WHERE s.from_id = f.id
                     ORDER BY s.edge_type, s.to_id LIMIT $3) AS g
                 LIMIT $3) AS n
        OFFSET 0) AS e
