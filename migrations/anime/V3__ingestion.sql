-- What was ingested when, what waits for a person, and what Qdrant still has to learn.

CREATE TABLE ingestion_runs (
    id                bigserial CONSTRAINT ingestion_runs_pkey PRIMARY KEY,
    artifact_uri      text NOT NULL,
    artifact_sha256   text NOT NULL,
    source_commit_sha text,
    started_at        timestamptz NOT NULL DEFAULT now(),
    finished_at       timestamptz,
    status            text NOT NULL DEFAULT 'running' CONSTRAINT ingestion_runs_status_check
                      CHECK (status IN ('running', 'completed', 'interrupted', 'failed')),
    error             text,
    header            jsonb NOT NULL DEFAULT '{}',
    counts            jsonb,
    toolkit_run_id    uuid
);
CREATE INDEX ingestion_runs_toolkit_run_idx ON ingestion_runs (toolkit_run_id);
COMMENT ON TABLE ingestion_runs IS 'One reading of one artifact, known by its SHA-256.';
COMMENT ON COLUMN ingestion_runs.header IS 'What the artifact says beside its entries.';
COMMENT ON COLUMN ingestion_runs.toolkit_run_id IS 'The run in toolkit.run.';

CREATE TABLE anime_ingestion_state (
    anime_id                uuid CONSTRAINT anime_ingestion_state_pkey PRIMARY KEY
                            CONSTRAINT anime_ingestion_state_anime_id_fkey
                            REFERENCES anime (id) ON UPDATE CASCADE ON DELETE CASCADE,
    last_run_id             bigint CONSTRAINT anime_ingestion_state_last_run_id_fkey
                            REFERENCES ingestion_runs (id) ON DELETE SET NULL,
    last_enriched_at        timestamptz,
    last_ingested_at        timestamptz,
    last_payload_sha256     text,
    ingestion_status        text NOT NULL DEFAULT 'pending',
    source_kind             text NOT NULL DEFAULT 'enriched'
                            CONSTRAINT anime_ingestion_state_source_kind_check
                            CHECK (source_kind IN ('enriched', 'offline')),
    is_derived_id           boolean NOT NULL DEFAULT false,
    artifact_date           text,
    earlier_payload_sha256  text[] NOT NULL DEFAULT '{}',
    supplement_sha256       text
);
CREATE INDEX anime_ingestion_state_last_run_idx ON anime_ingestion_state (last_run_id);
COMMENT ON TABLE anime_ingestion_state IS 'What of each anime was ingested last.';
COMMENT ON COLUMN anime_ingestion_state.is_derived_id IS
    'The id was made from a url, and gives way to the first artifact that names one.';
COMMENT ON COLUMN anime_ingestion_state.earlier_payload_sha256 IS
    'Payloads that newer ones have replaced: met again, they are old news. The newest 32.';
COMMENT ON COLUMN anime_ingestion_state.supplement_sha256 IS
    'The offline database''s last entry for an anime whose state is an enriched artifact''s.';

CREATE TABLE review_queue (
    id           bigserial CONSTRAINT review_queue_pkey PRIMARY KEY,
    entity_type  text NOT NULL CONSTRAINT review_queue_entity_type_check
                 CHECK (entity_type IN ('anime', 'character', 'episode')),
    entity_id    uuid NOT NULL,
    anime_id     uuid,
    field        text NOT NULL,
    reason       text NOT NULL,
    before       jsonb NOT NULL,
    after        jsonb NOT NULL,
    proposal     text NOT NULL,
    state        text NOT NULL DEFAULT 'open' CONSTRAINT review_queue_state_check
                 CHECK (state IN ('open', 'accepted', 'rejected', 'superseded')),
    run_id       bigint CONSTRAINT review_queue_run_id_fkey
                 REFERENCES ingestion_runs (id) ON DELETE SET NULL,
    queued_at    timestamptz NOT NULL DEFAULT now(),
    decided_at   timestamptz,
    decided_by   text
);
CREATE UNIQUE INDEX review_queue_open_uniq ON review_queue (entity_type, entity_id, field)
    WHERE state = 'open';
