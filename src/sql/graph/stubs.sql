-- Edges of anime $1 whose target is not stored yet, of the types $2 (NULL: of all), at most $3.
SELECT * FROM (
    SELECT relation_type::text AS edge_type, 'anime' AS entity_type, to_title AS title,
           to_urls AS urls, to_ref_source AS ref_source, to_ref_external_id AS ref_external_id
      FROM anime_relation WHERE from_anime_id = $1 AND to_anime_id IS NULL
    UNION ALL
    SELECT graph_work_edge(relation_type), 'manga', manga_title, manga_urls, manga_ref_source,
           manga_ref_external_id
      FROM anime_manga_relation WHERE anime_id = $1 AND manga_id IS NULL
    UNION ALL
    SELECT graph_work_edge(relation_type), 'original_work', work_title, work_urls,
           work_ref_source, work_ref_external_id
      FROM anime_work_relation WHERE anime_id = $1 AND work_id IS NULL
) AS s
 WHERE $2::text[] IS NULL OR s.edge_type = ANY ($2::text[])
 ORDER BY s.edge_type COLLATE "C", s.title COLLATE "C", s.ref_source, s.ref_external_id LIMIT $3
