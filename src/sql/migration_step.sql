CREATE TABLE IF NOT EXISTS toolkit.migration_step (
    pack             text NOT NULL,
    version          integer NOT NULL,
    step             integer NOT NULL,
    statement_sha256 bytea NOT NULL,
    state            text NOT NULL CHECK (state IN ('pending', 'done')),
    started_at       timestamptz NOT NULL DEFAULT now(),
    finished_at      timestamptz,
    PRIMARY KEY (pack, version, step)
);
COMMENT ON TABLE toolkit.migration_step IS
    'Statements of migrations that cannot run in a transaction: begun (pending) or done.';
