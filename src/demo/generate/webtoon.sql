-- The studio's tables, with the types that SQLAlchemy declares in SQLite.
CREATE TABLE projects (
    project_id CHAR(32) NOT NULL,
    name TEXT NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    PRIMARY KEY (project_id)
);
CREATE TABLE stories (
    story_id CHAR(32) NOT NULL,
    project_id CHAR(32) NOT NULL,
    title TEXT NOT NULL,
    default_image_style TEXT NOT NULL,
    generation_status TEXT NOT NULL,
    generation_error TEXT,
    progress JSON,
    progress_updated_at DATETIME,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    created_by TEXT,
    updated_by TEXT,
    PRIMARY KEY (story_id),
    FOREIGN KEY (project_id) REFERENCES projects (project_id) ON DELETE CASCADE
);
CREATE TABLE environment_anchors (
    environment_id CHAR(32) NOT NULL,
    description TEXT NOT NULL,
    usage_count INTEGER NOT NULL,
    anchor_type TEXT NOT NULL,
    reference_images JSON NOT NULL,
    locked_elements JSON NOT NULL,
    pinned BOOLEAN NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    PRIMARY KEY (environment_id)
);
CREATE TABLE scenes (
    scene_id CHAR(32) NOT NULL,
    story_id CHAR(32) NOT NULL,
    environment_id CHAR(32),
    source_text TEXT NOT NULL,
    scene_importance TEXT,
    planning_locked BOOLEAN NOT NULL,
    image_style_override TEXT,
    selected_render_artifact_id CHAR(32),
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    created_by TEXT,
    updated_by TEXT,
    PRIMARY KEY (scene_id),
    FOREIGN KEY (story_id) REFERENCES stories (story_id) ON DELETE CASCADE,
    FOREIGN KEY (environment_id) REFERENCES environment_anchors (environment_id) ON DELETE SET NULL,
    FOREIGN KEY (selected_render_artifact_id) REFERENCES artifacts (artifact_id) ON DELETE SET NULL
);
CREATE TABLE dialogue_layers (
    dialogue_id CHAR(32) NOT NULL,
    scene_id CHAR(32) NOT NULL UNIQUE,
    bubbles JSON NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    PRIMARY KEY (dialogue_id),
    FOREIGN KEY (scene_id) REFERENCES scenes (scene_id) ON DELETE CASCADE
);
CREATE TABLE layers (
    layer_id CHAR(32) NOT NULL,
    scene_id CHAR(32) NOT NULL,
    layer_type TEXT NOT NULL,
    objects JSON NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    PRIMARY KEY (layer_id),
    FOREIGN KEY (scene_id) REFERENCES scenes (scene_id) ON DELETE CASCADE
);
CREATE TABLE characters (
    character_id CHAR(32) NOT NULL,
    project_id CHAR(32),
    canonical_code TEXT,
    name TEXT NOT NULL,
    description TEXT,
    role TEXT NOT NULL,
    gender TEXT,
    age_range TEXT,
    appearance JSON,
    hair_description TEXT,
    base_outfit TEXT,
    identity_line TEXT,
    generation_prompt TEXT,
    display_name TEXT,
    default_image_style_id TEXT,
    is_library_saved BOOLEAN NOT NULL,
    approved BOOLEAN NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    PRIMARY KEY (character_id),
    FOREIGN KEY (project_id) REFERENCES projects (project_id) ON DELETE CASCADE
);
CREATE TABLE story_characters (
    story_id CHAR(32) NOT NULL,
    character_id CHAR(32) NOT NULL,
    narrative_description TEXT,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    PRIMARY KEY (story_id, character_id),
    FOREIGN KEY (story_id) REFERENCES stories (story_id) ON DELETE CASCADE,
    FOREIGN KEY (character_id) REFERENCES characters (character_id) ON DELETE CASCADE
);
CREATE TABLE character_reference_images (
    reference_image_id CHAR(32) NOT NULL,
    character_id CHAR(32) NOT NULL,
    image_url TEXT NOT NULL,
    ref_type TEXT NOT NULL,
    approved BOOLEAN NOT NULL,
    is_primary BOOLEAN NOT NULL,
    metadata JSON NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    PRIMARY KEY (reference_image_id),
    FOREIGN KEY (character_id) REFERENCES characters (character_id) ON DELETE CASCADE
);
CREATE TABLE character_variants (
    variant_id CHAR(32) NOT NULL,
    character_id CHAR(32) NOT NULL,
    story_id CHAR(32),
    variant_type TEXT NOT NULL,
    variant_name TEXT,
    image_style_id TEXT,
    traits JSON NOT NULL,
    override_attributes JSON NOT NULL,
    reference_image_id CHAR(32),
    generated_image_ids JSON NOT NULL,
    is_default BOOLEAN NOT NULL,
    is_active_for_story BOOLEAN NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    PRIMARY KEY (variant_id),
    FOREIGN KEY (character_id) REFERENCES characters (character_id) ON DELETE CASCADE,
    FOREIGN KEY (story_id) REFERENCES stories (story_id) ON DELETE CASCADE,
    FOREIGN KEY (reference_image_id) REFERENCES character_reference_images (reference_image_id) ON DELETE SET NULL
);
CREATE TABLE character_variant_suggestions (
    suggestion_id CHAR(32) NOT NULL,
    story_id CHAR(32) NOT NULL,
    character_id CHAR(32) NOT NULL,
    variant_type TEXT NOT NULL,
    override_attributes JSON NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    PRIMARY KEY (suggestion_id),
    FOREIGN KEY (story_id) REFERENCES stories (story_id) ON DELETE CASCADE,
    FOREIGN KEY (character_id) REFERENCES characters (character_id) ON DELETE CASCADE
);
CREATE TABLE artifacts (
    artifact_id CHAR(32) NOT NULL,
    scene_id CHAR(32) NOT NULL,
    type TEXT NOT NULL,
    version INTEGER NOT NULL,
    parent_id CHAR(32),
    payload JSON NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    created_by TEXT,
    updated_by TEXT,
    PRIMARY KEY (artifact_id),
    FOREIGN KEY (scene_id) REFERENCES scenes (scene_id) ON DELETE CASCADE,
    FOREIGN KEY (parent_id) REFERENCES artifacts (artifact_id) ON DELETE SET NULL
);
CREATE TABLE images (
    image_id CHAR(32) NOT NULL,
    artifact_id CHAR(32),
    image_url TEXT NOT NULL,
    metadata JSON NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    PRIMARY KEY (image_id),
    FOREIGN KEY (artifact_id) REFERENCES artifacts (artifact_id) ON DELETE SET NULL
);
CREATE TABLE style_presets (
    preset_id CHAR(32) NOT NULL,
    project_id CHAR(32),
    parent_id CHAR(32),
    style_type TEXT NOT NULL,
    name TEXT NOT NULL,
    label TEXT NOT NULL,
    description TEXT,
    style_config JSON NOT NULL,
    is_system BOOLEAN NOT NULL,
    is_active BOOLEAN NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    PRIMARY KEY (preset_id),
    FOREIGN KEY (project_id) REFERENCES projects (project_id) ON DELETE CASCADE,
    FOREIGN KEY (parent_id) REFERENCES style_presets (preset_id) ON DELETE SET NULL
);
CREATE TABLE episodes (
    episode_id CHAR(32) NOT NULL,
    story_id CHAR(32) NOT NULL,
    title TEXT NOT NULL,
    default_image_style TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    PRIMARY KEY (episode_id),
    FOREIGN KEY (story_id) REFERENCES stories (story_id) ON DELETE CASCADE
);
CREATE TABLE episode_scenes (
    episode_scene_id CHAR(32) NOT NULL,
    episode_id CHAR(32) NOT NULL,
    scene_id CHAR(32) NOT NULL,
    order_index INTEGER NOT NULL,
    PRIMARY KEY (episode_scene_id),
    FOREIGN KEY (episode_id) REFERENCES episodes (episode_id) ON DELETE CASCADE,
    FOREIGN KEY (scene_id) REFERENCES scenes (scene_id) ON DELETE CASCADE
);
CREATE TABLE episode_assets (
    episode_asset_id CHAR(32) NOT NULL,
    episode_id CHAR(32) NOT NULL,
    asset_type TEXT NOT NULL,
    asset_id CHAR(32) NOT NULL,
    PRIMARY KEY (episode_asset_id),
    FOREIGN KEY (episode_id) REFERENCES episodes (episode_id) ON DELETE CASCADE
);
CREATE TABLE exports (
    export_id CHAR(32) NOT NULL,
    scene_id CHAR(32),
    episode_id CHAR(32),
    status TEXT NOT NULL,
    output_url TEXT,
    metadata JSON NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    PRIMARY KEY (export_id),
    FOREIGN KEY (scene_id) REFERENCES scenes (scene_id) ON DELETE SET NULL,
    FOREIGN KEY (episode_id) REFERENCES episodes (episode_id) ON DELETE SET NULL
);
CREATE TABLE audit_logs (
    audit_id CHAR(32) NOT NULL,
    entity_type TEXT NOT NULL,
    entity_id CHAR(32) NOT NULL,
    action TEXT NOT NULL,
    timestamp DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    request_id TEXT,
    old_value JSON,
    new_value JSON,
    PRIMARY KEY (audit_id)
);
