-- As path_meet.sql, edges of the types $4 only, as path_step_typed.sql knows them.
SELECT count(*) AS visited,
       coalesce(array_agg(e.place) FILTER (WHERE e.is_met), '{}') AS places,
       coalesce(array_agg(e.edge_type) FILTER (WHERE e.is_met), '{}') AS edge_types,
       coalesce(array_agg(e.to_id) FILTER (WHERE e.is_met), '{}') AS to_ids,
       coalesce(array_agg(e.via) FILTER (WHERE e.is_met), '{}') AS vias
  FROM (SELECT n.*, CASE WHEN n.to_id IN (SELECT o.id FROM unnest($2::uuid[]) AS o(id))
                         THEN true ELSE false END AS is_met
          FROM (SELECT f.place, t.edge_type, g.to_id, g.via
                  FROM unnest($1::uuid[]) WITH ORDINALITY AS f(id, place)
                 CROSS JOIN unnest($4::text[]) AS t(edge_type)
                 CROSS JOIN LATERAL (
                    (SELECT s.to_id, NULL::uuid AS via FROM graph_edge s
                      WHERE s.from_id = f.id AND s.edge_type = t.edge_type
                      ORDER BY s.to_id LIMIT $3)
                    UNION ALL
                    (SELECT s.from_id, NULL FROM graph_edge s
                      WHERE s.edge_type IN ('studio', 'producer', 'licensor')
                        AND s.to_id = f.id AND s.edge_type = substr(t.edge_type, 2)
                        AND t.edge_type LIKE '<%'
                      ORDER BY s.from_id LIMIT $3)
                    UNION ALL
                    (SELECT back.from_id, there.to_id FROM graph_edge there
                       JOIN graph_edge back ON back.to_id = there.to_id AND back.edge_type = 'studio'
                      WHERE there.from_id = f.id AND there.edge_type = 'studio'
                        AND t.edge_type = 'same_studio' LIMIT $3)
                    UNION ALL
                    (SELECT back.to_id, there.to_id FROM graph_edge there
                       JOIN graph_edge back ON back.from_id = there.to_id AND back.edge_type = 'features'
                      WHERE there.from_id = f.id AND there.edge_type = 'appears_in'
                        AND t.edge_type = 'co_appears' LIMIT $3)) AS g
                 LIMIT $3) AS n
        OFFSET 0) AS e
