-- Index builds, their shards and the vectors in them.

CREATE TABLE indexing.pipeline_runs (
    id                 bigserial CONSTRAINT pipeline_runs_pkey PRIMARY KEY,
    workflow_run_id    text,
    workstream_id      text,
    arm                text,
    paper_set_hash     text,
    index_build_reason text,
    git_sha            text,
    extractor_version  text,
    embedding_model    text,
    chunk_words        integer,
    chunk_overlap      integer,
    normalized         boolean,
    idempotency_key    text CONSTRAINT pipeline_runs_idempotency_key_key UNIQUE,
    created_at         timestamptz DEFAULT now()
);
CREATE INDEX pipeline_runs_workflow_run_id_idx ON indexing.pipeline_runs (workflow_run_id);
CREATE INDEX pipeline_runs_workstream_id_idx ON indexing.pipeline_runs (workstream_id);
COMMENT ON TABLE indexing.pipeline_runs IS
    'One row per index build, with the settings that decide whether it can be reused.';

CREATE TABLE indexing.index_versions (
    index_id           text CONSTRAINT index_versions_pkey PRIMARY KEY,
    created_at         timestamptz DEFAULT now(),
    embedding_model    text,
    chunk_words        integer,
    chunk_overlap      integer,
    corpus_fingerprint text,
    index_path         text,
    shard_path         text
);
COMMENT ON TABLE indexing.index_versions IS
    'The versions of the index that exist as files.';

CREATE TABLE indexing.index_shards (
    id              bigserial CONSTRAINT index_shards_pkey PRIMARY KEY,
    shard_name      text CONSTRAINT index_shards_shard_name_key UNIQUE,
    path            text,
    pipeline_run_id bigint CONSTRAINT index_shards_pipeline_run_id_fkey
                    REFERENCES indexing.pipeline_runs (id),
    index_id        text CONSTRAINT index_shards_index_id_fkey
                    REFERENCES indexing.index_versions (index_id),
    created_at      timestamptz DEFAULT now(),
    is_active       boolean NOT NULL DEFAULT false
);
CREATE INDEX index_shards_active_idx ON indexing.index_shards (is_active, created_at DESC);
CREATE INDEX index_shards_pipeline_run_id_idx ON indexing.index_shards (pipeline_run_id);
CREATE INDEX index_shards_index_id_idx ON indexing.index_shards (index_id);
COMMENT ON TABLE indexing.index_shards IS
    'The shards of an index version and which of them serve.';

CREATE TABLE indexing.vectors (
    id              bigint CONSTRAINT vectors_pkey PRIMARY KEY,
    doc_id          text NOT NULL CONSTRAINT vectors_doc_id_fkey
                    REFERENCES ingestion.documents (doc_id) ON DELETE CASCADE,
    chunk_id        text NOT NULL CONSTRAINT vectors_chunk_id_key UNIQUE,
    chunk_hash      text,
    paper_path      text,
    page            integer,
    start_word      integer,
    end_word        integer,
    text            text,
    embedding       real[],
    pipeline_run_id bigint CONSTRAINT vectors_pipeline_run_id_fkey
                    REFERENCES indexing.pipeline_runs (id),
    created_at      timestamptz
);
CREATE INDEX vectors_doc_id_idx ON indexing.vectors (doc_id);
CREATE INDEX vectors_pipeline_run_id_idx ON indexing.vectors (pipeline_run_id);
COMMENT ON TABLE indexing.vectors IS
    'Embedded chunks of papers; embedding is vector where that extension exists, else real[].';

-- The extension is optional: whatever stops it (not installed, no privilege, no schema public, a
-- broken library), the column stays real[]. The type is named with the extension's own schema, so
-- that no search_path decides.
DO $$
DECLARE
    home text;
BEGIN
    CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public;
    SELECT n.nspname INTO STRICT home
      FROM pg_catalog.pg_extension e
      JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
     WHERE e.extname = 'vector';
    EXECUTE format(
        'ALTER TABLE indexing.vectors ALTER COLUMN embedding TYPE %I.vector USING NULL', home);
EXCEPTION
    WHEN lock_not_available OR deadlock_detected THEN
        RAISE; -- a matter of the moment, retried with the whole migration
    WHEN OTHERS THEN
        RAISE NOTICE
            'extension vector is not usable (%): indexing.vectors.embedding is real[]',
            SQLERRM;
END
$$;
