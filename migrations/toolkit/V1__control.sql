-- What the toolkit itself remembers, readable with plain SQL.

CREATE SCHEMA IF NOT EXISTS toolkit;
COMMENT ON SCHEMA toolkit IS 'What the toolkit did, refused, changed and proved.';

CREATE TABLE toolkit.run (
    run_id       uuid CONSTRAINT run_pkey PRIMARY KEY,
    command      text NOT NULL,
    pack         text NOT NULL,
    pack_version integer,
    settings     jsonb NOT NULL DEFAULT '{}',
    inputs       jsonb NOT NULL DEFAULT '[]',
    status       text NOT NULL CONSTRAINT run_status_check
                 CHECK (status IN ('running', 'completed', 'interrupted', 'failed')),
    tool_version text NOT NULL,
    started_at   timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz,
    counts       jsonb,
    error        text,
    host         text,
    pid          integer
);
CREATE INDEX run_running_idx ON toolkit.run (pack) WHERE status = 'running';
COMMENT ON TABLE toolkit.run IS
    'One execution of a mutating command: inputs, settings, outcome.';

CREATE TABLE toolkit.chunk (
    run_id       uuid NOT NULL CONSTRAINT chunk_run_id_fkey
                 REFERENCES toolkit.run (run_id) ON DELETE CASCADE,
    stream       text NOT NULL,
    source       text NOT NULL,
    chunk_no     bigint NOT NULL,
    range_from   jsonb,
    range_to     jsonb,
    status       text NOT NULL DEFAULT 'pending' CONSTRAINT chunk_status_check
                 CHECK (status IN ('pending', 'done')),
    mode         text,
    counts       jsonb,
    digest       bytea,
    rows_read    bigint,
    bytes_read   bigint,
    committed_at timestamptz,
    worker       text,
    CONSTRAINT chunk_pkey PRIMARY KEY (run_id, stream, source, chunk_no)
);
CREATE INDEX chunk_pending_idx ON toolkit.chunk (run_id, stream) WHERE status = 'pending';
COMMENT ON TABLE toolkit.chunk IS
    'Key ranges of a run''s streams: the unit of work and of checkpointing.';

CREATE TABLE toolkit.stream_state (
    run_id       uuid NOT NULL CONSTRAINT stream_state_run_id_fkey
                 REFERENCES toolkit.run (run_id) ON DELETE CASCADE,
    stream       text NOT NULL,
    initial_load boolean NOT NULL,
    state        text NOT NULL CONSTRAINT stream_state_state_check
                 CHECK (state IN ('planned', 'copying', 'done')),
    counts       jsonb,
    CONSTRAINT stream_state_pkey PRIMARY KEY (run_id, stream)
);
COMMENT ON TABLE toolkit.stream_state IS
    'How far each stream of a run is, and whether it loads into an empty table.';

CREATE TABLE toolkit.deferred_index (
    id           bigserial CONSTRAINT deferred_index_pkey PRIMARY KEY,
    run_id       uuid,
    table_schema text,
    table_name   text,
    index_name   text,
    definition   text NOT NULL,
    dropped_at   timestamptz NOT NULL DEFAULT now(),
    restored_at  timestamptz
);
COMMENT ON TABLE toolkit.deferred_index IS
    'Indexes dropped for a bulk load, with the definitions that bring them back.';

CREATE TABLE toolkit.reject (
    id            bigserial CONSTRAINT reject_pkey PRIMARY KEY,
    run_id        uuid NOT NULL,
    pack          text NOT NULL,
    stream        text NOT NULL,
    output        text NOT NULL DEFAULT '',
    source        text NOT NULL,
    locator       text NOT NULL,
    record_key    text,
    column_name   text,
    reason        text NOT NULL,
    detail        text NOT NULL,
    record        bytea,
    record_sha256 bytea NOT NULL,
    secret        boolean NOT NULL DEFAULT false,
    state         text NOT NULL DEFAULT 'open' CONSTRAINT reject_state_check
                  CHECK (state IN ('open', 'acknowledged', 'retried', 'resolved')),
    created_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT reject_natural_key
        UNIQUE (pack, stream, output, source, locator, record_sha256, reason)
);
COMMENT ON TABLE toolkit.reject IS
    'Records that could not be stored, kept whole, with key, column and reason.';

