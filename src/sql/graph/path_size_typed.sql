-- As path_size.sql, edges of the types $3 only, as path_step_typed.sql knows them.
SELECT count(*) AS edges, coalesce(max(e.place), 0) AS nodes
  FROM (SELECT f.place
          FROM unnest($1::uuid[]) WITH ORDINALITY AS f(id, place)
         CROSS JOIN unnest($3::text[]) AS t(edge_type)
         CROSS JOIN LATERAL (
            (SELECT s.to_id, NULL::uuid AS via FROM graph_edge s
              WHERE s.from_id = f.id AND s.edge_type = t.edge_type
              ORDER BY s.to_id LIMIT $2)
            UNION ALL
            (SELECT s.from_id, NULL FROM graph_edge s
              WHERE s.edge_type IN ('studio', 'producer', 'licensor')
                AND s.to_id = f.id AND s.edge_type = substr(t.edge_type, 2)
                AND t.edge_type LIKE '<%'
              ORDER BY s.from_id LIMIT $2)
            UNION ALL
            (SELECT back.from_id, there.to_id FROM graph_edge there
               JOIN graph_edge back ON back.to_id = there.to_id AND back.edge_type = 'studio'
              WHERE there.from_id = f.id AND there.edge_type = 'studio'
                AND t.edge_type = 'same_studio' LIMIT $2)
            UNION ALL
            (SELECT back.to_id, there.to_id FROM graph_edge there
               JOIN graph_edge back ON back.from_id = there.to_id AND back.edge_type = 'features'
              WHERE there.from_id = f.id AND there.edge_type = 'appears_in'
                AND t.edge_type = 'co_appears' LIMIT $2)) AS g
         LIMIT $2) AS e
