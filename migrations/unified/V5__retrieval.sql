-- Cached answers and what retrieval did.

CREATE TABLE retrieval.query_cache (
    cache_key    text CONSTRAINT query_cache_pkey PRIMARY KEY,
    query        text,
    paper_path   text,
    model        text,
    context_hash text,
    answer       text,
    created_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX query_cache_created_at_idx ON retrieval.query_cache (created_at DESC);
COMMENT ON TABLE retrieval.query_cache IS
    'Answers by the hash of path, model, query and context; the newest wins.';

CREATE TABLE retrieval.retrieval_events (
    id         bigserial CONSTRAINT retrieval_events_pkey PRIMARY KEY,
    run_id     text,
    request_id text,
    query      text,
    top_k      integer,
    method     text,
    latency_ms integer,
    result     jsonb,
    created_at timestamptz DEFAULT now()
);
CREATE INDEX retrieval_events_run_id_idx ON retrieval.retrieval_events (run_id);
CREATE INDEX retrieval_events_created_at_idx ON retrieval.retrieval_events (created_at DESC);
COMMENT ON TABLE retrieval.retrieval_events IS
    'One row per retrieval, for diagnosis.';
