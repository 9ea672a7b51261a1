-- Versioned outputs of generation, and the images made from them.

CREATE TABLE webtoon.artifacts (
    artifact_id uuid CONSTRAINT artifacts_pkey PRIMARY KEY,
    scene_id    uuid NOT NULL CONSTRAINT artifacts_scene_id_fkey
                REFERENCES webtoon.scenes (scene_id) ON DELETE CASCADE,
    type        text NOT NULL,
    version     integer NOT NULL,
    parent_id   uuid CONSTRAINT artifacts_parent_id_fkey
                REFERENCES webtoon.artifacts (artifact_id) ON DELETE SET NULL
                DEFERRABLE INITIALLY IMMEDIATE,
    payload     jsonb NOT NULL DEFAULT '{}',
    created_at  timestamptz NOT NULL DEFAULT now(),
    created_by  text,
    updated_by  text,
    CONSTRAINT artifacts_version_key UNIQUE (scene_id, type, version)
);
-- The latest version of a scene's type, which is also what the next one is computed from.
CREATE INDEX artifacts_latest_version_idx
    ON webtoon.artifacts (scene_id, type, version DESC) INCLUDE (artifact_id);
CREATE INDEX artifacts_parent_id_idx ON webtoon.artifacts (parent_id);
COMMENT ON TABLE webtoon.artifacts IS
    'Versioned intermediate outputs; versions count from 1 within (scene_id, type).';

-- Scenes and artifacts refer to each other. Deferrable, so that one transaction may write both.
ALTER TABLE webtoon.scenes ADD CONSTRAINT scenes_selected_render_artifact_id_fkey
    FOREIGN KEY (selected_render_artifact_id) REFERENCES webtoon.artifacts (artifact_id)
    ON DELETE SET NULL DEFERRABLE INITIALLY IMMEDIATE;

CREATE TABLE webtoon.images (
    image_id    uuid CONSTRAINT images_pkey PRIMARY KEY,
    artifact_id uuid CONSTRAINT images_artifact_id_fkey
                REFERENCES webtoon.artifacts (artifact_id) ON DELETE SET NULL,
    image_url   text NOT NULL,
    metadata    jsonb NOT NULL DEFAULT '{}',
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX images_artifact_id_idx ON webtoon.images (artifact_id);
