-- $1: ids. Names a line each; of meta's lists the texts: nothing else is filtered by, and a list may
-- hold numbers that no store's payload can.
SELECT a.id::text,
       jsonb_strip_nulls(jsonb_build_object(
           'entity_type', 'anime', 'anime_id', a.id, 'title', a.title,
           'type', a.type, 'status', a.status, 'rating', a.rating, 'season', a.season,
           'year', a.year, 'nsfw', a.nsfw, 'episode_count', a.episode_count,
           'genres', CASE jsonb_typeof(a.meta -> 'genres') WHEN 'array'
               THEN jsonb_path_query_array(a.meta, 'strict $.genres[*] ? (@.type() == "string")') END,
           'tags', CASE jsonb_typeof(a.meta -> 'tags') WHEN 'array'
               THEN jsonb_path_query_array(a.meta, 'strict $.tags[*] ? (@.type() == "string")') END
       ))::text,
       concat_ws(E'\n', a.title, a.title_english, a.title_japanese,
           (SELECT string_agg(s.name, E'\n' ORDER BY s.place)
            FROM jsonb_array_elements_text(CASE jsonb_typeof(a.meta -> 'synonyms')
                WHEN 'array' THEN a.meta -> 'synonyms' ELSE '[]' END)
                WITH ORDINALITY AS s(name, place))),
       coalesce(a.synopsis, '')
FROM public.anime a
WHERE a.id = ANY ($1::uuid[])
