-- After the cutover: which rows of the targets changed, until they are written back to SQLite.

CREATE TABLE toolkit.reverse_target (
    pack        text NOT NULL,
    target      text NOT NULL,
    key_columns text[] NOT NULL,
    enabled_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT reverse_target_pkey PRIMARY KEY (pack, target)
);
COMMENT ON TABLE toolkit.reverse_target IS
    'Tables whose changes are captured, by triggers named toolkit_reverse_*.';
COMMENT ON COLUMN toolkit.reverse_target.key_columns IS
    'Columns whose texts the keys of reverse_log hold, in this order.';

CREATE TABLE toolkit.reverse_log (
    id      bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT reverse_log_pkey PRIMARY KEY,
    pack    text NOT NULL,
    target  text NOT NULL,
    op      text NOT NULL CONSTRAINT reverse_log_op_check CHECK (op IN ('I', 'U', 'D')),
    old_key text[],
    new_key text[],
    xid     xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at      timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE toolkit.reverse_log IS
    'One row per changed row of a target. Deleted once written back, never skipped by its number: a transaction may commit long after later numbers.';

CREATE TABLE toolkit.reverse_state (
    pack         text CONSTRAINT reverse_state_pkey PRIMARY KEY,
    changes      bigint NOT NULL DEFAULT 0,
    inserted     bigint NOT NULL DEFAULT 0,
    updated      bigint NOT NULL DEFAULT 0,
    deleted      bigint NOT NULL DEFAULT 0,
    unchanged    bigint NOT NULL DEFAULT 0,
    applied_at   timestamptz
);
COMMENT ON TABLE toolkit.reverse_state IS
    'What was written back: changes read from the log, and what became of their rows.';

CREATE TABLE toolkit.reverse_reject (
    id      bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT reverse_reject_pkey PRIMARY KEY,
    pack    text NOT NULL,
    target  text NOT NULL,
    key     text[] NOT NULL,
    stream  text NOT NULL DEFAULT '',
    kind    text NOT NULL CONSTRAINT reverse_reject_kind_check CHECK (kind IN ('refused', 'column', 'row')),
    columns text[] NOT NULL DEFAULT '{}',
    reason  text NOT NULL,
    detail  text NOT NULL,
    at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT reverse_reject_natural_key UNIQUE (pack, target, key, stream)
);
COMMENT ON TABLE toolkit.reverse_reject IS
    'Rows that are not in SQLite as they are in Postgres. An entry goes when a later change of its row could be written.';
COMMENT ON COLUMN toolkit.reverse_reject.kind IS
    'refused: the row could not be written; column: it was, without these columns, which have no way back; row: no stream that is written back has it.';

CREATE FUNCTION toolkit.reverse_refuse_truncate() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('toolkit.replay', true) IS NOT DISTINCT FROM 'on' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'toolkit: TRUNCATE of %.% would not reach SQLite', TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'feature_not_supported', HINT = 'use DELETE as long as a rollback is possible';
END
$$;
