-- Characters, their links to stories, their reference images and variants.

CREATE TABLE webtoon.characters (
    character_id           uuid CONSTRAINT characters_pkey PRIMARY KEY,
    project_id             uuid CONSTRAINT characters_project_id_fkey
                           REFERENCES webtoon.projects (project_id) ON DELETE CASCADE,
    canonical_code         text,
    name                   text NOT NULL,
    description            text,
    role                   text NOT NULL DEFAULT 'secondary',
    gender                 text,
    age_range              text,
    appearance             jsonb,
    hair_description       text,
    base_outfit            text,
    identity_line          text,
    generation_prompt      text,
    display_name           text,
    default_image_style_id text,
    is_library_saved       boolean NOT NULL DEFAULT false,
    approved               boolean NOT NULL DEFAULT false,
    created_at             timestamptz NOT NULL DEFAULT now()
);
-- Also serves the look-up by project; a global actor (no project) shares codes with nobody.
CREATE UNIQUE INDEX characters_project_code_key
    ON webtoon.characters (project_id, canonical_code) WHERE canonical_code IS NOT NULL;
CREATE INDEX characters_project_id_idx ON webtoon.characters (project_id);
COMMENT ON COLUMN webtoon.characters.project_id IS 'NULL: a global actor, usable in every project.';
COMMENT ON COLUMN webtoon.characters.canonical_code IS
    'CHAR_A to CHAR_Z, CHAR_AA and so on, given by webtoon.allocate_canonical_code.';

CREATE TABLE webtoon.story_characters (
    story_id              uuid NOT NULL CONSTRAINT story_characters_story_id_fkey
                          REFERENCES webtoon.stories (story_id) ON DELETE CASCADE,
    character_id          uuid NOT NULL CONSTRAINT story_characters_character_id_fkey
                          REFERENCES webtoon.characters (character_id) ON DELETE CASCADE,
    narrative_description text,
    created_at            timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT story_characters_pkey PRIMARY KEY (story_id, character_id)
);
CREATE INDEX story_characters_character_id_idx ON webtoon.story_characters (character_id);

CREATE TABLE webtoon.character_reference_images (
    reference_image_id uuid CONSTRAINT character_reference_images_pkey PRIMARY KEY,
    character_id       uuid NOT NULL CONSTRAINT character_reference_images_character_id_fkey
                       REFERENCES webtoon.characters (character_id) ON DELETE CASCADE,
    image_url          text NOT NULL,
    ref_type           text NOT NULL DEFAULT 'face',
    approved           boolean NOT NULL DEFAULT false,
    is_primary         boolean NOT NULL DEFAULT false,
    metadata           jsonb NOT NULL DEFAULT '{}',
    created_at         timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX character_reference_images_character_id_idx
    ON webtoon.character_reference_images (character_id);

CREATE TABLE webtoon.character_variants (
    variant_id          uuid CONSTRAINT character_variants_pkey PRIMARY KEY,
    character_id        uuid NOT NULL CONSTRAINT character_variants_character_id_fkey
                        REFERENCES webtoon.characters (character_id) ON DELETE CASCADE,
    story_id            uuid CONSTRAINT character_variants_story_id_fkey
                        REFERENCES webtoon.stories (story_id) ON DELETE CASCADE,
    variant_type        text NOT NULL DEFAULT 'base',
    variant_name        text,
    image_style_id      text,
    traits              jsonb NOT NULL DEFAULT '{}',
    override_attributes jsonb NOT NULL DEFAULT '{}',
    reference_image_id  uuid CONSTRAINT character_variants_reference_image_id_fkey
                        REFERENCES webtoon.character_reference_images (reference_image_id)
                        ON DELETE SET NULL,
    generated_image_ids jsonb NOT NULL DEFAULT '[]',
    is_default          boolean NOT NULL DEFAULT false,
    is_active_for_story boolean NOT NULL DEFAULT false,
    created_at          timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX character_variants_character_id_idx ON webtoon.character_variants (character_id);
CREATE INDEX character_variants_story_id_idx ON webtoon.character_variants (story_id);
CREATE INDEX character_variants_reference_image_id_idx
    ON webtoon.character_variants (reference_image_id);

CREATE TABLE webtoon.character_variant_suggestions (
    suggestion_id       uuid CONSTRAINT character_variant_suggestions_pkey PRIMARY KEY,
    story_id            uuid NOT NULL CONSTRAINT character_variant_suggestions_story_id_fkey
                        REFERENCES webtoon.stories (story_id) ON DELETE CASCADE,
    character_id        uuid NOT NULL CONSTRAINT character_variant_suggestions_character_id_fkey
                        REFERENCES webtoon.characters (character_id) ON DELETE CASCADE,
    variant_type        text NOT NULL,
    override_attributes jsonb NOT NULL DEFAULT '{}',
    created_at          timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX character_variant_suggestions_story_id_idx
    ON webtoon.character_variant_suggestions (story_id);
CREATE INDEX character_variant_suggestions_character_id_idx
    ON webtoon.character_variant_suggestions (character_id);
