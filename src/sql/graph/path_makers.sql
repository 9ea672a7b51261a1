-- As what the anime $1 names the company $2, pair by pair: the first role of those in $3.
SELECT p.place, (SELECT g.edge_type FROM graph_edge g
                  WHERE g.from_id = p.anime_id AND g.to_id = p.company_id
                    AND g.edge_type = ANY ($3::text[])
                  ORDER BY g.edge_type LIMIT 1) AS edge_type
  FROM unnest($1::uuid[], $2::uuid[]) WITH ORDINALITY AS p(anime_id, company_id, place)
 ORDER BY p.place
