-- Projects, stories and scenes, and what a scene is made of.
-- Value sets stay open (no CHECK): document and application disagree on them, and the view
-- webtoon.value_drift reports what lies outside the documented lists.

CREATE SCHEMA IF NOT EXISTS webtoon;
COMMENT ON SCHEMA webtoon IS 'Story production: stories, scenes, characters, artifacts, episodes.';

CREATE TABLE webtoon.projects (
    project_id uuid CONSTRAINT projects_pkey PRIMARY KEY,
    name       text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE webtoon.projects IS 'The top-level container of all content.';

CREATE TABLE webtoon.stories (
    story_id            uuid CONSTRAINT stories_pkey PRIMARY KEY,
    project_id          uuid NOT NULL CONSTRAINT stories_project_id_fkey
                        REFERENCES webtoon.projects (project_id) ON DELETE CASCADE,
    title               text NOT NULL,
    default_image_style text NOT NULL DEFAULT 'default',
    generation_status   text NOT NULL DEFAULT 'idle',
    generation_error    text,
    progress            jsonb,
    progress_updated_at timestamptz,
    updated_at          timestamptz NOT NULL DEFAULT now(),
    created_at          timestamptz NOT NULL DEFAULT now(),
    created_by          text,
    updated_by          text
);
CREATE INDEX stories_project_id_idx ON webtoon.stories (project_id);
COMMENT ON TABLE webtoon.stories IS 'A narrative, with the state of its generation.';

CREATE TABLE webtoon.environment_anchors (
    environment_id   uuid CONSTRAINT environment_anchors_pkey PRIMARY KEY,
    description      text NOT NULL,
    usage_count      integer NOT NULL DEFAULT 0,
    anchor_type      text NOT NULL DEFAULT 'descriptive',
    reference_images jsonb NOT NULL DEFAULT '[]',
    locked_elements  jsonb NOT NULL DEFAULT '[]',
    pinned           boolean NOT NULL DEFAULT false,
    created_at       timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN webtoon.environment_anchors.usage_count IS
    'Scenes that use the environment, as the application counted; webtoon.environment_usage checks it.';

-- selected_render_artifact_id refers to artifacts, which refer to scenes: V3 adds that key.
CREATE TABLE webtoon.scenes (
    scene_id                    uuid CONSTRAINT scenes_pkey PRIMARY KEY,
    story_id                    uuid NOT NULL CONSTRAINT scenes_story_id_fkey
                                REFERENCES webtoon.stories (story_id) ON DELETE CASCADE,
    environment_id              uuid CONSTRAINT scenes_environment_id_fkey
                                REFERENCES webtoon.environment_anchors (environment_id)
                                ON DELETE SET NULL,
    source_text                 text NOT NULL,
    scene_importance            text,
    planning_locked             boolean NOT NULL DEFAULT false,
    image_style_override        text,
    selected_render_artifact_id uuid,
    created_at                  timestamptz NOT NULL DEFAULT now(),
    updated_at                  timestamptz NOT NULL DEFAULT now(),
    created_by                  text,
    updated_by                  text
);
CREATE INDEX scenes_story_id_idx ON webtoon.scenes (story_id);
CREATE INDEX scenes_environment_id_idx ON webtoon.scenes (environment_id);
CREATE INDEX scenes_selected_render_artifact_id_idx
    ON webtoon.scenes (selected_render_artifact_id);
COMMENT ON TABLE webtoon.scenes IS 'A unit of narrative that becomes one or more panels.';

CREATE TABLE webtoon.dialogue_layers (
    dialogue_id uuid CONSTRAINT dialogue_layers_pkey PRIMARY KEY,
    scene_id    uuid NOT NULL CONSTRAINT dialogue_layers_scene_id_key UNIQUE
                CONSTRAINT dialogue_layers_scene_id_fkey
                REFERENCES webtoon.scenes (scene_id) ON DELETE CASCADE,
    bubbles     jsonb NOT NULL DEFAULT '[]',
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE webtoon.layers (
    layer_id   uuid CONSTRAINT layers_pkey PRIMARY KEY,
    scene_id   uuid NOT NULL CONSTRAINT layers_scene_id_fkey
               REFERENCES webtoon.scenes (scene_id) ON DELETE CASCADE,
    layer_type text NOT NULL,
    objects    jsonb NOT NULL DEFAULT '[]',
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX layers_scene_id_idx ON webtoon.layers (scene_id);
