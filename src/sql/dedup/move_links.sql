-- Appearances of $1 become those of $2. Returns each as it was and as it is.
WITH moved AS (
    UPDATE anime_character SET character_id = $2::uuid WHERE character_id = $1::uuid
    RETURNING to_jsonb(anime_character) AS after
)
SELECT 'anime_character' AS table_name,
       (after || jsonb_build_object('character_id', $1::uuid))::text AS before,
       after::text AS after
FROM moved