CREATE INDEX review_queue_entity_idx ON review_queue (entity_type, entity_id, field, proposal);
CREATE INDEX review_queue_run_idx ON review_queue (run_id);
COMMENT ON TABLE review_queue IS 'Changes that a person decides about.';
COMMENT ON COLUMN review_queue.field IS
    'A column, meta.NAME or raw_by_source.NAME, or a table whose rows the artifact no longer has.';
COMMENT ON COLUMN review_queue.proposal IS
    'Digest of what was proposed: what a person has rejected is not proposed again.';

-- The outbox. Its rows are written by triggers and not by those who change entities, so that no
-- change, made by whatever program, can forget them; statement-level, so that a bulk load pays one
-- statement and not one call per row. A version is drawn while the entity is locked: the later
-- change has the higher one. The sequence is nobody's: it survives a dropped outbox.
CREATE SEQUENCE qdrant_version_seq;

CREATE TABLE qdrant_outbox (
    id           bigserial CONSTRAINT qdrant_outbox_pkey PRIMARY KEY,
    entity_type  text NOT NULL CONSTRAINT qdrant_outbox_entity_type_check
                 CHECK (entity_type IN ('anime', 'character', 'episode')),
    entity_id    uuid NOT NULL,
    op           text NOT NULL CONSTRAINT qdrant_outbox_op_check CHECK (op IN ('upsert', 'delete')),
    version      bigint NOT NULL DEFAULT nextval('qdrant_version_seq'),
    queued_at    timestamptz NOT NULL DEFAULT now(),
    processed_at timestamptz,
    attempts     int NOT NULL DEFAULT 0,
    next_try_at  timestamptz,
    last_error   text,
    parked_at    timestamptz
);
CREATE INDEX qdrant_outbox_pending_idx ON qdrant_outbox (entity_id, entity_type, version)
    WHERE processed_at IS NULL;
COMMENT ON TABLE qdrant_outbox IS 'What Qdrant still has to learn.';

CREATE FUNCTION qdrant_outbox_on_insert() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO qdrant_outbox (entity_type, entity_id, op)
    SELECT TG_ARGV[0], id, 'upsert' FROM added;
    RETURN NULL;
END
$$;
CREATE FUNCTION qdrant_outbox_on_update() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO qdrant_outbox (entity_type, entity_id, op)
    SELECT TG_ARGV[0], a.id, 'upsert'
    FROM added a LEFT JOIN removed r ON r.id = a.id WHERE r.id IS NULL OR r *<> a
    UNION ALL
    SELECT TG_ARGV[0], r.id, 'delete'
    FROM removed r WHERE NOT EXISTS (SELECT FROM added a WHERE a.id = r.id);
    RETURN NULL;
END
$$;
CREATE FUNCTION qdrant_outbox_on_delete() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO qdrant_outbox (entity_type, entity_id, op)
    SELECT TG_ARGV[0], id, 'delete' FROM removed;
    RETURN NULL;
END
$$;
-- A whole table emptied: the collection's points are swept by rebuild, not one by one.
CREATE FUNCTION qdrant_outbox_refuse_truncate() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
BEGIN
    RAISE EXCEPTION 'TRUNCATE of % would leave its points in Qdrant', TG_TABLE_NAME
        USING HINT = 'DELETE the rows, so that the outbox learns of it';
