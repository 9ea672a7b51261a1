-- The six schemas of the pipeline's stages, and what ingestion knows about papers.

CREATE SCHEMA IF NOT EXISTS ingestion;
CREATE SCHEMA IF NOT EXISTS enrichment;
CREATE SCHEMA IF NOT EXISTS indexing;
CREATE SCHEMA IF NOT EXISTS workflow;
CREATE SCHEMA IF NOT EXISTS retrieval;
CREATE SCHEMA IF NOT EXISTS observability;

COMMENT ON SCHEMA ingestion IS 'Extracted papers and prep manifests.';
COMMENT ON SCHEMA enrichment IS 'Answers of OpenAlex and CitEc.';
COMMENT ON SCHEMA indexing IS 'Vectors, index builds and shards.';
COMMENT ON SCHEMA workflow IS 'The ledger of runs and the queue of jobs.';
COMMENT ON SCHEMA retrieval IS 'Cached answers and retrieval events.';
COMMENT ON SCHEMA observability IS 'Token usage and failed requests.';

CREATE TABLE ingestion.documents (
    doc_id       text CONSTRAINT documents_pkey PRIMARY KEY,
    path         text NOT NULL,
    title        text,
    author       text,
    extracted_at timestamptz,
    file_hash    text,
    text_hash    text
);
COMMENT ON TABLE ingestion.documents IS
    'One row per distinct paper, known by the hash of its file or text.';

-- Lineage from a run to the papers it read; a document that a run refers to cannot be deleted.
CREATE TABLE ingestion.run_documents (
    run_id     text NOT NULL,
    doc_id     text NOT NULL
               CONSTRAINT run_documents_doc_id_fkey REFERENCES ingestion.documents (doc_id),
    path       text,
    pages      integer,
    size_bytes bigint,
    CONSTRAINT run_documents_pkey PRIMARY KEY (run_id, doc_id)
);
CREATE INDEX run_documents_doc_id_idx ON ingestion.run_documents (doc_id);
COMMENT ON TABLE ingestion.run_documents IS
    'Which papers a run read, and from which path.';

CREATE TABLE ingestion.paper_metadata (
    doc_id           text CONSTRAINT paper_metadata_pkey PRIMARY KEY
                     CONSTRAINT paper_metadata_doc_id_fkey
                     REFERENCES ingestion.documents (doc_id) ON DELETE CASCADE,
    path             text,
    title            text,
    author           text,
    authors_json     jsonb NOT NULL DEFAULT '[]',
    primary_doi      text,
    dois_json        jsonb NOT NULL DEFAULT '[]',
    openalex_id      text,
    openalex_doi     text,
    publication_year integer,
    venue            text,
    repec_handle     text,
    source_url       text,
    openalex_json    jsonb NOT NULL DEFAULT '{}',
    citec_json       jsonb NOT NULL DEFAULT '{}',
    metadata_json    jsonb NOT NULL DEFAULT '{}',
    extracted_at     timestamptz,
    updated_at       timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX paper_metadata_primary_doi_idx ON ingestion.paper_metadata (primary_doi);
CREATE INDEX paper_metadata_path_idx ON ingestion.paper_metadata (path);
COMMENT ON TABLE ingestion.paper_metadata IS
    'Bibliographic facts about a paper, with the answers they were taken from.';

CREATE TABLE ingestion.prep_manifests (
    run_id      text CONSTRAINT prep_manifests_pkey PRIMARY KEY,
    created_at  timestamptz DEFAULT now(),
    corpus_hash text,
    payload     jsonb NOT NULL
);
CREATE INDEX prep_manifests_created_at_idx ON ingestion.prep_manifests (created_at DESC);
COMMENT ON TABLE ingestion.prep_manifests IS
    'The manifest of a run''s prep step, whole.';
