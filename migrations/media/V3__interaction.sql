-- What users track, partitioned by user so that every question about one user reads one partition,
-- and their lists.

CREATE TABLE interaction.user_media (
    user_id       uuid NOT NULL CONSTRAINT user_media_user_id_fkey
                  REFERENCES users.users (id) ON DELETE CASCADE,
    media_id      uuid NOT NULL CONSTRAINT user_media_media_id_fkey
                  REFERENCES media.media (id) ON DELETE CASCADE,
    status        text NOT NULL DEFAULT 'planned' CONSTRAINT user_media_status_check
                  CHECK (status IN ('planned', 'in-progress', 'completed', 'dropped')),
    progress      integer,
    rating        smallint CONSTRAINT user_media_rating_check CHECK (rating >= 1 AND rating <= 10),
    notes         text,
    started_at    timestamptz,
    completed_at  timestamptz,
    meta_snapshot jsonb NOT NULL DEFAULT '{}',
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT user_media_pkey PRIMARY KEY (user_id, media_id)
) PARTITION BY HASH (user_id);
COMMENT ON TABLE interaction.user_media IS
    'What each user tracks. toolkit media repartition raises the number of partitions.';

DO $$
BEGIN
    FOR remainder IN 0..15 LOOP
        EXECUTE format('CREATE TABLE interaction.user_media_p%s PARTITION OF interaction.user_media
                        FOR VALUES WITH (MODULUS 16, REMAINDER %s)', remainder, remainder);
    END LOOP;
END
$$;

CREATE INDEX idx_user_media_user_id ON interaction.user_media (user_id);
CREATE INDEX idx_user_media_user_status ON interaction.user_media (user_id, status);
CREATE INDEX idx_user_media_media_id ON interaction.user_media (media_id);
CREATE INDEX idx_user_media_status ON interaction.user_media (status);

CREATE TABLE interaction.user_lists (
    id                uuid CONSTRAINT user_lists_pkey PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id           uuid NOT NULL CONSTRAINT user_lists_user_id_fkey
                      REFERENCES users.users (id) ON DELETE CASCADE,
    name              text NOT NULL,
    description       text,
    is_public         boolean NOT NULL DEFAULT false,
    list_type         text NOT NULL CONSTRAINT user_lists_list_type_check
                      CHECK (list_type IN ('static', 'smart')),
    filter_definition jsonb,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX idx_user_lists_user_id ON interaction.user_lists (user_id);
COMMENT ON TABLE interaction.user_lists IS
    'Lists of users; a smart one is what its filter_definition matches.';

CREATE TABLE interaction.list_items (
    list_id  uuid NOT NULL CONSTRAINT list_items_list_id_fkey
             REFERENCES interaction.user_lists (id) ON DELETE CASCADE,
    media_id uuid NOT NULL CONSTRAINT list_items_media_id_fkey
             REFERENCES media.media (id) ON DELETE CASCADE,
    position integer,
    added_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT list_items_pkey PRIMARY KEY (list_id, media_id)
);
CREATE INDEX idx_list_items_media_id ON interaction.list_items (media_id);
COMMENT ON TABLE interaction.list_items IS 'The media of a static list, in order.';

-- The document's first draft had a table of this name.
CREATE VIEW interaction.smart_lists AS
    SELECT id AS list_id, filter_definition FROM interaction.user_lists
     WHERE list_type = 'smart' AND filter_definition IS NOT NULL;
