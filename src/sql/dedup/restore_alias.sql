-- An alias that a merge added goes. $1 before (none), $2 after. Returns 1 if it was there.
WITH side AS (
    SELECT $1::jsonb AS before, $2::jsonb AS after
), gone AS (
    DELETE FROM character_alias a USING side s
    WHERE s.before IS NULL AND a.character_id = (s.after ->> 'character_id')::uuid
      AND a.alias = s.after ->> 'alias'
    RETURNING 1
)
SELECT count(*) FROM gone
