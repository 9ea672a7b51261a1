-- Wide text and jsonb are compressed with lz4 where the server was built with it (PostgreSQL 14
-- and later); elsewhere they keep the server's default. A partition takes the setting from its
-- parent when it is created, so the partition that already exists is named beside it.
DO $$
DECLARE
    wide text[] := ARRAY[
        'ingestion.paper_metadata authors_json', 'ingestion.paper_metadata dois_json',
        'ingestion.paper_metadata openalex_json', 'ingestion.paper_metadata citec_json',
        'ingestion.paper_metadata metadata_json', 'ingestion.prep_manifests payload',
        'enrichment.openalex_cache response', 'enrichment.citec_cache response',
        'indexing.vectors text',
        'workflow.run_records config_effective_json', 'workflow.run_records question',
        'workflow.run_records confidence_label_counts_json', 'workflow.run_records output_json',
        'workflow.run_records payload_json', 'workflow.run_records metadata_json',
        'workflow.async_jobs payload_json', 'workflow.async_jobs result_json',
        'workflow.async_jobs error_text',
        'retrieval.query_cache query', 'retrieval.query_cache answer',
        'retrieval.retrieval_events query', 'retrieval.retrieval_events result',
        'observability.token_usage meta', 'observability.token_usage_default meta',
        'observability.request_failures message', 'observability.request_failures context'];
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
