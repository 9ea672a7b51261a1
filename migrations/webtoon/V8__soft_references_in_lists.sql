-- A variant's images are named in a JSON list, where old writers cut some ids short: they refer to
-- something as the other soft references do, and count among them.
CREATE OR REPLACE VIEW webtoon.soft_references AS
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
    listed (element) AS (
        SELECT jsonb_array_elements_text(
                   CASE WHEN jsonb_typeof(generated_image_ids) = 'array' THEN generated_image_ids
                        ELSE '[]' END)
          FROM webtoon.character_variants),
    reference (source, kind, id) AS (
        SELECT 'audit_logs.entity_id', entity_type, entity_id FROM webtoon.audit_logs
        UNION ALL
        SELECT 'episode_assets.asset_id', asset_type, asset_id FROM webtoon.episode_assets
        UNION ALL
        SELECT 'character_variants.generated_image_ids', 'image',
               CASE WHEN element ~* '^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$'
                    THEN element::uuid END
          FROM listed)
    SELECT source, kind, count(*) AS references_made,
           count(*) FILTER (WHERE NOT EXISTS (SELECT FROM entity e WHERE e.id = reference.id))
               AS dangling,
           count(*) FILTER (WHERE id IS NULL) AS malformed
      FROM reference GROUP BY source, kind;
COMMENT ON VIEW webtoon.soft_references IS
    'References without a key, by kind: how many lead nowhere, and how many of these are no uuid.';