CREATE TABLE toolkit.ledger (
    id            bigserial CONSTRAINT ledger_pkey PRIMARY KEY,
    run_id        uuid NOT NULL,
    pack          text,
    stream        text,
    output        text NOT NULL DEFAULT '',
    source        text NOT NULL,
    locator       text NOT NULL,
    record_key    text,
    column_name   text,
    rule          text NOT NULL,
    path          text,
    original      bytea,
    original_hash bytea NOT NULL,
    secret        boolean NOT NULL DEFAULT false,
    target_digest bytea,
    entry_hash    bytea NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT ledger_natural_key UNIQUE (pack, stream, entry_hash)
);
CREATE INDEX ledger_rule_idx ON toolkit.ledger (pack, stream, rule);
COMMENT ON TABLE toolkit.ledger IS
    'Every value stored changed and every record a rule skipped, with its original bytes.';

CREATE TABLE toolkit.capture_cursor (
    pack            text NOT NULL,
    source          text NOT NULL,
    installation_id uuid,
    position        bigint NOT NULL DEFAULT 0,
    applied_at      timestamptz,
    CONSTRAINT capture_cursor_pkey PRIMARY KEY (pack, source)
);
COMMENT ON TABLE toolkit.capture_cursor IS
    'How far the captured changes of each source are applied.';

CREATE TABLE toolkit.phase (
    id         bigserial CONSTRAINT phase_pkey PRIMARY KEY,
    pack       text NOT NULL,
    phase      integer NOT NULL CONSTRAINT phase_phase_check CHECK (phase BETWEEN 0 AND 4),
    from_phase integer,
    at         timestamptz NOT NULL DEFAULT now(),
    by         text,
    reason     text,
    forced     boolean NOT NULL DEFAULT false,
    evidence   jsonb NOT NULL DEFAULT '[]'
);
COMMENT ON TABLE toolkit.phase IS
    'Every phase transition: who, when, why and on what evidence.';

CREATE TABLE toolkit.evidence (
    id         bigserial CONSTRAINT evidence_pkey PRIMARY KEY,
    pack       text NOT NULL,
    kind       text NOT NULL,
    at         timestamptz NOT NULL DEFAULT now(),
    run_id     uuid,
    ok         boolean NOT NULL,
    details    jsonb NOT NULL DEFAULT '{}',
    expires_at timestamptz
);
COMMENT ON TABLE toolkit.evidence IS
    'Machine-checked facts that phase gates rely on.';

CREATE TABLE toolkit.parity_run (
    run_id        uuid CONSTRAINT parity_run_pkey PRIMARY KEY,
    pack          text NOT NULL,
    level         text NOT NULL,
    against       text NOT NULL,
    verdict       text CONSTRAINT parity_run_verdict_check
                  CHECK (verdict IN ('clean', 'differences', 'failed')),
    started_at    timestamptz NOT NULL DEFAULT now(),
    finished_at   timestamptz,
    tool_version  text NOT NULL,
    settings      jsonb NOT NULL DEFAULT '{}',
    inputs        jsonb NOT NULL DEFAULT '[]',
    snapshot_lsn  pg_lsn,
    snapshot_xmin text,
    totals        jsonb,
    streams       jsonb
);
COMMENT ON TABLE toolkit.parity_run IS
    'One comparison of the sources with the target, and its verdict.';

CREATE TABLE toolkit.parity_difference (
    id            bigserial CONSTRAINT parity_difference_pkey PRIMARY KEY,
    run_id        uuid NOT NULL CONSTRAINT parity_difference_run_id_fkey
                  REFERENCES toolkit.parity_run (run_id) ON DELETE CASCADE,
    stream        text NOT NULL,
    target        text NOT NULL,
    kind          text NOT NULL CONSTRAINT parity_difference_kind_check
                  CHECK (kind IN ('missing', 'extra', 'changed', 'duplicate', 'unaccounted')),
    record_key    jsonb NOT NULL,
    column_name   text,
    source_value  text,
    target_value  text,
    source_digest bytea,
    target_digest bytea,
    locator       text
);
CREATE INDEX parity_difference_run_idx ON toolkit.parity_difference (run_id, stream);
COMMENT ON TABLE toolkit.parity_difference IS
    'What a comparison found, row by row and column by column.';
