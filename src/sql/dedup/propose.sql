-- Candidates, newest score first known; what a person has decided stays. Arrays: one, other,
-- score, reasons.
INSERT INTO character_candidate AS k (one_id, other_id, score, reasons)
SELECT r.one::uuid, r.other::uuid, r.score, r.reasons::jsonb
FROM unnest($1::text[], $2::text[], $3::float8[], $4::text[]) AS r (one, other, score, reasons)
ON CONFLICT (one_id, other_id) DO UPDATE
SET score = EXCLUDED.score, reasons = EXCLUDED.reasons
WHERE k.state = 'open' AND (k.score, k.reasons) IS DISTINCT FROM (EXCLUDED.score, EXCLUDED.reasons)
