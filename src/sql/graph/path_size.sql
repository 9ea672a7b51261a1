-- How many edges the nodes $1 have, at most $2, and at the how many-eth of them counting ended.
SELECT count(*) AS edges, coalesce(max(e.place), 0) AS nodes
  FROM (SELECT f.place
          FROM unnest($1::uuid[]) WITH ORDINALITY AS f(id, place)
         CROSS JOIN LATERAL (
            SELECT s.edge_type, s.to_id FROM graph_edge s WHERE s.from_id = f.id
             ORDER BY s.edge_type, s.to_id LIMIT $2) AS g
         LIMIT $2) AS e
