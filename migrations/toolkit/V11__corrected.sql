-- Where a refused record was stored corrected, the row that is expected is not the source's own.

ALTER TABLE toolkit.parity_difference ADD COLUMN corrected boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN toolkit.parity_difference.corrected IS
    'Whether source_value is a correction by `toolkit rejects retry`, in place of what the source holds.';
