-- Several workers, in one process or several, copy one stream side by side.

-- A source is split into spans; each is a chain of chunks with a number of its own.
ALTER TABLE toolkit.chunk
    ADD COLUMN span integer NOT NULL DEFAULT 0,
    ADD COLUMN lease_until timestamptz,
    DROP CONSTRAINT chunk_pkey,
    ADD CONSTRAINT chunk_pkey PRIMARY KEY (run_id, stream, source, span, chunk_no);
COMMENT ON COLUMN toolkit.chunk.span IS
    'Which of the source''s ranges, fixed when the stream began, the chunk belongs to.';
COMMENT ON COLUMN toolkit.chunk.range_from IS
    'The record before the first one; NULL: the source''s beginning.';
COMMENT ON COLUMN toolkit.chunk.range_to IS
    'The last record: of the span while the chunk is pending, of the chunk once it is done; NULL: the source''s end.';
COMMENT ON COLUMN toolkit.chunk.worker IS
    'Who has a pending chunk, or who committed it.';
COMMENT ON COLUMN toolkit.chunk.lease_until IS
    'Until when a pending chunk is its worker''s, by this server''s clock; sooner free if the worker''s session ends.';

ALTER TABLE toolkit.run ADD COLUMN summary jsonb;
COMMENT ON COLUMN toolkit.run.summary IS
    'What the end of a run did: sequences moved, indexes built.';
