-- The ledger of runs and the queue of asynchronous jobs.

CREATE TABLE workflow.run_records (
    id                           bigserial CONSTRAINT run_records_pkey PRIMARY KEY,
    run_id                       text NOT NULL,
    record_kind                  text NOT NULL CONSTRAINT run_records_record_kind_check CHECK
        (record_kind IN ('run', 'step', 'report', 'question', 'artifact', 'workstream_link')),
    step                         text NOT NULL DEFAULT '',
    record_key                   text NOT NULL DEFAULT '',
    status                       text,
    papers_dir                   text,
    config_hash                  text,
    workstream_id                text,
    arm                          text,
    parent_run_id                text,
    trigger_source               text,
    git_sha                      text,
    git_branch                   text,
    config_effective_json        jsonb,
    paper_set_hash               text,
    question                     text,
    report_question_set          text,
    started_at                   timestamptz,
    finished_at                  timestamptz,
    report_path                  text,
    agentic_status               text,
    report_hash                  text,
    report_question_count        integer,
    confidence_mean              double precision,
    confidence_label_counts_json jsonb,
    final_answer_hash            text,
    question_id                  text,
    artifact_type                text,
    artifact_path                text,
    artifact_sha256              text,
    idempotency_key              text,
    input_hash                   text,
    reuse_source_run_id          text,
    reuse_source_record_key      text,
    created_at                   timestamptz DEFAULT now(),
    updated_at                   timestamptz DEFAULT now(),
    output_json                  jsonb NOT NULL DEFAULT '{}',
    payload_json                 jsonb NOT NULL DEFAULT '{}',
    metadata_json                jsonb NOT NULL DEFAULT '{}',
    CONSTRAINT run_records_natural_key UNIQUE (run_id, record_kind, step, record_key)
);
CREATE INDEX run_records_run_kind_idx ON workflow.run_records (run_id, record_kind);
CREATE INDEX run_records_created_at_idx ON workflow.run_records (created_at DESC);
CREATE INDEX run_records_status_idx ON workflow.run_records (status);
CREATE INDEX run_records_step_idx ON workflow.run_records (step);
CREATE INDEX run_records_workstream_idx ON workflow.run_records (workstream_id, arm);
CREATE INDEX run_records_question_id_idx ON workflow.run_records (question_id);
CREATE INDEX run_records_idempotency_idx
    ON workflow.run_records (record_kind, step, idempotency_key);
CREATE INDEX run_records_input_hash_idx ON workflow.run_records (record_kind, step, input_hash);
CREATE INDEX run_records_reuse_source_idx
    ON workflow.run_records (reuse_source_run_id, reuse_source_record_key);
CREATE INDEX run_records_payload_idx ON workflow.run_records USING gin (payload_json);
COMMENT ON TABLE workflow.run_records IS
    'Everything a workflow run leaves behind: the run, its steps, report, questions and artifacts.';

CREATE TABLE workflow.async_jobs (
    id                  bigserial CONSTRAINT async_jobs_pkey PRIMARY KEY,
    job_id              text NOT NULL CONSTRAINT async_jobs_job_id_key UNIQUE,
    queue_name          text NOT NULL DEFAULT 'default',
    job_type            text NOT NULL CONSTRAINT async_jobs_job_type_check
                        CHECK (job_type IN ('workflow', 'index')),
    status              text NOT NULL DEFAULT 'queued' CONSTRAINT async_jobs_status_check
                        CHECK (status IN ('queued', 'retry', 'running', 'completed', 'failed')),
    payload_json        jsonb NOT NULL DEFAULT '{}',
    result_json         jsonb NOT NULL DEFAULT '{}',
    error_text          text,
    attempt_count       integer NOT NULL DEFAULT 0,
    max_attempts        integer NOT NULL DEFAULT 3,
    retry_delay_seconds integer NOT NULL DEFAULT 10,
    available_at        timestamptz NOT NULL DEFAULT now(),
    locked_at           timestamptz,
    worker_id           text,
    started_at          timestamptz,
    finished_at         timestamptz,
    created_at          timestamptz DEFAULT now(),
    updated_at          timestamptz DEFAULT now()
);
CREATE INDEX async_jobs_status_available_idx
    ON workflow.async_jobs (status, available_at, created_at);
CREATE INDEX async_jobs_queue_status_idx
    ON workflow.async_jobs (queue_name, status, available_at);
CREATE INDEX async_jobs_worker_idx ON workflow.async_jobs (worker_id, status);
COMMENT ON TABLE workflow.async_jobs IS
    'The queue of workflow and index jobs, with attempts, availability and locks.';
