-- How anime relate to each other and to what they were made from. A target that is not stored yet
-- is named by its best reference until the resolver finds it.

-- The relation vocabulary.
CREATE DOMAIN relation_type AS text CONSTRAINT relation_type_check CHECK (VALUE IN
    ('SEQUEL', 'PREQUEL', 'SIDE_STORY', 'PARENT_STORY', 'SUMMARY', 'FULL_STORY', 'ALTERNATIVE',
     'ALTERNATIVE_VERSION', 'ALTERNATIVE_SETTING', 'ALTERNATE_UNIVERSE', 'SHARED_UNIVERSE',
     'SAME_SETTING', 'CROSSOVER', 'SAME_FRANCHISE', 'OTHER_FRANCHISE', 'OTHER', 'ADAPTATION',
     'CHARACTER', 'SPIN_OFF', 'CONDENSED_VERSION', 'RECAP', 'UNKNOWN'));

CREATE TABLE anime_relation (
    id                   bigserial CONSTRAINT anime_relation_pkey PRIMARY KEY,
    from_anime_id        uuid NOT NULL CONSTRAINT anime_relation_from_anime_id_fkey
                         REFERENCES anime (id) ON UPDATE CASCADE ON DELETE CASCADE,
    relation_type        relation_type NOT NULL,
    to_anime_id          uuid CONSTRAINT anime_relation_to_anime_id_fkey
                         REFERENCES anime (id) ON UPDATE CASCADE ON DELETE CASCADE,
    to_ref_source        text,
    to_ref_external_id   text,
    to_title             text,
    to_urls              text[],
    to_anime_type        text,
    source_relation_type text,
    meta                 jsonb NOT NULL DEFAULT '{}',
    CONSTRAINT anime_relation_self_check CHECK (from_anime_id <> to_anime_id)
);
CREATE UNIQUE INDEX anime_relation_resolved_uniq
    ON anime_relation (from_anime_id, relation_type, to_anime_id) WHERE to_anime_id IS NOT NULL;
CREATE UNIQUE INDEX anime_relation_unresolved_uniq
    ON anime_relation (from_anime_id, relation_type, to_ref_source, to_ref_external_id)
    WHERE to_anime_id IS NULL AND to_ref_source IS NOT NULL AND to_ref_external_id IS NOT NULL;
CREATE INDEX anime_relation_from_idx ON anime_relation (from_anime_id);
CREATE INDEX anime_relation_to_idx ON anime_relation (to_anime_id);
COMMENT ON TABLE anime_relation IS 'Anime to anime; to_anime_id is NULL until its target is stored.';
COMMENT ON COLUMN anime_relation.source_relation_type IS 'The type as the artifact spells it.';

CREATE TABLE anime_manga_relation (
    id                    bigserial CONSTRAINT anime_manga_relation_pkey PRIMARY KEY,
    anime_id              uuid NOT NULL CONSTRAINT anime_manga_relation_anime_id_fkey
                          REFERENCES anime (id) ON UPDATE CASCADE ON DELETE CASCADE,
    relation_type         relation_type NOT NULL,
    manga_id              uuid CONSTRAINT anime_manga_relation_manga_id_fkey
                          REFERENCES manga (id) ON DELETE CASCADE,
    manga_ref_source      text,
    manga_ref_external_id text,
    manga_title           text,
    manga_urls            text[],
    source_relation_type  text,
    meta                  jsonb NOT NULL DEFAULT '{}'
);
CREATE UNIQUE INDEX anime_manga_relation_resolved_uniq
    ON anime_manga_relation (anime_id, relation_type, manga_id) WHERE manga_id IS NOT NULL;
CREATE UNIQUE INDEX anime_manga_relation_unresolved_uniq
    ON anime_manga_relation (anime_id, relation_type, manga_ref_source, manga_ref_external_id)
    WHERE manga_id IS NULL AND manga_ref_source IS NOT NULL AND manga_ref_external_id IS NOT NULL;
CREATE INDEX anime_manga_relation_anime_idx ON anime_manga_relation (anime_id);
CREATE INDEX anime_manga_relation_manga_idx ON anime_manga_relation (manga_id);
COMMENT ON TABLE anime_manga_relation IS 'Anime to manga; manga_id is NULL until it is stored.';

