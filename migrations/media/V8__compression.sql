-- Wide text and jsonb are compressed with lz4 where the server was built with it (PostgreSQL 14
-- and later); elsewhere they keep the server's default.
DO $$
DECLARE
    wide text[] := ARRAY[
        'media.media description', 'media.media attributes', 'media.relationships notes',
        'users.users settings', 'interaction.user_media notes',
        'interaction.user_media meta_snapshot', 'interaction.user_lists filter_definition'];
    entry text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_settings
                    WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)) THEN
        RAISE NOTICE 'this server has no lz4: wide columns keep its default compression';
        RETURN;
    END IF;
    FOREACH entry IN ARRAY wide LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET COMPRESSION lz4',
                       split_part(entry, ' ', 1), split_part(entry, ' ', 2));
    END LOOP;
EXCEPTION WHEN feature_not_supported THEN
    RAISE NOTICE 'lz4 is not usable (%): wide columns keep the default compression', SQLERRM;
END
$$;
