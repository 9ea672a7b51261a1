-- The questions the studio's document asks of its database, as views and functions.

CREATE VIEW webtoon.project_characters AS
    SELECT project_id, canonical_code, name, role, gender, age_range, character_id,
           webtoon.canonical_number(canonical_code) AS code_number
      FROM webtoon.characters WHERE project_id IS NOT NULL;
COMMENT ON VIEW webtoon.project_characters IS 'Character assignments of a project.';

CREATE VIEW webtoon.global_actors AS
    SELECT character_id, name, display_name, is_library_saved, approved
      FROM webtoon.characters WHERE project_id IS NULL;

CREATE VIEW webtoon.shared_characters AS
    SELECT character_id, c.name, count(*) AS stories,
           array_agg(story_id ORDER BY story_id) AS story_ids
      FROM webtoon.story_characters JOIN webtoon.characters c USING (character_id)
     GROUP BY character_id, c.name HAVING count(*) > 1;
COMMENT ON VIEW webtoon.shared_characters IS 'Characters that appear in more than one story.';

CREATE VIEW webtoon.active_variants AS
    SELECT story_id, variant_id, character_id, variant_name, variant_type, is_active_for_story
      FROM webtoon.character_variants WHERE is_active_for_story;

CREATE VIEW webtoon.story_generation AS
    SELECT story_id, title, generation_status, generation_error, progress, progress_updated_at
      FROM webtoon.stories;

-- A style is named, not referenced. A preset of the story's project wins over a system preset,
-- an active one over an inactive one.
CREATE VIEW webtoon.scene_styles AS
    SELECT s.scene_id, s.story_id, s.planning_locked, s.image_style_override,
           st.default_image_style,
           coalesce(s.image_style_override, st.default_image_style) AS image_style,
           CASE WHEN s.image_style_override IS NULL THEN 'story' ELSE 'scene' END AS decided_by,
           preset.preset_id
      FROM webtoon.scenes s
      JOIN webtoon.stories st USING (story_id)
      LEFT JOIN LATERAL (
          SELECT p.preset_id FROM webtoon.style_presets p
           WHERE p.name = coalesce(s.image_style_override, st.default_image_style)
             AND (p.project_id = st.project_id OR p.project_id IS NULL)
           ORDER BY p.project_id IS NULL, NOT p.is_active, p.preset_id LIMIT 1) preset ON true;
COMMENT ON VIEW webtoon.scene_styles IS
    'The style of each scene: its own override, or else its story''s default; preset_id where a preset bears that name.';

CREATE VIEW webtoon.scenes_in_order AS
    SELECT es.episode_id, es.order_index, s.scene_id, s.source_text
      FROM webtoon.episode_scenes es JOIN webtoon.scenes s USING (scene_id);

-- Columns under the names that the application's code gives them.
CREATE VIEW webtoon.export_jobs AS
    SELECT export_id, scene_id, episode_id, status, output_url, metadata AS metadata_, created_at
      FROM webtoon.exports;
CREATE VIEW webtoon.image_records AS
    SELECT image_id, artifact_id, image_url, metadata AS metadata_, created_at FROM webtoon.images;
CREATE VIEW webtoon.reference_images AS
    SELECT reference_image_id, character_id, image_url, ref_type, approved, is_primary,
           metadata AS metadata_, created_at
      FROM webtoon.character_reference_images;

CREATE VIEW webtoon.latest_artifacts AS
    SELECT DISTINCT ON (scene_id, type)
           scene_id, type, version AS latest_version, artifact_id
      FROM webtoon.artifacts ORDER BY scene_id, type, version DESC;

-- The unique key excludes duplicates here; the view still counts them, for a table restored without it.
CREATE VIEW webtoon.version_anomalies AS
    SELECT scene_id, type, min(version) AS first_version, max(version) AS latest_version,
           count(*) AS artifacts,
           greatest(max(version), 0) - count(DISTINCT version) FILTER (WHERE version > 0) AS gaps,
           count(*) - count(DISTINCT version) AS duplicates,
           count(*) FILTER (WHERE version < 1) AS below_one
      FROM webtoon.artifacts GROUP BY scene_id, type
    HAVING count(*) <> max(version) OR min(version) <> 1 OR count(DISTINCT version) <> count(*);
