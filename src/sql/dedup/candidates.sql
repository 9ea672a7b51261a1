-- Candidates with the names of both, and where they went if they were merged since. $1 state,
-- $2 number, each NULL for all; $3 rows at most.
SELECT k.id, k.one_id::text AS one_id, k.other_id::text AS other_id, one.name AS one_name,
       other.name AS other_name, k.score, k.reasons::text AS reasons, k.state, k.decided_by,
       (SELECT count(*) FROM anime_character l WHERE l.character_id = k.one_id) AS one_anime,
       (SELECT count(*) FROM anime_character l WHERE l.character_id = k.other_id) AS other_anime,
       (SELECT m.id FROM character_merge m WHERE m.candidate_id = k.id AND m.undone_at IS NULL
        ORDER BY m.id DESC LIMIT 1) AS merge_id,
       count(*) OVER () AS total
FROM character_candidate k
JOIN character one ON one.id = k.one_id
JOIN character other ON other.id = k.other_id
WHERE ($1::text IS NULL OR k.state = $1) AND ($2::bigint IS NULL OR k.id = $2)
ORDER BY k.score DESC, k.id
LIMIT $3
