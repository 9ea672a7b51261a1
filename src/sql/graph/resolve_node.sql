-- The node that $1 stands for now, of type $2 where that is given: a character under the id it was
-- merged into. Known by an edge, or else by its own table.
WITH wanted AS MATERIALIZED (SELECT canonical_character($1) AS id)
SELECT w.id, n.entity_type
  FROM wanted w
 CROSS JOIN LATERAL (
    (SELECT g.from_type AS entity_type, 0 AS rank FROM graph_edge g WHERE g.from_id = w.id LIMIT 1)
    UNION ALL SELECT 'anime', 1 FROM anime t WHERE t.id = w.id
    UNION ALL SELECT 'character', 2 FROM character t WHERE t.id = w.id
    UNION ALL SELECT 'episode', 3 FROM episode t WHERE t.id = w.id
    UNION ALL SELECT 'manga', 4 FROM manga t WHERE t.id = w.id
    UNION ALL SELECT 'original_work', 5 FROM original_work t WHERE t.id = w.id
    UNION ALL SELECT 'company', 6 FROM company t WHERE t.id = w.id
 ) AS n
 ORDER BY n.rank LIMIT 1
