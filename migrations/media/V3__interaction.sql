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

-- Why a smart list's definition is none; NULL where it is one. `toolkit::media::filter` reads the
-- same definitions.
CREATE FUNCTION interaction.filter_fault(definition jsonb, depth integer DEFAULT 0) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    field   text;
    op      text;
    wanted  jsonb;
    parts   jsonb;
    part    jsonb;
    fault   text;
    kind    text;
BEGIN
    IF jsonb_typeof(definition) IS DISTINCT FROM 'object' THEN
        RETURN 'a group or a condition is an object';
    END IF;
    IF depth > 16 THEN
        RETURN 'groups are nested more than 16 deep';
    END IF;
    parts := coalesce(definition -> 'all', definition -> 'any');
    IF jsonb_typeof(parts) = 'array' THEN
        IF (SELECT count(*) FROM jsonb_object_keys(definition)) <> 1 THEN
            RETURN 'a group is `all` or `any`';
        END IF;
        IF jsonb_array_length(parts) = 0 THEN
            RETURN 'a group has at least one condition';
        END IF;
        IF depth = 0 AND jsonb_array_length(
            jsonb_path_query_array(definition, 'strict $.**.op')) > 256 THEN
            RETURN 'there are more than 256 conditions';
        END IF;
        FOR part IN SELECT e FROM jsonb_array_elements(parts) AS e LOOP
            fault := interaction.filter_fault(part, depth + 1);
            IF fault IS NOT NULL THEN
                RETURN fault;
            END IF;
        END LOOP;
        RETURN NULL;
    END IF;
    IF depth = 0 THEN
        RETURN 'a definition is {"all": [...]} or {"any": [...]}';
    END IF;
    IF ARRAY(SELECT k FROM jsonb_object_keys(definition) AS k ORDER BY k)
       <> ARRAY['field', 'op', 'value'] THEN
        RETURN 'a condition has `field`, `op` and `value`, a group `all` or `any`';
    END IF;
    IF jsonb_typeof(definition -> 'field') <> 'string'
       OR jsonb_typeof(definition -> 'op') <> 'string' THEN
        RETURN 'field and op are texts';
    END IF;
    field := definition ->> 'field';
    op := definition ->> 'op';
    kind := CASE
        WHEN field IN ('title', 'media_type', 'country_of_origin') THEN 'text'
        WHEN field IN ('media_class', 'creators', 'release_date', 'status', 'rating') THEN field
        WHEN field LIKE 'attributes._%' THEN 'attribute'
    END;
    IF kind IS NULL THEN
        RETURN 'there is no field ' || field;
    END IF;
    IF op <> ALL (CASE kind
        WHEN 'media_class' THEN ARRAY['eq', 'ne', 'in', 'descendant_of']
        WHEN 'creators' THEN ARRAY['contains', 'in']
        WHEN 'status' THEN ARRAY['eq', 'ne', 'in']
        WHEN 'release_date' THEN ARRAY['eq', 'ne', 'in', 'lt', 'le', 'gt', 'ge']
        WHEN 'rating' THEN ARRAY['eq', 'ne', 'in', 'lt', 'le', 'gt', 'ge']
        ELSE ARRAY['eq', 'ne', 'in', 'lt', 'le', 'gt', 'ge', 'contains'] END) THEN
        RETURN op || ' cannot be asked of ' || field;
    END IF;
    wanted := definition -> 'value';
    IF op <> 'in' THEN
        wanted := jsonb_build_array(wanted);
    ELSIF jsonb_typeof(wanted) <> 'array' OR jsonb_array_length(wanted) = 0 THEN
        RETURN 'in takes a list of one or more';
    END IF;
    FOR part IN SELECT e FROM jsonb_array_elements(wanted) AS e LOOP
        fault := CASE
            WHEN kind = 'rating' AND jsonb_typeof(part) <> 'number' THEN 'a number'
            WHEN kind = 'attribute' AND jsonb_typeof(part) NOT IN ('string', 'number')
                 AND (jsonb_typeof(part) <> 'boolean' OR op IN ('lt', 'le', 'gt', 'ge'))
                THEN 'a text, a number, true or false'
            WHEN kind NOT IN ('rating', 'attribute') AND jsonb_typeof(part) <> 'string'
                THEN 'a text'
            WHEN kind = 'media_class'
                 AND part #>> '{}' !~ '^[A-Za-z0-9_]{1,255}([.][A-Za-z0-9_]{1,255})*$'
                THEN 'labels of letters, digits and _ joined by dots'
            WHEN kind = 'release_date' AND NOT interaction.is_date(part #>> '{}')
                THEN 'a date YYYY-MM-DD'
        END;
        IF fault IS NOT NULL THEN
            RETURN field || ' takes another value: ' || fault;
        END IF;
    END LOOP;
    RETURN NULL;
END
$$;

CREATE FUNCTION interaction.is_date(text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN $1 ~ '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$' AND $1 !~ '^0000'
            THEN substr($1, 9)::integer <= extract(day FROM
                make_date(substr($1, 1, 4)::integer, substr($1, 6, 2)::integer, 1)
                + interval '1 month' - interval '1 day')
            ELSE false END;

CREATE TABLE interaction.user_lists (
    id                uuid CONSTRAINT user_lists_pkey PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id           uuid NOT NULL CONSTRAINT user_lists_user_id_fkey
                      REFERENCES users.users (id) ON DELETE CASCADE,
    name              text NOT NULL,
    description       text,
    is_public         boolean NOT NULL DEFAULT false,
    list_type         text NOT NULL CONSTRAINT user_lists_list_type_check
                      CHECK (list_type IN ('static', 'smart')),
    filter_definition jsonb CONSTRAINT user_lists_filter_definition_check
                      CHECK (interaction.filter_fault(filter_definition) IS NULL
                             OR filter_definition IS NULL),
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT user_lists_smart_check
        CHECK (list_type <> 'smart' OR filter_definition IS NOT NULL)
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
