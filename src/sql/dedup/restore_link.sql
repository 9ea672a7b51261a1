-- A row of anime_character is what it was before, if it is what it was made then. $1 before,
-- $2 after, each NULL for none. Returns 1 if so.
WITH side AS (
    SELECT $1::jsonb AS before, $2::jsonb AS after
), gone AS (
    DELETE FROM anime_character l USING side s
    WHERE s.after IS NOT NULL AND l.anime_id = (s.after ->> 'anime_id')::uuid
      AND l.character_id = (s.after ->> 'character_id')::uuid AND to_jsonb(l) = s.after
      AND (s.before IS NULL OR s.before ->> 'character_id' <> s.after ->> 'character_id')
    RETURNING 1
), changed AS (
    UPDATE anime_character l
    SET role = r.role, billing_order = r.billing_order, meta = r.meta
    FROM side s CROSS JOIN LATERAL jsonb_populate_record(NULL::anime_character, s.before) AS r
    WHERE s.after IS NOT NULL AND l.anime_id = r.anime_id AND l.character_id = r.character_id
      AND s.before ->> 'character_id' = s.after ->> 'character_id' AND to_jsonb(l) = s.after
    RETURNING 1
), back AS (
    INSERT INTO anime_character
    SELECT r.* FROM side s
    CROSS JOIN LATERAL jsonb_populate_record(NULL::anime_character, s.before) AS r
    WHERE s.before IS NOT NULL
      AND (s.after IS NULL OR (SELECT count(*) FROM gone) = 1)
      AND EXISTS (SELECT FROM anime a WHERE a.id = r.anime_id)
    ON CONFLICT DO NOTHING
    RETURNING 1
)
SELECT CASE WHEN (SELECT before FROM side) IS NULL THEN (SELECT count(*) FROM gone)
            ELSE (SELECT count(*) FROM changed) + (SELECT count(*) FROM back) END
