-- $1: ids. A merged character has no point of its own.
SELECT c.id::text,
       jsonb_strip_nulls(jsonb_build_object(
           'entity_type', 'character', 'name', c.name, 'name_native', c.name_native,
           'gender', c.gender, 'anime_ids', links.anime_ids
       ))::text,
       concat_ws(E'\n', c.name, c.name_native,
           (SELECT string_agg(l.alias, E'\n' ORDER BY l.alias COLLATE "C")
            FROM public.character_alias l WHERE l.character_id = c.id)),
       coalesce(c.description, '')
FROM public.character c
CROSS JOIN LATERAL (
    SELECT coalesce(jsonb_agg(l.anime_id ORDER BY l.anime_id), '[]') AS anime_ids
    FROM public.anime_character l WHERE l.character_id = c.id
) links
WHERE c.id = ANY ($1::uuid[])
  AND NOT EXISTS (SELECT FROM public.character_redirect r WHERE r.from_id = c.id)
