-- Rows that wait for others, and rows of tables without a key.

CREATE TABLE toolkit.held_row (
    id       bigserial CONSTRAINT held_row_pkey PRIMARY KEY,
    run_id   uuid NOT NULL CONSTRAINT held_row_run_id_fkey
             REFERENCES toolkit.run (run_id) ON DELETE CASCADE,
    pack     text NOT NULL,
    stream   text NOT NULL,
    source   text NOT NULL,
    span     integer NOT NULL,
    chunk_no bigint NOT NULL,
    output   integer NOT NULL,
    record   integer NOT NULL,
    element  integer NOT NULL,
    file     text NOT NULL,
    locator  text NOT NULL,
    fields   bytea NOT NULL,
    state    text NOT NULL DEFAULT 'waiting' CONSTRAINT held_row_state_check
             CHECK (state IN ('waiting', 'refused', 'tied')),
    nulled   integer[] NOT NULL DEFAULT '{}',
    reason   text,
    detail   text
);
CREATE INDEX held_row_run_idx ON toolkit.held_row (run_id, stream, source, span, chunk_no, id);
COMMENT ON TABLE toolkit.held_row IS
    'Rows of an unfinished run whose foreign keys lead to rows that may still come.';

CREATE TABLE toolkit.content_row (
    run_id uuid NOT NULL CONSTRAINT content_row_run_id_fkey
           REFERENCES toolkit.run (run_id) ON DELETE CASCADE,
    unit   text NOT NULL,
    digest bytea NOT NULL,
    held   bigint NOT NULL,
    seen   bigint NOT NULL DEFAULT 0,
    CONSTRAINT content_row_pkey PRIMARY KEY (run_id, unit, digest)
);
COMMENT ON TABLE toolkit.content_row IS
    'Of tables without a key: how often each row was there when a run began, and how often the '
    'run has met it since.';
