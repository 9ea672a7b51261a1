-- Wide text and jsonb are compressed with lz4 where the server was built with it (PostgreSQL 14
-- and later); elsewhere they keep the server's default.
DO $$
DECLARE
    wide text[] := ARRAY[
        'stories progress', 'stories generation_error', 'scenes source_text',
        'environment_anchors reference_images', 'environment_anchors locked_elements',
        'dialogue_layers bubbles', 'layers objects', 'characters appearance',
        'characters generation_prompt', 'character_reference_images metadata',
        'character_variants traits', 'character_variants override_attributes',
        'character_variants generated_image_ids',
        'character_variant_suggestions override_attributes', 'artifacts payload',
        'images metadata', 'style_presets style_config', 'exports metadata',
        'audit_logs old_value', 'audit_logs new_value'];
    entry text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_settings
                    WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)) THEN
        RAISE NOTICE 'this server has no lz4: wide columns keep its default compression';
        RETURN;
    END IF;
    FOREACH entry IN ARRAY wide LOOP
        EXECUTE format('ALTER TABLE webtoon.%I ALTER COLUMN %I SET COMPRESSION lz4',
                       split_part(entry, ' ', 1), split_part(entry, ' ', 2));
    END LOOP;
EXCEPTION WHEN feature_not_supported THEN
    RAISE NOTICE 'lz4 is not usable (%): wide columns keep the default compression', SQLERRM;
END
$$;