COMMENT ON VIEW webtoon.version_anomalies IS
    'Scene and type whose versions are not 1, 2, 3 and so on: gaps, duplicates, versions below 1.';

CREATE VIEW webtoon.missing_artifacts AS
    SELECT s.scene_id, s.story_id, required.type
      FROM webtoon.scenes s
     CROSS JOIN (VALUES ('scene_intent'), ('panel_plan'), ('panel_plan_normalized'),
                        ('layout_template'), ('panel_semantics'), ('render_spec'),
                        ('render_result'), ('qc_report')) AS required (type)
     WHERE NOT EXISTS (SELECT FROM webtoon.artifacts a
                        WHERE a.scene_id = s.scene_id AND a.type = required.type);
COMMENT ON VIEW webtoon.missing_artifacts IS 'Artifact types that a scene must have and lacks.';

CREATE VIEW webtoon.audit_trail AS
    SELECT entity_type, entity_id, timestamp, action, request_id, old_value, new_value, audit_id
      FROM webtoon.audit_logs;

CREATE VIEW webtoon.environment_usage AS
    SELECT e.environment_id, e.description, e.usage_count,
           count(s.scene_id)::integer AS scenes, count(s.scene_id) = e.usage_count AS agrees
      FROM webtoon.environment_anchors e LEFT JOIN webtoon.scenes s USING (environment_id)
     GROUP BY e.environment_id;
COMMENT ON VIEW webtoon.environment_usage IS
    'usage_count as the application kept it, beside the scenes that use the environment.';

-- Entities that nothing but an id names; what no table here holds counts as gone.
CREATE VIEW webtoon.soft_references AS
    WITH entity (id) AS (
        SELECT project_id FROM webtoon.projects
        UNION ALL SELECT story_id FROM webtoon.stories
        UNION ALL SELECT scene_id FROM webtoon.scenes
        UNION ALL SELECT character_id FROM webtoon.characters
        UNION ALL SELECT variant_id FROM webtoon.character_variants
        UNION ALL SELECT suggestion_id FROM webtoon.character_variant_suggestions
        UNION ALL SELECT reference_image_id FROM webtoon.character_reference_images
        UNION ALL SELECT artifact_id FROM webtoon.artifacts
        UNION ALL SELECT image_id FROM webtoon.images
        UNION ALL SELECT dialogue_id FROM webtoon.dialogue_layers
        UNION ALL SELECT environment_id FROM webtoon.environment_anchors
        UNION ALL SELECT layer_id FROM webtoon.layers
        UNION ALL SELECT episode_id FROM webtoon.episodes
        UNION ALL SELECT episode_scene_id FROM webtoon.episode_scenes
        UNION ALL SELECT episode_asset_id FROM webtoon.episode_assets
        UNION ALL SELECT export_id FROM webtoon.exports
        UNION ALL SELECT preset_id FROM webtoon.style_presets),
    reference (source, kind, id) AS (
        SELECT 'audit_logs.entity_id', entity_type, entity_id FROM webtoon.audit_logs
        UNION ALL
        SELECT 'episode_assets.asset_id', asset_type, asset_id FROM webtoon.episode_assets)
    SELECT source, kind, count(*) AS references_made,
           count(*) FILTER (WHERE NOT EXISTS (SELECT FROM entity e WHERE e.id = reference.id))
               AS dangling
      FROM reference GROUP BY source, kind;
COMMENT ON VIEW webtoon.soft_references IS
    'References without a key, by kind, and how many of them lead nowhere.';

