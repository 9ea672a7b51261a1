-- Characters with their appearances and aliases; of a merged one, where it went. $1 ids.
SELECT w.id::text AS named, c.id::text AS id,
       (to_jsonb(c) - ARRAY['id', 'created_at', 'updated_at'])::text AS row,
       ARRAY(SELECT l.anime_id::text FROM anime_character l WHERE l.character_id = c.id)
           AS appears_in,
       ARRAY(SELECT a.alias FROM character_alias a WHERE a.character_id = c.id) AS aliases
FROM unnest($1::uuid[]) AS w (id)
JOIN character c ON c.id = canonical_character(w.id)
