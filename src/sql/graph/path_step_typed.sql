-- As path_step.sql, edges of the types $3 only: same_studio and co_appears are two steps taken as
-- one; <studio, <producer and <licensor lead from a company back to what names it so.
SELECT e.place, e.edge_type, array_agg(e.to_id) AS to_ids, array_agg(e.via) AS vias
  FROM (SELECT f.place, n.edge_type, n.to_id, n.via
          FROM unnest($1::uuid[]) WITH ORDINALITY AS f(id, place)
         CROSS JOIN LATERAL (
            SELECT t.edge_type, g.to_id, g.via
              FROM unnest($3::text[]) AS t(edge_type)
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
                   JOIN graph_edge back
                     ON back.from_id = there.to_id AND back.edge_type = 'features'
                  WHERE there.from_id = f.id AND there.edge_type = 'appears_in'
                    AND t.edge_type = 'co_appears' LIMIT $2)) AS g
             LIMIT $2) AS n) AS e
 GROUP BY e.place, e.edge_type ORDER BY e.place, e.edge_type