END
$$;
DO $$
DECLARE entity text;
BEGIN
    FOREACH entity IN ARRAY ARRAY['anime', 'character', 'episode'] LOOP
        EXECUTE format('CREATE TRIGGER outbox_insert AFTER INSERT ON %1$I REFERENCING NEW TABLE AS
            added FOR EACH STATEMENT EXECUTE FUNCTION qdrant_outbox_on_insert(%1$L)', entity);
        EXECUTE format('CREATE TRIGGER outbox_update AFTER UPDATE ON %1$I REFERENCING OLD TABLE AS
            removed NEW TABLE AS added FOR EACH STATEMENT
            EXECUTE FUNCTION qdrant_outbox_on_update(%1$L)', entity);
        EXECUTE format('CREATE TRIGGER outbox_delete AFTER DELETE ON %1$I REFERENCING OLD TABLE AS
            removed FOR EACH STATEMENT EXECUTE FUNCTION qdrant_outbox_on_delete(%1$L)', entity);
        EXECUTE format('CREATE TRIGGER outbox_truncate BEFORE TRUNCATE ON %1$I
            FOR EACH STATEMENT EXECUTE FUNCTION qdrant_outbox_refuse_truncate()', entity);
    END LOOP;
END
$$;

-- A character's point tells its anime and its aliases too. Their rows lock nothing of the
-- character, so it is locked here before the version is drawn. What this very transaction has
-- queued already needs no second row: nobody can have seen the first.
CREATE FUNCTION qdrant_outbox_touch_characters(touched uuid[]) RETURNS void
LANGUAGE sql SET search_path FROM CURRENT AS $$
    WITH locked AS MATERIALIZED (
        SELECT id FROM character WHERE id = ANY(touched) ORDER BY id FOR NO KEY UPDATE)
    INSERT INTO qdrant_outbox (entity_type, entity_id, op)
    SELECT 'character', l.id, 'upsert' FROM locked l
    WHERE NOT EXISTS (
        SELECT FROM qdrant_outbox o
        WHERE o.entity_id = l.id AND o.entity_type = 'character' AND o.processed_at IS NULL
          AND o.op = 'upsert' AND o.xmin = pg_current_xact_id()::xid)
$$;
CREATE FUNCTION qdrant_outbox_on_added_part() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM qdrant_outbox_touch_characters(array_agg(DISTINCT character_id)) FROM added;
    RETURN NULL;
END
$$;
CREATE FUNCTION qdrant_outbox_on_removed_part() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM qdrant_outbox_touch_characters(array_agg(DISTINCT character_id)) FROM removed;
    RETURN NULL;
END
$$;
CREATE FUNCTION qdrant_outbox_on_changed_part() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM qdrant_outbox_touch_characters(array_agg(DISTINCT character_id))
    FROM (SELECT character_id FROM added UNION ALL SELECT character_id FROM removed) AS both_sides;
    RETURN NULL;
END
$$;
DO $$
DECLARE part text;
BEGIN
    FOREACH part IN ARRAY ARRAY['anime_character', 'character_alias'] LOOP
        EXECUTE format('CREATE TRIGGER outbox_insert AFTER INSERT ON %I REFERENCING NEW TABLE AS
            added FOR EACH STATEMENT EXECUTE FUNCTION qdrant_outbox_on_added_part()', part);
        EXECUTE format('CREATE TRIGGER outbox_update AFTER UPDATE ON %I REFERENCING OLD TABLE AS
            removed NEW TABLE AS added FOR EACH STATEMENT
            EXECUTE FUNCTION qdrant_outbox_on_changed_part()', part);
        EXECUTE format('CREATE TRIGGER outbox_delete AFTER DELETE ON %I REFERENCING OLD TABLE AS
            removed FOR EACH STATEMENT EXECUTE FUNCTION qdrant_outbox_on_removed_part()', part);
    END LOOP;
END
$$;

-- A redirect hides its source's point; taken back, it shows it again.
CREATE FUNCTION qdrant_outbox_on_redirect() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM qdrant_outbox_touch_characters(ARRAY[OLD.from_id, OLD.to_id]);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM FROM character WHERE id = NEW.from_id FOR NO KEY UPDATE;
        INSERT INTO qdrant_outbox (entity_type, entity_id, op)
        VALUES ('character', NEW.from_id, 'delete');
        PERFORM qdrant_outbox_touch_characters(ARRAY[NEW.to_id]);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER outbox_redirect AFTER INSERT OR UPDATE OR DELETE ON character_redirect
    FOR EACH ROW EXECUTE FUNCTION qdrant_outbox_on_redirect();
