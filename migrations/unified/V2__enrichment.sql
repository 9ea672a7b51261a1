-- Cached answers of the two enrichment services.

CREATE TABLE enrichment.openalex_cache (
    cache_key  text CONSTRAINT openalex_cache_pkey PRIMARY KEY,
    work_id    text,
    query      text,
    response   jsonb NOT NULL,
    fetched_at timestamptz NOT NULL
);
CREATE INDEX openalex_cache_fetched_at_idx ON enrichment.openalex_cache (fetched_at DESC);
COMMENT ON TABLE enrichment.openalex_cache IS
    'Answers of OpenAlex by cache key; the newest fetch wins.';

CREATE TABLE enrichment.citec_cache (
    cache_key    text CONSTRAINT citec_cache_pkey PRIMARY KEY,
    repec_handle text,
    response     jsonb NOT NULL,
    fetched_at   timestamptz NOT NULL
);
CREATE INDEX citec_cache_fetched_at_idx ON enrichment.citec_cache (fetched_at DESC);
COMMENT ON TABLE enrichment.citec_cache IS
    'Answers of CitEc by cache key; the newest fetch wins.';
