-- Where each pack stands on its way from SQLite to Postgres, and on what evidence.

-- Their first form was never written to.
DROP TABLE toolkit.phase;
DROP TABLE toolkit.evidence;

CREATE TABLE toolkit.phase (
    pack       text CONSTRAINT phase_pkey PRIMARY KEY,
    phase      smallint NOT NULL DEFAULT 0 CONSTRAINT phase_phase_check
               CHECK (phase BETWEEN 0 AND 4),
    reads      text NOT NULL DEFAULT 'sqlite' CONSTRAINT phase_reads_check
               CHECK (reads IN ('sqlite', 'postgres')),
    generation bigint NOT NULL DEFAULT 1,
    entered_at timestamptz NOT NULL DEFAULT now(),
    -- One store is primary, and the phase says which.
    CONSTRAINT phase_route_check CHECK ((reads = 'postgres') = (phase >= 3))
);
COMMENT ON TABLE toolkit.phase IS
    'The phase and the route of each pack; a pack without a row is in phase 0 and read from SQLite.';
COMMENT ON COLUMN toolkit.phase.phase IS
    '0 bootstrap, 1 dual-write, 2 backfill, 3 read cutover, 4 decommission.';
COMMENT ON COLUMN toolkit.phase.reads IS
    'The primary store: where applications read and write. The commit of a change of it is the cutover.';
COMMENT ON COLUMN toolkit.phase.generation IS
    'Rises with every change of phase or route; every change also sends NOTIFY toolkit_phase, ''<pack>''.';

CREATE TABLE toolkit.phase_transition (
    id         bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT phase_transition_pkey PRIMARY KEY,
    pack       text NOT NULL,
    from_phase smallint NOT NULL,
    to_phase   smallint NOT NULL,
    kind       text NOT NULL CONSTRAINT phase_transition_kind_check
               CHECK (kind IN ('advance', 'rollback', 'force', 'recover')),
    at         timestamptz NOT NULL DEFAULT now(),
    by         text NOT NULL,
    reason     text,
    generation bigint NOT NULL,
    evidence   jsonb NOT NULL DEFAULT '[]'
);
CREATE INDEX phase_transition_pack_idx ON toolkit.phase_transition (pack, id);
COMMENT ON TABLE toolkit.phase_transition IS
    'Every change of phase, and every recovery after a crash: who, when, why, on what evidence.';
COMMENT ON COLUMN toolkit.phase_transition.by IS
    'The session''s Postgres role, and the operating system''s user and host it came from.';
COMMENT ON COLUMN toolkit.phase_transition.evidence IS
    'What was checked and found; of a forced one, also what was missing.';

CREATE TABLE toolkit.evidence (
    id              bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT evidence_pkey PRIMARY KEY,
    pack            text NOT NULL,
    kind            text NOT NULL,
    run_id          uuid,
    at              timestamptz NOT NULL DEFAULT now(),
    facts           jsonb NOT NULL DEFAULT '{}',
    basis           jsonb NOT NULL DEFAULT '{}',
    expired_at      timestamptz,
    expired_because text
);
CREATE INDEX evidence_pack_idx ON toolkit.evidence (pack, kind, id);
COMMENT ON TABLE toolkit.evidence IS
    'Facts that phase gates rely on, each computed from the stores by the toolkit itself.';
COMMENT ON COLUMN toolkit.evidence.run_id IS
    'The run or the verification it comes from.';
COMMENT ON COLUMN toolkit.evidence.basis IS
    'What it holds for: pack, migrations, source schemas, rejects. It expires when one of them changes.';

CREATE TABLE toolkit.sealed_file (
    pack       text NOT NULL,
    source     text NOT NULL,
    path       text NOT NULL,
    decided_at timestamptz NOT NULL DEFAULT now(),
    sha256     bytea,
    bytes      bigint,
    read_only  boolean,
    sealed_at  timestamptz,
    CONSTRAINT sealed_file_pkey PRIMARY KEY (pack, source)
);
COMMENT ON TABLE toolkit.sealed_file IS
    'SQLite files as decommission left them; without a checksum: still to be sealed.';

-- After a rollback SQLite is primary again; a write that waited for its moment must not be taken.
CREATE FUNCTION toolkit.refuse_write() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    IF current_setting('toolkit.replay', true) IS DISTINCT FROM 'on' THEN
        RAISE EXCEPTION 'toolkit fence: table %.% has moved back to SQLite',
            TG_TABLE_SCHEMA, TG_TABLE_NAME
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    RETURN NULL;
END
$function$;
COMMENT ON FUNCTION toolkit.refuse_write() IS
    'Of the triggers toolkit_fence: between a rollback and the next cutover only the toolkit writes.';

CREATE TABLE toolkit.shadow_read (
    pack       text NOT NULL,
    name       text NOT NULL,
    hour       timestamptz NOT NULL,
    reads      bigint NOT NULL DEFAULT 0,
    mismatches bigint NOT NULL DEFAULT 0,
    CONSTRAINT shadow_read_pkey PRIMARY KEY (pack, name, hour)
);
COMMENT ON TABLE toolkit.shadow_read IS
    'Reads that applications ran on both stores, and how many of them differed, per hour.';

CREATE TABLE toolkit.shadow_mismatch (
    id               bigint GENERATED ALWAYS AS IDENTITY
                     CONSTRAINT shadow_mismatch_pkey PRIMARY KEY,
    pack             text NOT NULL,
    name             text NOT NULL,
    at               timestamptz NOT NULL DEFAULT now(),
    primary_digest   bytea NOT NULL,
    secondary_digest bytea NOT NULL,
    detail           jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX shadow_mismatch_pack_idx ON toolkit.shadow_mismatch (pack, id);
COMMENT ON TABLE toolkit.shadow_mismatch IS
    'Reads whose results differed between the stores, by digest.';
