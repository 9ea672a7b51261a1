-- The nodes that the ids $1 stand for now, in their order: a character under the id it was merged
-- into. Known by an edge, or else by its own table; no type where there is none.
WITH wanted AS MATERIALIZED (
    SELECT i.place, canonical_character(i.id) AS id
      FROM unnest($1::uuid[]) WITH ORDINALITY AS i(id, place)
)
SELECT w.id, n.entity_type
  FROM wanted w
  LEFT JOIN LATERAL (
    SELECT a.entity_type
      FROM ((SELECT g.from_type AS entity_type, 0 AS rank FROM graph_edge g
              WHERE g.from_id = w.id ORDER BY g.edge_type LIMIT 1)
            UNION ALL SELECT 'anime', 1 FROM anime t WHERE t.id = w.id
            UNION ALL SELECT 'character', 2 FROM character t WHERE t.id = w.id
            UNION ALL SELECT 'episode', 3 FROM episode t WHERE t.id = w.id
            UNION ALL SELECT 'manga', 4 FROM manga t WHERE t.id = w.id
            UNION ALL SELECT 'original_work', 5 FROM original_work t WHERE t.id = w.id
            UNION ALL SELECT 'company', 6 FROM company t WHERE t.id = w.id) AS a
     ORDER BY a.rank LIMIT 1) AS n ON true
 ORDER BY w.place
