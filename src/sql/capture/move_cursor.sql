-- $1 pack, $2 source, $3 position, $4 mark, $5 newest entry, $6 changes, $7 rows,
-- $8 when the oldest entry that is left was written, in seconds.
UPDATE toolkit.capture_cursor
SET position = $3, mark = $4, captured = $5, changes = changes + $6, rows_applied = rows_applied + $7,
    waiting_since = to_timestamp($8), applied_at = now(), seen_at = now(), halted = NULL,
    last_error = NULL
WHERE pack = $1 AND source = $2
