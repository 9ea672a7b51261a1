-- Typed attributes, expand: the document's attributes of books, games, audio and events get tables
-- with columns of their own. The JSON in media.media stays what is written; triggers keep the tables
-- beside it from the first moment on, so that nothing is missed between this step and the next.

-- A value that has not the column's type stays in the JSON alone: an import must not fail for it.
CREATE FUNCTION media.attribute_text(attributes jsonb, key text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN jsonb_typeof(attributes -> key) IN ('string', 'number') THEN attributes ->> key END;

CREATE FUNCTION media.attribute_number(attributes jsonb, key text) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN media.attribute_text(attributes, key) ~ '^-?[0-9]{1,15}([.][0-9]{1,15})?$'
            THEN (attributes ->> key)::numeric END;

CREATE FUNCTION media.attribute_integer(attributes jsonb, key text) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN media.attribute_number(attributes, key) % 1 = 0
                 AND media.attribute_number(attributes, key) BETWEEN -2147483648 AND 2147483647
            THEN media.attribute_number(attributes, key)::integer END;

CREATE FUNCTION media.attribute_texts(attributes jsonb, key text) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE jsonb_typeof(attributes -> key)
    WHEN 'array' THEN ARRAY(SELECT jsonb_array_elements_text(attributes -> key))
    WHEN 'string' THEN ARRAY[attributes ->> key] END;

CREATE TABLE media.book_attributes (
    media_id   uuid CONSTRAINT book_attributes_pkey PRIMARY KEY
               CONSTRAINT book_attributes_media_id_fkey REFERENCES media.media (id) ON DELETE CASCADE,
    isbn       text,
    publisher  text,
    page_count integer,
    edition    text
);
CREATE INDEX idx_book_attributes_isbn ON media.book_attributes (isbn);
CREATE TABLE media.game_attributes (
    media_id       uuid CONSTRAINT game_attributes_pkey PRIMARY KEY
                   CONSTRAINT game_attributes_media_id_fkey
                   REFERENCES media.media (id) ON DELETE CASCADE,
    platforms      text[],
    engine         text,
    playtime_hours numeric
);
CREATE INDEX idx_game_attributes_platforms ON media.game_attributes USING gin (platforms);
CREATE TABLE media.audio_attributes (
    media_id         uuid CONSTRAINT audio_attributes_pkey PRIMARY KEY
                     CONSTRAINT audio_attributes_media_id_fkey
                     REFERENCES media.media (id) ON DELETE CASCADE,
    narrator         text,
    duration_minutes numeric,
    label            text
);
CREATE TABLE media.event_attributes (
    media_id   uuid CONSTRAINT event_attributes_pkey PRIMARY KEY
               CONSTRAINT event_attributes_media_id_fkey REFERENCES media.media (id) ON DELETE CASCADE,
    venue      text,
    capacity   integer,
    event_type text
);
COMMENT ON TABLE media.book_attributes IS 'What attributes say of books, typed; written by triggers.';
COMMENT ON TABLE media.game_attributes IS 'What attributes say of games, typed; written by triggers.';
COMMENT ON TABLE media.audio_attributes IS 'What attributes say of audio, typed; written by triggers.';
COMMENT ON TABLE media.event_attributes IS 'What attributes say of events, typed; written by triggers.';

-- What the tables should hold.
CREATE VIEW media.book_attributes_expected AS
    SELECT id AS media_id, media.attribute_text(attributes, 'isbn') AS isbn,
           media.attribute_text(attributes, 'publisher') AS publisher,
           media.attribute_integer(attributes, 'page_count') AS page_count,
           media.attribute_text(attributes, 'edition') AS edition
      FROM media.media
     WHERE attributes ?| ARRAY['isbn', 'publisher', 'page_count', 'edition'];
CREATE VIEW media.game_attributes_expected AS
    SELECT id AS media_id, media.attribute_texts(attributes, 'platforms') AS platforms,
           media.attribute_text(attributes, 'engine') AS engine,
           media.attribute_number(attributes, 'playtime_hours') AS playtime_hours
      FROM media.media WHERE attributes ?| ARRAY['platforms', 'engine', 'playtime_hours'];
CREATE VIEW media.audio_attributes_expected AS
    SELECT id AS media_id, media.attribute_text(attributes, 'narrator') AS narrator,
           media.attribute_number(attributes, 'duration_minutes') AS duration_minutes,
           media.attribute_text(attributes, 'label') AS label
      FROM media.media WHERE attributes ?| ARRAY['narrator', 'duration_minutes', 'label'];
-- The import writes what a capacity counts into its name.
CREATE VIEW media.event_attributes_expected AS
    SELECT id AS media_id, media.attribute_text(attributes, 'venue') AS venue,
           coalesce(media.attribute_integer(attributes, 'capacity'),
                    media.attribute_integer(attributes, 'capacity_persons')) AS capacity,
           media.attribute_text(attributes, 'event_type') AS event_type
      FROM media.media
     WHERE attributes ?| ARRAY['venue', 'capacity', 'capacity_persons', 'event_type'];

CREATE FUNCTION media.keep_typed_attributes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        DELETE FROM media.book_attributes AS t USING changed AS c WHERE t.media_id = c.id;
        DELETE FROM media.game_attributes AS t USING changed AS c WHERE t.media_id = c.id;
        DELETE FROM media.audio_attributes AS t USING changed AS c WHERE t.media_id = c.id;
        DELETE FROM media.event_attributes AS t USING changed AS c WHERE t.media_id = c.id;
    END IF;
    INSERT INTO media.book_attributes
        SELECT e.* FROM media.book_attributes_expected AS e JOIN changed AS c ON c.id = e.media_id;
    INSERT INTO media.game_attributes
        SELECT e.* FROM media.game_attributes_expected AS e JOIN changed AS c ON c.id = e.media_id;
    INSERT INTO media.audio_attributes
        SELECT e.* FROM media.audio_attributes_expected AS e JOIN changed AS c ON c.id = e.media_id;
    INSERT INTO media.event_attributes
        SELECT e.* FROM media.event_attributes_expected AS e JOIN changed AS c ON c.id = e.media_id;
    RETURN NULL;
END
$$;
-- A statement at a time: a loaded chunk costs four statements, not four a row.
CREATE TRIGGER typed_attributes_inserted AFTER INSERT ON media.media
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT
    EXECUTE FUNCTION media.keep_typed_attributes();
CREATE TRIGGER typed_attributes_updated AFTER UPDATE ON media.media
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT
    EXECUTE FUNCTION media.keep_typed_attributes();

-- Until the rows that were there before are copied, readers take the JSON where a row is missing.
CREATE VIEW media.typed_media AS
    SELECT m.id, m.external_id, m.media_type, m.title,
           coalesce(b.isbn, be.isbn) AS isbn, coalesce(b.publisher, be.publisher) AS publisher,
           coalesce(b.page_count, be.page_count) AS page_count,
           coalesce(b.edition, be.edition) AS edition,
           coalesce(g.platforms, ge.platforms) AS platforms, coalesce(g.engine, ge.engine) AS engine,
           coalesce(g.playtime_hours, ge.playtime_hours) AS playtime_hours,
           coalesce(a.narrator, ae.narrator) AS narrator,
           coalesce(a.duration_minutes, ae.duration_minutes) AS duration_minutes,
           coalesce(a.label, ae.label) AS label,
           coalesce(e.venue, ee.venue) AS venue, coalesce(e.capacity, ee.capacity) AS capacity,
           coalesce(e.event_type, ee.event_type) AS event_type
      FROM media.media AS m
      LEFT JOIN media.book_attributes AS b ON b.media_id = m.id
      LEFT JOIN media.book_attributes_expected AS be ON be.media_id = m.id
      LEFT JOIN media.game_attributes AS g ON g.media_id = m.id
      LEFT JOIN media.game_attributes_expected AS ge ON ge.media_id = m.id
      LEFT JOIN media.audio_attributes AS a ON a.media_id = m.id
      LEFT JOIN media.audio_attributes_expected AS ae ON ae.media_id = m.id
      LEFT JOIN media.event_attributes AS e ON e.media_id = m.id
      LEFT JOIN media.event_attributes_expected AS ee ON ee.media_id = m.id;
