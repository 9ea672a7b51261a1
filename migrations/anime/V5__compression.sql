-- Wide text and jsonb are compressed with lz4 where the server was built with it (PostgreSQL 14
-- and later); elsewhere they keep the server's default.
DO $$
DECLARE
    wide text[] := ARRAY[
        'anime synopsis', 'anime background', 'anime meta', 'anime raw_by_source', 'manga meta',
        'manga raw_by_source', 'original_work meta', 'original_work raw_by_source',
        'episode synopsis', 'episode meta', 'episode raw_by_source', 'character description',
        'character meta', 'character raw_by_source', 'anime_character meta', 'anime_relation meta',
        'review_queue before', 'review_queue after'];
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
