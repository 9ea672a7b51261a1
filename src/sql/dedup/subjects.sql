-- What is compared of characters. $1 ids.
SELECT c.id::text AS id, c.name, c.name_native, c.gender, c.age,
       coalesce(c.meta -> 'character_pages', '{}')::text AS pages,
       ARRAY(SELECT a.alias FROM character_alias a WHERE a.character_id = c.id) AS aliases,
       ARRAY(SELECT l.anime_id::text FROM anime_character l WHERE l.character_id = c.id
             ORDER BY l.anime_id) AS anime,
       ARRAY(SELECT coalesce(l.role, '') FROM anime_character l WHERE l.character_id = c.id
             ORDER BY l.anime_id) AS roles,
       ARRAY(SELECT DISTINCT r.to_anime_id::text FROM anime_character l
             JOIN anime_relation r ON r.from_anime_id = l.anime_id
             WHERE l.character_id = c.id AND r.to_anime_id IS NOT NULL) AS related
FROM character c WHERE c.id = ANY($1::uuid[])
