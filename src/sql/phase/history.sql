-- $1 pack
SELECT id, from_phase, to_phase, kind,
       to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS at,
       by, reason, generation, evidence::text AS evidence
FROM toolkit.phase_transition
WHERE pack = $1
ORDER BY id
