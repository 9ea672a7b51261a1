-- Changes captured in the sources, and how far they are applied.

ALTER TABLE toolkit.capture_cursor RENAME COLUMN installation_id TO installation;
ALTER TABLE toolkit.capture_cursor
    ADD COLUMN path text,
    ADD COLUMN tables jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN mark text,
    ADD COLUMN captured bigint NOT NULL DEFAULT 0,
    ADD COLUMN waiting_since timestamptz,
    ADD COLUMN seen_at timestamptz,
    ADD COLUMN changes bigint NOT NULL DEFAULT 0,
    ADD COLUMN rows_applied bigint NOT NULL DEFAULT 0,
    ADD COLUMN halted text,
    ADD COLUMN last_error text,
    ADD COLUMN last_error_at timestamptz,
    ADD COLUMN gap text,
    ADD COLUMN gap_at timestamptz,
    ADD COLUMN enabled_at timestamptz NOT NULL DEFAULT now();
COMMENT ON TABLE toolkit.capture_cursor IS
    'One row per captured SQLite file: what is captured, and how far it is applied. Lag in rows: captured - position.';
COMMENT ON COLUMN toolkit.capture_cursor.installation IS
    'The random id that is also in the file''s toolkit_capture_state.';
COMMENT ON COLUMN toolkit.capture_cursor.position IS
    'The last entry of the file''s toolkit_capture_log that is applied; moved with the rows it covers.';
COMMENT ON COLUMN toolkit.capture_cursor.mark IS
    'When that entry was written, as the log says: another one at its place is another history.';
COMMENT ON COLUMN toolkit.capture_cursor.captured IS 'The newest entry that was seen.';
COMMENT ON COLUMN toolkit.capture_cursor.waiting_since IS
    'When the oldest entry that is not applied was written; NULL: none was seen.';
COMMENT ON COLUMN toolkit.capture_cursor.tables IS
    'The captured tables as they were when capture was enabled.';
COMMENT ON COLUMN toolkit.capture_cursor.halted IS
    'Why nothing of this file is applied until somebody acts; NULL: it is not halted.';
COMMENT ON COLUMN toolkit.capture_cursor.gap IS
    'Changes that may have been missed, until a backfill that began later has ended.';

CREATE TABLE toolkit.capture_applied (
    pack     text NOT NULL,
    stream   text NOT NULL,
    source   text NOT NULL,
    place    text NOT NULL,
    position bigint NOT NULL,
    CONSTRAINT capture_applied_pkey PRIMARY KEY (pack, stream, place, source)
);
COMMENT ON TABLE toolkit.capture_applied IS
    'Records and keys that were applied while a backfill is unfinished: its older history leaves them alone.';

CREATE TABLE toolkit.capture_held (
    pack     text NOT NULL,
    stream   text NOT NULL,
    source   text NOT NULL,
    kind     text NOT NULL CONSTRAINT capture_held_kind_check CHECK (kind IN ('row', 'delete')),
    place    text NOT NULL,
    output   integer NOT NULL DEFAULT 0,
    fields   bytea,
    identity jsonb,
    reason   text NOT NULL,
    detail   text NOT NULL,
    judged   boolean NOT NULL DEFAULT false,
    since    timestamptz NOT NULL DEFAULT now(),
    tried_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT capture_held_pkey PRIMARY KEY (pack, stream, source, kind, place)
);
COMMENT ON COLUMN toolkit.capture_held.judged IS
    'Nothing that is captured so far helps it: a row is a reject, too, for as long as it is here.';
COMMENT ON TABLE toolkit.capture_held IS
    'Captured changes that other rows of the target are in the way of; tried again after later changes.';

CREATE TABLE toolkit.capture_file (
    pack        text NOT NULL,
    source      text NOT NULL,
    streams     text[] NOT NULL DEFAULT '{}',
    sha256      text NOT NULL,
    size_bytes  bigint NOT NULL,
    modified_ns bigint NOT NULL,
    position    bigint NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT now(),
    vanished_at timestamptz,
    problem     text,
    CONSTRAINT capture_file_pkey PRIMARY KEY (pack, source)
);
COMMENT ON TABLE toolkit.capture_file IS
    'The JSON and CSV files of a pack as they were applied last.';

CREATE TABLE toolkit.capture_file_row (
    pack   text NOT NULL,
    source text NOT NULL,
    stream text NOT NULL,
    output integer NOT NULL,
    key    bytea NOT NULL,
    fields bytea NOT NULL,
    owns   boolean NOT NULL DEFAULT true,
    CONSTRAINT capture_file_row_pkey PRIMARY KEY (pack, stream, output, key, source)
);
CREATE INDEX capture_file_row_source_idx ON toolkit.capture_file_row (pack, source);
COMMENT ON COLUMN toolkit.capture_file_row.owns IS
    'The target holds this file''s row under the key, not another file''s.';
COMMENT ON TABLE toolkit.capture_file_row IS
    'The keys of the rows that each file yields, so that what vanishes from it is found.';
CREATE SEQUENCE toolkit.capture_file_position;

ALTER TABLE toolkit.held_row ADD COLUMN position bigint;
COMMENT ON COLUMN toolkit.held_row.position IS
    'How far changes were captured when the row was read; NULL: they are not.';
ALTER TABLE toolkit.reject ADD COLUMN met_during uuid;
COMMENT ON COLUMN toolkit.reject.met_during IS
    'The unfinished backfill beside which a captured change was refused.';
