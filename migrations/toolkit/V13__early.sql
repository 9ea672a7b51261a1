-- Rows that were stored without a reference that is filled in later.
ALTER TABLE toolkit.held_row
    DROP CONSTRAINT held_row_state_check,
    ADD CONSTRAINT held_row_state_check
        CHECK (state IN ('waiting', 'refused', 'tied', 'early'));
