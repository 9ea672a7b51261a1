-- $1: ids.
SELECT e.id::text,
       jsonb_strip_nulls(jsonb_build_object(
           'entity_type', 'episode', 'anime_id', e.anime_id, 'title', e.title,
           'episode_number', e.episode_number, 'season_number', e.season_number,
           'filler', e.filler, 'recap', e.recap
       ))::text,
       concat_ws(E'\n', e.title, e.title_romaji, e.title_japanese),
       coalesce(e.synopsis, '')
FROM public.episode e
WHERE e.id = ANY ($1::uuid[])
