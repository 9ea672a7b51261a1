-- Rejects that can be corrected and stored.

ALTER TABLE toolkit.reject
    ADD COLUMN shape text CONSTRAINT reject_shape_check CHECK (shape IN ('record', 'row')),
    ADD COLUMN corrected bytea,
    ADD COLUMN retried_by uuid;
COMMENT ON COLUMN toolkit.reject.shape IS
    'record: as the source has it; row: target columns as text, of a row that Postgres refused.';
COMMENT ON COLUMN toolkit.reject.corrected IS
    'What was stored in its place while it is in state retried, in the form of record.';
COMMENT ON COLUMN toolkit.reject.retried_by IS 'The run that stored it.';
CREATE INDEX reject_state_idx ON toolkit.reject (pack, stream, state);