CREATE VIEW webtoon.value_drift AS
    WITH documented (source, allowed) AS (VALUES
        ('stories.generation_status', ARRAY['idle', 'processing', 'completed', 'failed']),
        ('scenes.scene_importance', ARRAY['critical', 'high', 'medium', 'low']),
        ('characters.role', ARRAY['protagonist', 'antagonist', 'secondary']),
        ('characters.gender', ARRAY['male', 'female', 'non_binary']),
        ('characters.age_range',
         ARRAY['child', 'teen', 'young_adult', 'adult', 'middle_aged', 'elderly']),
        ('character_variants.variant_type', ARRAY['base', 'outfit_change', 'mood_change']),
        ('character_reference_images.ref_type', ARRAY['face', 'full_body']),
        ('artifacts.type',
         ARRAY['scene_intent', 'panel_plan', 'panel_plan_normalized', 'layout_template',
               'panel_semantics', 'render_spec', 'render_result', 'qc_report',
               'blind_test_report', 'dialogue_suggestions', 'visual_plan']),
        ('environment_anchors.anchor_type', ARRAY['descriptive', 'reference_based']),
        ('layers.layer_type', ARRAY['background', 'character', 'effects']),
        ('episodes.status', ARRAY['draft', 'published']),
        ('exports.status', ARRAY['queued', 'processing', 'completed', 'failed']),
        ('style_presets.style_type', ARRAY['story', 'image']),
        ('audit_logs.action', ARRAY['create', 'update', 'delete'])),
    found (source, value) AS (
        SELECT 'stories.generation_status', generation_status FROM webtoon.stories
        UNION ALL SELECT 'scenes.scene_importance', scene_importance FROM webtoon.scenes
        UNION ALL SELECT 'characters.role', role FROM webtoon.characters
        UNION ALL SELECT 'characters.gender', gender FROM webtoon.characters
        UNION ALL SELECT 'characters.age_range', age_range FROM webtoon.characters
        UNION ALL SELECT 'character_variants.variant_type', variant_type
                    FROM webtoon.character_variants
        UNION ALL SELECT 'character_reference_images.ref_type', ref_type
                    FROM webtoon.character_reference_images
        UNION ALL SELECT 'artifacts.type', type FROM webtoon.artifacts
        UNION ALL SELECT 'environment_anchors.anchor_type', anchor_type
                    FROM webtoon.environment_anchors
        UNION ALL SELECT 'layers.layer_type', layer_type FROM webtoon.layers
        UNION ALL SELECT 'episodes.status', status FROM webtoon.episodes
        UNION ALL SELECT 'exports.status', status FROM webtoon.exports
        UNION ALL SELECT 'style_presets.style_type', style_type FROM webtoon.style_presets
        UNION ALL SELECT 'audit_logs.action', action FROM webtoon.audit_logs)
    SELECT source, value, count(*) AS rows, allowed AS documented
      FROM found JOIN documented USING (source)
     WHERE value IS NOT NULL AND value <> ALL (allowed)
     GROUP BY source, value, allowed;
COMMENT ON VIEW webtoon.value_drift IS
    'Values outside the documented lists, with how many rows hold them.';

