-- All names of $1 that $2 does not have become its aliases. Returns each.
WITH said AS (
    SELECT alias FROM character_alias WHERE character_id = $1::uuid
    UNION
    SELECT n.said FROM character c CROSS JOIN LATERAL (VALUES (c.name), (c.name_native)) AS n (said)
    WHERE c.id = $1::uuid
), added AS (
    INSERT INTO character_alias (character_id, alias)
    SELECT $2::uuid, alias FROM said
    -- An alias is part of a key; a B-tree takes no more than about 2.7 KB.
    WHERE alias <> '' AND octet_length(alias) <= 2000
      AND alias <> (SELECT name FROM character WHERE id = $2::uuid)
    ON CONFLICT DO NOTHING
    RETURNING to_jsonb(character_alias) AS after
)
SELECT 'character_alias' AS table_name, NULL AS before, after::text AS after FROM added
