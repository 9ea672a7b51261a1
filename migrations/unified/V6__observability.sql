-- Token usage, partitioned by month, and failed requests.

-- A partitioned table cannot enforce unique (id); identity is id, and the primary key carries the
-- partition key beside it.
CREATE TABLE observability.token_usage (
    id                  bigserial,
    created_at          timestamptz NOT NULL DEFAULT now(),
    model               text,
    operation           text,
    step                text,
    question_id         text,
    input_tokens        bigint,
    output_tokens       bigint,
    total_tokens        bigint,
    session_id          text,
    request_id          text,
    provider_request_id text,
    latency_ms          integer,
    cache_hit           boolean,
    cost_usd_input      double precision,
    cost_usd_output     double precision,
    cost_usd_total      double precision,
    run_id              text,
    meta                jsonb NOT NULL DEFAULT '{}',
    CONSTRAINT token_usage_pkey PRIMARY KEY (id, created_at)
) PARTITION BY RANGE (created_at);
CREATE INDEX token_usage_created_at_idx ON observability.token_usage (created_at DESC);
CREATE INDEX token_usage_session_id_idx ON observability.token_usage (session_id);
CREATE INDEX token_usage_request_id_idx ON observability.token_usage (request_id);
CREATE INDEX token_usage_run_id_idx ON observability.token_usage (run_id);
CREATE INDEX token_usage_operation_idx ON observability.token_usage (operation, created_at);
CREATE INDEX token_usage_model_idx ON observability.token_usage (model);
COMMENT ON TABLE observability.token_usage IS
    'Tokens and cost of every model call, one partition a month (UTC).';

CREATE TABLE observability.token_usage_default PARTITION OF observability.token_usage DEFAULT;
COMMENT ON TABLE observability.token_usage_default IS
    'Token usage of months that have no partition of their own yet.';

-- Creates the partition of one month (UTC) and moves that month's rows out of DEFAULT, which may
-- not hold them when the partition is attached. Readers and writers of other partitions go on;
-- writers of DEFAULT wait. Does nothing where the partition exists. No range of months is decided
-- here: whoever loads or maintains says which month.
CREATE FUNCTION observability.ensure_token_usage_partition(month date) RETURNS regclass
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET datestyle = 'ISO'
AS $function$
DECLARE
    first_day date := date_trunc('month', month::timestamp)::date;
    range_from timestamptz := first_day::timestamp AT TIME ZONE 'UTC';
    range_to timestamptz := (first_day + interval '1 month') AT TIME ZONE 'UTC';
    partition_name text := 'token_usage_y' || to_char(first_day, 'YYYY"m"MM');
    partition_path text := 'observability.' || quote_ident(partition_name);
BEGIN
    IF month IS NULL OR NOT isfinite(month) THEN
        RAISE EXCEPTION 'a month is needed, not %', coalesce(month::text, 'NULL');
    END IF;
    -- One at a time; SHARE UPDATE EXCLUSIVE is what ATTACH takes anyway.
    LOCK TABLE ONLY observability.token_usage IN SHARE UPDATE EXCLUSIVE MODE;
    IF to_regclass(partition_path) IS NOT NULL THEN
        RETURN to_regclass(partition_path);
    END IF;
    -- ALL covers COMPRESSION where the server knows it; ATTACH builds the indexes, after the rows.
    EXECUTE format(
        'CREATE TABLE %s (LIKE observability.token_usage INCLUDING ALL EXCLUDING INDEXES)',
        partition_path);
    LOCK TABLE observability.token_usage_default IN ACCESS EXCLUSIVE MODE;
    EXECUTE format(
        'WITH moved AS (
             DELETE FROM observability.token_usage_default
              WHERE created_at >= $1 AND created_at < $2 RETURNING *)
         INSERT INTO %s SELECT * FROM moved', partition_path)
      USING range_from, range_to;
    EXECUTE format(
        'ALTER TABLE observability.token_usage ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)',
        partition_path, range_from, range_to);
    RETURN to_regclass(partition_path);
END
$function$;
COMMENT ON FUNCTION observability.ensure_token_usage_partition(date) IS
    'Creates and fills the partition of token_usage for the month of a date (UTC), once.';

CREATE TABLE observability.request_failures (
    id         bigserial CONSTRAINT request_failures_pkey PRIMARY KEY,
    created_at timestamptz DEFAULT now(),
    component  text,
    error_type text,
    message    text,
    request_id text,
    run_id     text,
    context    jsonb
);
CREATE INDEX request_failures_created_at_idx
    ON observability.request_failures (created_at DESC);
CREATE INDEX request_failures_component_idx ON observability.request_failures (component);
CREATE INDEX request_failures_request_id_idx ON observability.request_failures (request_id);
COMMENT ON TABLE observability.request_failures IS
    'Requests that failed, with the component and the context.';
