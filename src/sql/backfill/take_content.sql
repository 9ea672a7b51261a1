-- Notes that a run has met rows, and says how many of each it may find in place: those that were
-- there when it began and that it has not met before. $1 run, $2 unit, $3 digests, $4 how often.
WITH asked AS MATERIALIZED (
    SELECT a.digest, a.copies
    FROM unnest($3::bytea[], $4::int8[]) AS a (digest, copies)
), known AS MATERIALIZED (
    SELECT c.digest, a.copies, c.held - c.seen AS left_over
    FROM asked a
    JOIN toolkit.content_row c ON c.run_id = $1::uuid AND c.unit = $2 AND c.digest = a.digest
    ORDER BY c.digest
    FOR UPDATE OF c
), met AS (
    UPDATE toolkit.content_row c SET seen = c.seen + k.copies
    FROM known k
    WHERE c.run_id = $1::uuid AND c.unit = $2 AND c.digest = k.digest
)
SELECT digest, left_over FROM known WHERE left_over > 0
