-- Style presets, episodes, exports and the audit trail.

CREATE TABLE webtoon.style_presets (
    preset_id    uuid CONSTRAINT style_presets_pkey PRIMARY KEY,
    project_id   uuid CONSTRAINT style_presets_project_id_fkey
                 REFERENCES webtoon.projects (project_id) ON DELETE CASCADE,
    parent_id    uuid CONSTRAINT style_presets_parent_id_fkey
                 REFERENCES webtoon.style_presets (preset_id) ON DELETE SET NULL
                 DEFERRABLE INITIALLY IMMEDIATE,
    style_type   text NOT NULL,
    name         text NOT NULL,
    label        text NOT NULL,
    description  text,
    style_config jsonb NOT NULL DEFAULT '{}',
    is_system    boolean NOT NULL DEFAULT false,
    is_active    boolean NOT NULL DEFAULT true,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX style_presets_project_id_idx ON webtoon.style_presets (project_id);
CREATE INDEX style_presets_parent_id_idx ON webtoon.style_presets (parent_id);
-- A scene names its style; this finds the preset of that name.
CREATE INDEX style_presets_name_idx ON webtoon.style_presets (name);

CREATE TABLE webtoon.episodes (
    episode_id          uuid CONSTRAINT episodes_pkey PRIMARY KEY,
    story_id            uuid NOT NULL CONSTRAINT episodes_story_id_fkey
                        REFERENCES webtoon.stories (story_id) ON DELETE CASCADE,
    title               text NOT NULL,
    default_image_style text NOT NULL DEFAULT 'default',
    status              text NOT NULL DEFAULT 'draft',
    created_at          timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX episodes_story_id_idx ON webtoon.episodes (story_id);

CREATE TABLE webtoon.episode_scenes (
    episode_scene_id uuid CONSTRAINT episode_scenes_pkey PRIMARY KEY,
    episode_id       uuid NOT NULL CONSTRAINT episode_scenes_episode_id_fkey
                     REFERENCES webtoon.episodes (episode_id) ON DELETE CASCADE,
    scene_id         uuid NOT NULL CONSTRAINT episode_scenes_scene_id_fkey
                     REFERENCES webtoon.scenes (scene_id) ON DELETE CASCADE,
    order_index      integer NOT NULL
);
-- Serves the foreign key and the order of an episode's scenes.
CREATE INDEX episode_scenes_order_idx ON webtoon.episode_scenes (episode_id, order_index);
CREATE INDEX episode_scenes_scene_id_idx ON webtoon.episode_scenes (scene_id);

CREATE TABLE webtoon.episode_assets (
    episode_asset_id uuid CONSTRAINT episode_assets_pkey PRIMARY KEY,
    episode_id       uuid NOT NULL CONSTRAINT episode_assets_episode_id_fkey
                     REFERENCES webtoon.episodes (episode_id) ON DELETE CASCADE,
    asset_type       text NOT NULL,
    asset_id         uuid NOT NULL
);
CREATE INDEX episode_assets_episode_id_idx ON webtoon.episode_assets (episode_id);
COMMENT ON COLUMN webtoon.episode_assets.asset_id IS
    'A reference without a key: what it names may be gone (webtoon.soft_references counts).';

CREATE TABLE webtoon.exports (
    export_id  uuid CONSTRAINT exports_pkey PRIMARY KEY,
    scene_id   uuid CONSTRAINT exports_scene_id_fkey
               REFERENCES webtoon.scenes (scene_id) ON DELETE SET NULL,
    episode_id uuid CONSTRAINT exports_episode_id_fkey
               REFERENCES webtoon.episodes (episode_id) ON DELETE SET NULL,
    status     text NOT NULL,
    output_url text,
    metadata   jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX exports_scene_id_idx ON webtoon.exports (scene_id);
CREATE INDEX exports_episode_id_idx ON webtoon.exports (episode_id);
CREATE INDEX exports_status_idx ON webtoon.exports (status);

CREATE TABLE webtoon.audit_logs (
    audit_id    uuid CONSTRAINT audit_logs_pkey PRIMARY KEY,
    entity_type text NOT NULL,
    entity_id   uuid NOT NULL,
    action      text NOT NULL,
    timestamp   timestamptz NOT NULL DEFAULT now(),
    request_id  text,
    old_value   jsonb,
    new_value   jsonb
);
CREATE INDEX audit_logs_entity_idx
    ON webtoon.audit_logs (entity_type, entity_id, timestamp DESC);
CREATE INDEX audit_logs_request_id_idx ON webtoon.audit_logs (request_id, timestamp);
COMMENT ON COLUMN webtoon.audit_logs.entity_id IS
    'A reference without a key: the trail outlives what it is about.';
