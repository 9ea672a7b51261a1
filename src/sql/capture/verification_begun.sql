-- How far a file was captured when the first verification began that has not ended yet.
-- $1 pack, $2 source, $3 installation
SELECT (facts -> 'captured' -> $2 ->> 'position')::bigint
FROM toolkit.evidence
WHERE pack = $1 AND kind = 'parity_begun'
  AND facts -> 'captured' -> $2 ->> 'installation' = $3
ORDER BY id
LIMIT 1
