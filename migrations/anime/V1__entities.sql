-- What there is: anime, manga and other original works, episodes, characters, companies, and the
-- keys under which other platforms know them.
--
-- References to anime follow a change of its id: an entry of the offline database is known by a
-- derived id until an artifact names its own.

CREATE TABLE anime (
    id               uuid CONSTRAINT anime_pkey PRIMARY KEY,
    title            text NOT NULL,
    title_english    text,
    title_japanese   text,
    type             text NOT NULL CONSTRAINT anime_type_check CHECK (type IN
                     ('TV', 'TV_SHORT', 'TV_SPECIAL', 'MOVIE', 'OVA', 'ONA', 'SPECIAL', 'MUSIC',
                      'MUSIC_VIDEO', 'PV', 'CM', 'UNKNOWN')),
    status           text NOT NULL CONSTRAINT anime_status_check CHECK (status IN
                     ('UPCOMING', 'ONGOING', 'FINISHED', 'CANCELLED', 'UNKNOWN')),
    rating           text,
    season           text,
    year             int,
    episode_count    int NOT NULL DEFAULT 0,
    duration_seconds int,
    nsfw             boolean,
    synopsis         text,
    background       text,
    meta             jsonb NOT NULL DEFAULT '{}',
    raw_by_source    jsonb NOT NULL DEFAULT '{}',
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE anime IS 'Every anime once, under its canonical id.';
COMMENT ON COLUMN anime.meta IS 'What the artifact says that has no column here.';
COMMENT ON COLUMN anime.raw_by_source IS 'What the artifact keeps per platform.';

CREATE TABLE manga (
    id             uuid CONSTRAINT manga_pkey PRIMARY KEY,
    title          text NOT NULL,
    title_english  text,
    title_japanese text,
    meta           jsonb NOT NULL DEFAULT '{}',
    raw_by_source  jsonb NOT NULL DEFAULT '{}',
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE manga IS 'Every manga once, under its canonical id.';

CREATE TABLE original_work (
    id             uuid CONSTRAINT original_work_pkey PRIMARY KEY,
    kind           text NOT NULL,
    title          text NOT NULL,
    title_english  text,
    title_japanese text,
    meta           jsonb NOT NULL DEFAULT '{}',
    raw_by_source  jsonb NOT NULL DEFAULT '{}',
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE original_work IS 'Novels, games and other originals; manga has a table of its own.';

CREATE TABLE episode (
    id               uuid CONSTRAINT episode_pkey PRIMARY KEY,
    anime_id         uuid NOT NULL CONSTRAINT episode_anime_id_fkey
                     REFERENCES anime (id) ON UPDATE CASCADE ON DELETE CASCADE,
    episode_number   int NOT NULL,
    season_number    int,
    title            text NOT NULL,
    title_japanese   text,
    title_romaji     text,
    synopsis         text,
    aired_at         timestamptz,
    duration_seconds int,
    filler           boolean NOT NULL DEFAULT false,
    recap            boolean NOT NULL DEFAULT false,
    score            numeric,
    meta             jsonb NOT NULL DEFAULT '{}',
    raw_by_source    jsonb NOT NULL DEFAULT '{}',
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT episode_anime_id_episode_number_key UNIQUE (anime_id, episode_number)
);
CREATE INDEX episode_anime_id_idx ON episode (anime_id);
COMMENT ON TABLE episode IS 'Episodes, by anime and number.';

CREATE TABLE character (
    id            uuid CONSTRAINT character_pkey PRIMARY KEY,
    name          text NOT NULL,
    name_native   text,
    description   text,
    gender        text,
    age           text,
    favorites     int,
    meta          jsonb NOT NULL DEFAULT '{}',
    raw_by_source jsonb NOT NULL DEFAULT '{}',
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE character IS 'Every character once, however many anime it appears in.';

CREATE TABLE character_alias (
    character_id uuid NOT NULL CONSTRAINT character_alias_character_id_fkey
                 REFERENCES character (id) ON DELETE CASCADE,
    alias        text NOT NULL,
    CONSTRAINT character_alias_pkey PRIMARY KEY (character_id, alias)
);
COMMENT ON TABLE character_alias IS 'Other names of a character.';

CREATE TABLE anime_character (
    anime_id      uuid NOT NULL CONSTRAINT anime_character_anime_id_fkey
                  REFERENCES anime (id) ON UPDATE CASCADE ON DELETE CASCADE,
    character_id  uuid NOT NULL CONSTRAINT anime_character_character_id_fkey
                  REFERENCES character (id) ON DELETE RESTRICT,
    role          text,
    billing_order int,
    meta          jsonb NOT NULL DEFAULT '{}',
    CONSTRAINT anime_character_pkey PRIMARY KEY (anime_id, character_id)
);
CREATE INDEX anime_character_character_id_idx ON anime_character (character_id);
COMMENT ON TABLE anime_character IS 'Which character appears in which anime, and as what.';
COMMENT ON COLUMN anime_character.meta IS
    'What this anime says of the character: voice actors, and what differs from its own row.';

CREATE TABLE company (
    id          uuid CONSTRAINT company_pkey PRIMARY KEY,
    name        text NOT NULL,
    description text
);
CREATE INDEX company_name_idx ON company (lower(name));
COMMENT ON TABLE company IS 'Studios, producers and licensors, known by their names.';

CREATE TABLE anime_company (
    anime_id   uuid NOT NULL CONSTRAINT anime_company_anime_id_fkey
               REFERENCES anime (id) ON UPDATE CASCADE ON DELETE CASCADE,
    company_id uuid NOT NULL CONSTRAINT anime_company_company_id_fkey
               REFERENCES company (id) ON DELETE RESTRICT,
    role       text NOT NULL CONSTRAINT anime_company_role_check
               CHECK (role IN ('studio', 'producer', 'licensor')),
    CONSTRAINT anime_company_pkey PRIMARY KEY (anime_id, company_id, role)
);
CREATE INDEX anime_company_company_id_idx ON anime_company (company_id, role);
COMMENT ON TABLE anime_company IS 'Who made, paid for or licensed an anime.';

CREATE TABLE anime_xref (
    anime_id    uuid NOT NULL CONSTRAINT anime_xref_anime_id_fkey
                REFERENCES anime (id) ON UPDATE CASCADE ON DELETE CASCADE,
    source      text NOT NULL,
    external_id text NOT NULL,
    url         text,
    meta        jsonb NOT NULL DEFAULT '{}',
    CONSTRAINT anime_xref_pkey PRIMARY KEY (source, external_id),
    CONSTRAINT anime_xref_anime_id_source_key UNIQUE (anime_id, source)
);
COMMENT ON TABLE anime_xref IS 'The one id by which each platform knows an anime.';

CREATE TABLE manga_xref (
    manga_id    uuid NOT NULL CONSTRAINT manga_xref_manga_id_fkey
                REFERENCES manga (id) ON DELETE CASCADE,
    source      text NOT NULL,
    external_id text NOT NULL,
    url         text,
    meta        jsonb NOT NULL DEFAULT '{}',
    CONSTRAINT manga_xref_pkey PRIMARY KEY (source, external_id),
    CONSTRAINT manga_xref_manga_id_source_key UNIQUE (manga_id, source)
);
COMMENT ON TABLE manga_xref IS 'The one id by which each platform knows a manga.';

CREATE TABLE original_work_xref (
    work_id     uuid NOT NULL CONSTRAINT original_work_xref_work_id_fkey
                REFERENCES original_work (id) ON DELETE CASCADE,
    source      text NOT NULL,
    external_id text NOT NULL,
    url         text,
    meta        jsonb NOT NULL DEFAULT '{}',
    CONSTRAINT original_work_xref_pkey PRIMARY KEY (source, external_id),
    CONSTRAINT original_work_xref_work_id_source_key UNIQUE (work_id, source)
);
COMMENT ON TABLE original_work_xref IS 'The one id by which each platform knows an original work.';
