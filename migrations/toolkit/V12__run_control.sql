-- What is asked of a run while it works, and which processes work on it.

ALTER TABLE toolkit.run
    ADD COLUMN begun_by text,
    ADD COLUMN pause_asked_at timestamptz,
    ADD COLUMN pause_asked_by text,
    ADD COLUMN stop_asked_at timestamptz,
    ADD COLUMN stop_asked_by text;
COMMENT ON COLUMN toolkit.run.begun_by IS
    'The session''s Postgres role, and the operating system''s user and host it came from.';
COMMENT ON COLUMN toolkit.run.pause_asked_by IS
    'Who asked for a pause (`toolkit run pause`); NULL: nobody. It outlives the processes.';
COMMENT ON COLUMN toolkit.run.stop_asked_by IS
    'Who asked its processes to end (`toolkit run stop`); NULL again when it is resumed.';

ALTER TABLE toolkit.stream_state ADD COLUMN records_expected bigint;
COMMENT ON COLUMN toolkit.stream_state.records_expected IS
    'Records of its sources, about, as they were counted when the run began or was resumed.';

CREATE TABLE toolkit.run_process (
    process      uuid CONSTRAINT run_process_pkey PRIMARY KEY,
    run_id       uuid NOT NULL CONSTRAINT run_process_run_id_fkey
                 REFERENCES toolkit.run (run_id) ON DELETE CASCADE,
    host         text NOT NULL,
    pid          integer,
    workers      integer NOT NULL,
    begun_by     text NOT NULL,
    began_at     timestamptz NOT NULL DEFAULT now(),
    seen_at      timestamptz NOT NULL DEFAULT now(),
    state        text NOT NULL DEFAULT 'copying' CONSTRAINT run_process_state_check
                 CHECK (state IN ('copying', 'pausing', 'paused', 'ended')),
    paused_since timestamptz,
    reason       text
);
CREATE INDEX run_process_run_idx ON toolkit.run_process (run_id);
COMMENT ON TABLE toolkit.run_process IS
    'Processes that work on a run, or did. One is alive while its session holds its advisory lock.';
COMMENT ON COLUMN toolkit.run_process.state IS
    'pausing: it lets no further chunk through, and one is still being written.';
COMMENT ON COLUMN toolkit.run_process.seen_at IS
    'When it last looked whether to wait or to stop, by this server''s clock; about once a second.';
COMMENT ON COLUMN toolkit.run_process.reason IS 'Why it waits; NULL: it does not.';
