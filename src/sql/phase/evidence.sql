-- Facts of one kind, newest first. $1 pack, $2 kind
SELECT id, run_id::text AS run_id,
       to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS at,
       facts::text AS facts, basis::text AS basis, expired_because
FROM toolkit.evidence
WHERE pack = $1 AND kind = $2
ORDER BY id DESC
LIMIT 200
