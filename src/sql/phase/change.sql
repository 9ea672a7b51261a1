-- The state and its line of history, as one statement.
-- $1 pack, $2 new phase, $3 new route, $4 phase before, $5 kind, $6 OS user, $7 reason, $8 evidence
WITH changed AS (
    UPDATE toolkit.phase
    SET generation = generation + (phase <> $2 OR reads <> $3)::integer,
        entered_at = CASE WHEN phase = $2 THEN entered_at ELSE clock_timestamp() END,
        phase = $2,
        reads = $3
    WHERE pack = $1
    RETURNING generation
)
INSERT INTO toolkit.phase_transition
       (pack, from_phase, to_phase, kind, at, by, reason, generation, evidence)
SELECT $1, $4, $2, $5, clock_timestamp(), session_user || ' (' || $6 || ')', $7, generation,
       $8::jsonb
FROM changed
