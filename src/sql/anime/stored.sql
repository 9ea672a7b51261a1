-- All that is stored of some anime, a row each, by kind. $1 ids.
SELECT a.id::text AS anime, 'anime' AS kind,
       (to_jsonb(a) - ARRAY['id', 'created_at', 'updated_at'])::text AS row
FROM anime a WHERE a.id = ANY($1::uuid[])
UNION ALL
SELECT e.anime_id::text, 'episode',
       (to_jsonb(e) - ARRAY['anime_id', 'created_at', 'updated_at'])::text
FROM episode e WHERE e.anime_id = ANY($1::uuid[])
UNION ALL
SELECT l.anime_id::text, 'link', (to_jsonb(l) - 'anime_id')::text
FROM anime_character l WHERE l.anime_id = ANY($1::uuid[])
UNION ALL
SELECT x.anime_id::text, 'xref', jsonb_build_object('source', x.source,
       'external_id', x.external_id, 'url', x.url)::text
FROM anime_xref x WHERE x.anime_id = ANY($1::uuid[])
UNION ALL
SELECT r.from_anime_id::text, 'anime_edge', jsonb_build_object('id', r.id,
       'relation', r.relation_type, 'title', r.to_title, 'urls', r.to_urls,
       'format', r.to_anime_type, 'source_relation_type', r.source_relation_type,
       'meta', r.meta)::text
FROM anime_relation r WHERE r.from_anime_id = ANY($1::uuid[])
UNION ALL
SELECT r.anime_id::text, 'manga_edge', jsonb_build_object('id', r.id,
       'relation', r.relation_type, 'title', r.manga_title, 'urls', r.manga_urls,
       'source_relation_type', r.source_relation_type, 'meta', r.meta)::text
FROM anime_manga_relation r WHERE r.anime_id = ANY($1::uuid[])
UNION ALL
SELECT r.anime_id::text, 'work_edge', jsonb_build_object('id', r.id,
       'relation', r.relation_type, 'title', r.work_title, 'urls', r.work_urls,
       'source_relation_type', r.source_relation_type, 'meta', r.meta)::text
FROM anime_work_relation r WHERE r.anime_id = ANY($1::uuid[])
