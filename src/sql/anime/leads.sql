-- Where edges of some anime lead, with the references of what they lead to. $1 ids.
SELECT 'anime' AS kind, r.id, r.to_ref_source AS ref_source, r.to_ref_external_id AS ref_id,
       r.to_anime_id::text AS target,
       ARRAY(SELECT x.source FROM anime_xref x WHERE x.anime_id = r.to_anime_id
             ORDER BY x.source) AS sources,
       ARRAY(SELECT x.external_id FROM anime_xref x WHERE x.anime_id = r.to_anime_id
             ORDER BY x.source) AS external_ids
FROM anime_relation r WHERE r.from_anime_id = ANY($1::uuid[])
UNION ALL
SELECT 'manga', r.id, r.manga_ref_source, r.manga_ref_external_id, r.manga_id::text,
       ARRAY(SELECT x.source FROM manga_xref x WHERE x.manga_id = r.manga_id ORDER BY x.source),
       ARRAY(SELECT x.external_id FROM manga_xref x WHERE x.manga_id = r.manga_id ORDER BY x.source)
FROM anime_manga_relation r WHERE r.anime_id = ANY($1::uuid[])
UNION ALL
SELECT 'work', r.id, r.work_ref_source, r.work_ref_external_id, r.work_id::text,
       ARRAY(SELECT x.source FROM original_work_xref x WHERE x.work_id = r.work_id
             ORDER BY x.source),
       ARRAY(SELECT x.external_id FROM original_work_xref x WHERE x.work_id = r.work_id
             ORDER BY x.source)
FROM anime_work_relation r WHERE r.anime_id = ANY($1::uuid[])