-- Up the parents from one artifact: depth 0 is itself. A circle ends the walk and says so.
CREATE FUNCTION webtoon.artifact_ancestors(artifact uuid, depth_max integer DEFAULT 1000)
RETURNS TABLE (depth integer, artifact_id uuid, parent_id uuid, scene_id uuid, type text,
               version integer, problem text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE lineage AS (
        SELECT 0 AS depth, a.artifact_id, a.parent_id, a.scene_id, a.type, a.version
          FROM webtoon.artifacts a WHERE a.artifact_id = artifact
        UNION ALL
        SELECT l.depth + 1, a.artifact_id, a.parent_id, a.scene_id, a.type, a.version
          FROM lineage l JOIN webtoon.artifacts a ON a.artifact_id = l.parent_id
         WHERE l.depth < depth_max
    ) CYCLE artifact_id SET is_cycle USING path
    SELECT depth, artifact_id, parent_id, scene_id, type, version,
           CASE WHEN is_cycle THEN 'cycle'
                WHEN depth >= depth_max AND parent_id IS NOT NULL THEN 'depth limit' END
      FROM lineage ORDER BY depth
$$;

-- Down to everything derived from one artifact.
CREATE FUNCTION webtoon.artifact_descendants(artifact uuid, depth_max integer DEFAULT 1000)
RETURNS TABLE (depth integer, artifact_id uuid, parent_id uuid, scene_id uuid, type text,
               version integer, problem text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE lineage AS (
        SELECT 0 AS depth, a.artifact_id, a.parent_id, a.scene_id, a.type, a.version
          FROM webtoon.artifacts a WHERE a.artifact_id = artifact
        UNION ALL
        SELECT l.depth + 1, a.artifact_id, a.parent_id, a.scene_id, a.type, a.version
          FROM lineage l JOIN webtoon.artifacts a ON a.parent_id = l.artifact_id
         WHERE l.depth < depth_max
    ) CYCLE artifact_id SET is_cycle USING path
    SELECT depth, artifact_id, parent_id, scene_id, type, version,
           CASE WHEN is_cycle THEN 'cycle' END
      FROM lineage ORDER BY depth, artifact_id
$$;

-- How far each artifact is from the first of its line. What no root leads to lies on a circle or
-- below one: webtoon.artifact_cycles names it.
CREATE VIEW webtoon.artifact_depths AS
    WITH RECURSIVE lineage AS (
        SELECT artifact_id, artifact_id AS root_id, 0 AS depth
          FROM webtoon.artifacts WHERE parent_id IS NULL
        UNION ALL
        SELECT a.artifact_id, l.root_id, l.depth + 1
          FROM lineage l JOIN webtoon.artifacts a ON a.parent_id = l.artifact_id)
    SELECT artifact_id, root_id, depth FROM lineage;
CREATE VIEW webtoon.artifact_cycles AS
    SELECT a.artifact_id, a.parent_id, a.scene_id, a.type, a.version
      FROM webtoon.artifacts a
     WHERE NOT EXISTS (SELECT FROM webtoon.artifact_depths d
                        WHERE d.artifact_id = a.artifact_id);

-- From a preset up to the one it finally inherits from.
CREATE FUNCTION webtoon.style_chain(preset uuid)
RETURNS TABLE (depth integer, preset_id uuid, parent_id uuid, name text, style_config jsonb,
               problem text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE chain AS (
        SELECT 0 AS depth, p.preset_id, p.parent_id, p.name, p.style_config
          FROM webtoon.style_presets p WHERE p.preset_id = preset
        UNION ALL
        SELECT c.depth + 1, p.preset_id, p.parent_id, p.name, p.style_config
          FROM chain c JOIN webtoon.style_presets p ON p.preset_id = c.parent_id
    ) CYCLE preset_id SET is_cycle USING path
    SELECT c.depth, c.preset_id, c.parent_id, c.name, c.style_config,
           CASE WHEN c.is_cycle THEN 'cycle'
                WHEN jsonb_typeof(c.style_config) <> 'object' THEN 'style_config is no object'
                WHEN c.parent_id IS NOT NULL AND NOT EXISTS (
                    SELECT FROM webtoon.style_presets p WHERE p.preset_id = c.parent_id)
                    THEN 'parent is missing' END
      FROM chain c ORDER BY c.depth
$$;

CREATE AGGREGATE webtoon.merge_configs (jsonb) (
    SFUNC = jsonb_concat, STYPE = jsonb, INITCOND = '{}');

-- Shallow merge from the farthest ancestor down: the child's key wins, also with a JSON null.
CREATE FUNCTION webtoon.effective_style(preset uuid)
RETURNS TABLE (preset_id uuid, chain_depth integer, style_config jsonb, problems text[])
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT preset, max(depth),
           coalesce(webtoon.merge_configs(style_config ORDER BY depth DESC)
                        FILTER (WHERE problem IS DISTINCT FROM 'cycle'
                                  AND jsonb_typeof(style_config) = 'object'), '{}'),
           coalesce(array_agg(problem ORDER BY depth) FILTER (WHERE problem IS NOT NULL), '{}')
      FROM webtoon.style_chain(preset) HAVING count(*) > 0
$$;