CREATE TABLE anime_work_relation (
    id                   bigserial CONSTRAINT anime_work_relation_pkey PRIMARY KEY,
    anime_id             uuid NOT NULL CONSTRAINT anime_work_relation_anime_id_fkey
                         REFERENCES anime (id) ON UPDATE CASCADE ON DELETE CASCADE,
    relation_type        relation_type NOT NULL,
    work_id              uuid CONSTRAINT anime_work_relation_work_id_fkey
                         REFERENCES original_work (id) ON DELETE CASCADE,
    work_ref_source      text,
    work_ref_external_id text,
    work_title           text,
    work_urls            text[],
    source_relation_type text,
    meta                 jsonb NOT NULL DEFAULT '{}'
);
CREATE UNIQUE INDEX anime_work_relation_resolved_uniq
    ON anime_work_relation (anime_id, relation_type, work_id) WHERE work_id IS NOT NULL;
CREATE UNIQUE INDEX anime_work_relation_unresolved_uniq
    ON anime_work_relation (anime_id, relation_type, work_ref_source, work_ref_external_id)
    WHERE work_id IS NULL AND work_ref_source IS NOT NULL AND work_ref_external_id IS NOT NULL;
CREATE INDEX anime_work_relation_anime_idx ON anime_work_relation (anime_id);
CREATE INDEX anime_work_relation_work_idx ON anime_work_relation (work_id);
COMMENT ON TABLE anime_work_relation IS 'Anime to other original works, as anime_manga_relation.';

CREATE VIEW anime_original_work_relation AS
SELECT 'manga' AS work_type, id AS relation_id, anime_id, relation_type, manga_id AS work_id,
       manga_ref_source AS ref_source, manga_ref_external_id AS ref_external_id,
       manga_title AS title, manga_urls AS urls, source_relation_type, meta
FROM anime_manga_relation
UNION ALL
SELECT 'original_work', id, anime_id, relation_type, work_id, work_ref_source,
       work_ref_external_id, work_title, work_urls, source_relation_type, meta
FROM anime_work_relation;
COMMENT ON VIEW anime_original_work_relation IS
    'What anime were made from: manga and other original works alike.';

-- Merged characters. A chain may be long, a circle cannot be: whoever adds a redirect sees those
-- of all others, because they are added one after the other.
CREATE TABLE character_redirect (
    from_id    uuid CONSTRAINT character_redirect_pkey PRIMARY KEY,
    to_id      uuid NOT NULL,
    reason     text,
    decided_by text,
    decided_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT character_redirect_self_check CHECK (from_id <> to_id)
);
CREATE INDEX character_redirect_to_idx ON character_redirect (to_id);
COMMENT ON TABLE character_redirect IS 'Characters that were merged: look for to_id instead.';

CREATE FUNCTION canonical_character(wanted uuid) RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE SET search_path FROM CURRENT AS $$
    WITH RECURSIVE chain(id, depth) AS (
        SELECT wanted, 0
        UNION ALL
        SELECT r.to_id, c.depth + 1 FROM chain c JOIN character_redirect r ON r.from_id = c.id
    )
    SELECT id FROM chain ORDER BY depth DESC LIMIT 1
$$;
COMMENT ON FUNCTION canonical_character(uuid) IS 'Follows redirects to their end.';

CREATE FUNCTION character_redirect_refuse_cycle() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('toolkit.character_redirect', 0));
    IF EXISTS (
        WITH RECURSIVE chain(id) AS (
            SELECT NEW.to_id
            UNION
            SELECT r.to_id FROM chain c JOIN character_redirect r ON r.from_id = c.id
                -- The row's own old target no longer counts.
                WHERE NOT (TG_OP = 'UPDATE' AND r.from_id = OLD.from_id)
        )
        SELECT FROM chain WHERE id = NEW.from_id
    ) THEN
        RAISE EXCEPTION 'character % redirects to itself by way of %', NEW.from_id, NEW.to_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'character_redirect_no_cycle';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER character_redirect_no_cycle BEFORE INSERT OR UPDATE ON character_redirect
    FOR EACH ROW EXECUTE FUNCTION character_redirect_refuse_cycle();
