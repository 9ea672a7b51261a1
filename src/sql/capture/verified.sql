-- How far a file was captured when the newest clean verification of the whole pack began.
-- $1 pack, $2 source, $3 installation
SELECT CASE WHEN facts -> 'captured' -> $2 ->> 'installation' = $3
            THEN (facts -> 'captured' -> $2 ->> 'position')::bigint END
FROM toolkit.evidence
WHERE pack = $1 AND kind = 'parity' AND facts @> '{"clean": true, "whole": true}'
ORDER BY id DESC
LIMIT 1
