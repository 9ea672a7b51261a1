-- Anime in which both appear: the row that stays keeps what the other said, which goes. $1 from,
-- $2 into. Returns each changed row as it was and as it is.
WITH both_there AS MATERIALIZED (
    SELECT mine.anime_id, to_jsonb(mine) AS mine, to_jsonb(theirs) AS theirs
    FROM anime_character mine
    JOIN anime_character theirs ON theirs.anime_id = mine.anime_id
                               AND theirs.character_id = $2::uuid
    WHERE mine.character_id = $1::uuid
    ORDER BY mine.anime_id
), gone AS (
    DELETE FROM anime_character l USING both_there b
    WHERE l.anime_id = b.anime_id AND l.character_id = $1::uuid
    RETURNING l.anime_id
), kept AS (
    UPDATE anime_character l
    SET role = coalesce(l.role, b.mine ->> 'role'),
        billing_order = least(l.billing_order, (b.mine ->> 'billing_order')::int),
        meta = l.meta || jsonb_build_object('merged',
                   coalesce(l.meta -> 'merged', '[]') || jsonb_build_array(b.mine - 'anime_id'))
    FROM both_there b
    WHERE l.anime_id = b.anime_id AND l.character_id = $2::uuid
    RETURNING l.anime_id, to_jsonb(l) AS after
)
SELECT 'anime_character' AS table_name, b.mine::text AS before, NULL AS after
FROM both_there b
UNION ALL
SELECT 'anime_character', b.theirs::text, k.after::text
FROM both_there b JOIN kept k USING (anime_id)
