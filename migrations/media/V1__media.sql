-- The catalogue: media of every type, links to other sites, and how media relate.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'ltree') THEN
        RAISE EXCEPTION 'the pack media needs the extension ltree, which this server does not have'
            USING HINT = 'install PostgreSQL''s contrib modules, or migrate other packs with --pack';
    END IF;
END
$$;
CREATE EXTENSION IF NOT EXISTS ltree;

CREATE SCHEMA IF NOT EXISTS media;
CREATE SCHEMA IF NOT EXISTS users;
CREATE SCHEMA IF NOT EXISTS interaction;
CREATE SCHEMA IF NOT EXISTS auth;
COMMENT ON SCHEMA media IS 'The catalogue of media and their relations.';
COMMENT ON SCHEMA users IS 'Accounts.';
COMMENT ON SCHEMA interaction IS 'What users track and list.';
COMMENT ON SCHEMA auth IS 'Sessions, tokens and logins.';

-- spin-off and shared-universe are the documented names; remake and crossover are the code's.
CREATE TYPE media.relation_type AS ENUM
    ('sequel', 'prequel', 'adaptation', 'spin-off', 'shared-universe', 'remake', 'crossover');

CREATE TABLE media.media (
    id                uuid CONSTRAINT media_pkey PRIMARY KEY DEFAULT gen_random_uuid(),
    external_id       text,
    media_type        text NOT NULL,
    media_class       ltree NOT NULL,
    title             text NOT NULL,
    release_date      date,
    country_of_origin text,
    creators          text[],
    cover_url         text,
    description       text,
    attributes        jsonb NOT NULL DEFAULT '{}',
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX idx_media_title ON media.media (title);
CREATE UNIQUE INDEX idx_media_external_id_unique ON media.media (external_id);
CREATE INDEX idx_media_class ON media.media USING gist (media_class);
CREATE INDEX idx_media_attributes ON media.media USING gin (attributes);
CREATE INDEX idx_media_attr_isbn ON media.media ((attributes ->> 'isbn'));
CREATE INDEX idx_media_attr_runtime_minutes ON media.media ((attributes ->> 'runtime_minutes'));
CREATE INDEX idx_media_attr_platforms ON media.media USING gin ((attributes -> 'platforms'));
CREATE INDEX idx_media_attr_genres ON media.media USING gin ((attributes -> 'genres'));

-- What a key and the creators say an item is: two importers spelled its type differently, and only
-- one of them wrote the creator into the key. The unique index holds for every writer.
CREATE FUNCTION media.natural_key(external_id text, creators text[]) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN regexp_replace(lower(split_part(external_id, ':', 1)), '[^a-z0-9]', '', 'g')
    || ':' || split_part(external_id, ':', 2) || ':' || split_part(external_id, ':', 3) || ':'
    || coalesce(nullif(split_part(external_id, ':', 4), ''),
                trim(BOTH '-' FROM lower(regexp_replace(coalesce(creators[1], ''),
                                                        '[^[:alnum:]]+', '-', 'g'))));
CREATE UNIQUE INDEX media_natural_key ON media.media (media.natural_key(external_id, creators));
COMMENT ON TABLE media.media IS 'One row per work of any type; what only some types have is in attributes.';
COMMENT ON COLUMN media.media.external_id IS 'The natural key, type:title:year[:creator].';

CREATE TABLE media.external_links (
    media_id     uuid NOT NULL CONSTRAINT external_links_media_id_fkey
                 REFERENCES media.media (id) ON DELETE CASCADE,
    source_name  text NOT NULL,
    external_key text NOT NULL,
    CONSTRAINT external_links_pkey PRIMARY KEY (source_name, external_key)
);
CREATE INDEX idx_external_links_media_id ON media.external_links (media_id);
COMMENT ON TABLE media.external_links IS 'The keys under which other sites know a medium.';

CREATE TABLE media.relationships (
    media_id         uuid NOT NULL CONSTRAINT relationships_media_id_fkey
                     REFERENCES media.media (id) ON DELETE CASCADE,
    related_media_id uuid NOT NULL CONSTRAINT relationships_related_media_id_fkey
                     REFERENCES media.media (id) ON DELETE CASCADE,
    relation_type    media.relation_type NOT NULL,
    notes            text,
    weight           smallint,
    created_at       timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT relationships_pkey PRIMARY KEY (media_id, related_media_id, relation_type)
);
CREATE INDEX idx_relationships_media_id ON media.relationships (media_id);
CREATE INDEX idx_relationships_related_id ON media.relationships (related_media_id);
CREATE INDEX idx_relationships_type ON media.relationships (relation_type);
COMMENT ON TABLE media.relationships IS 'Sequels, adaptations and the like, across all types.';
