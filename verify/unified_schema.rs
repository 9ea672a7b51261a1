//! The target of pack unified, written down a second time, table by table.

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use toolkit::migrate::{self, Options};

use crate::support::TestDatabase;

struct Table {
    name: &'static str,
    /// `name type [not null] [= default]`, in the order of the table.
    columns: &'static [&'static str],
    /// Primary key, unique, check and foreign keys, as the server prints them.
    constraints: &'static [&'static str],
    /// Method and columns of the indexes that are no constraint's.
    indexes: &'static [&'static str],
}

const TABLES: &[Table] = &[
    Table {
        name: "ingestion.documents",
        columns: &[
            "doc_id text not null",
            "path text not null",
            "title text",
            "author text",
            "extracted_at timestamptz",
            "file_hash text",
            "text_hash text",
        ],
        constraints: &["PRIMARY KEY (doc_id)"],
        indexes: &[],
    },
    Table {
        name: "ingestion.run_documents",
        columns: &[
            "run_id text not null",
            "doc_id text not null",
            "path text",
            "pages integer",
            "size_bytes bigint",
        ],
        constraints: &[
            "PRIMARY KEY (run_id, doc_id)",
            "FOREIGN KEY (doc_id) REFERENCES ingestion.documents(doc_id)",
        ],
        indexes: &["btree (doc_id)"],
    },
    Table {
        name: "ingestion.paper_metadata",
        columns: &[
            "doc_id text not null",
            "path text",
            "title text",
            "author text",
            "authors_json jsonb not null = '[]'::jsonb",
            "primary_doi text",
            "dois_json jsonb not null = '[]'::jsonb",
            "openalex_id text",
            "openalex_doi text",
            "publication_year integer",
            "venue text",
            "repec_handle text",
            "source_url text",
            "openalex_json jsonb not null = '{}'::jsonb",
            "citec_json jsonb not null = '{}'::jsonb",
            "metadata_json jsonb not null = '{}'::jsonb",
            "extracted_at timestamptz",
            "updated_at timestamptz not null = now()",
        ],
        constraints: &[
            "PRIMARY KEY (doc_id)",
            "FOREIGN KEY (doc_id) REFERENCES ingestion.documents(doc_id) ON DELETE CASCADE",
        ],
        indexes: &["btree (primary_doi)", "btree (path)"],
    },
    Table {
        name: "ingestion.prep_manifests",
        columns: &[
            "run_id text not null",
            "created_at timestamptz = now()",
            "corpus_hash text",
            "payload jsonb not null",
        ],
        constraints: &["PRIMARY KEY (run_id)"],
        indexes: &["btree (created_at DESC)"],
    },
    Table {
        name: "enrichment.openalex_cache",
        columns: &[
            "cache_key text not null",
            "work_id text",
            "query text",
            "response jsonb not null",
            "fetched_at timestamptz not null",
        ],
        constraints: &["PRIMARY KEY (cache_key)"],
        indexes: &["btree (fetched_at DESC)"],
    },
    Table {
        name: "enrichment.citec_cache",
        columns: &[
            "cache_key text not null",
            "repec_handle text",
            "response jsonb not null",
            "fetched_at timestamptz not null",
        ],
        constraints: &["PRIMARY KEY (cache_key)"],
        indexes: &["btree (fetched_at DESC)"],
    },
    Table {
        name: "indexing.pipeline_runs",
        columns: &[
            "id bigint not null = nextval('indexing.pipeline_runs_id_seq'::regclass)",
            "workflow_run_id text",
            "workstream_id text",
            "arm text",
            "paper_set_hash text",
            "index_build_reason text",
            "git_sha text",
            "extractor_version text",
            "embedding_model text",
            "chunk_words integer",
            "chunk_overlap integer",
            "normalized boolean",
            "idempotency_key text",
            "created_at timestamptz = now()",
        ],
        constraints: &["PRIMARY KEY (id)", "UNIQUE (idempotency_key)"],
        indexes: &["btree (workflow_run_id)", "btree (workstream_id)"],
    },
    Table {
        name: "indexing.index_versions",
        columns: &[
            "index_id text not null",
            "created_at timestamptz = now()",
            "embedding_model text",
            "chunk_words integer",
            "chunk_overlap integer",
            "corpus_fingerprint text",
            "index_path text",
            "shard_path text",
        ],
        constraints: &["PRIMARY KEY (index_id)"],
        indexes: &[],
    },
    Table {
        name: "indexing.index_shards",
        columns: &[
            "id bigint not null = nextval('indexing.index_shards_id_seq'::regclass)",
            "shard_name text",
            "path text",
            "pipeline_run_id bigint",
            "index_id text",
            "created_at timestamptz = now()",
            "is_active boolean not null = false",
        ],
        constraints: &[
            "PRIMARY KEY (id)",
            "UNIQUE (shard_name)",
            "FOREIGN KEY (pipeline_run_id) REFERENCES indexing.pipeline_runs(id)",
            "FOREIGN KEY (index_id) REFERENCES indexing.index_versions(index_id)",
        ],
        indexes: &[
            "btree (is_active, created_at DESC)",
            "btree (pipeline_run_id)",
            "btree (index_id)",
        ],
    },
    Table {
        name: "indexing.vectors",
        columns: &[
            "id bigint not null",
            "doc_id text not null",
            "chunk_id text not null",
            "chunk_hash text",
            "paper_path text",
            "page integer",
            "start_word integer",
            "end_word integer",
            "text text",
            "embedding EMBEDDING",
            "pipeline_run_id bigint",
            "created_at timestamptz",
        ],
        constraints: &[
            "PRIMARY KEY (id)",
            "UNIQUE (chunk_id)",
            "FOREIGN KEY (doc_id) REFERENCES ingestion.documents(doc_id) ON DELETE CASCADE",
            "FOREIGN KEY (pipeline_run_id) REFERENCES indexing.pipeline_runs(id)",
        ],
        indexes: &["btree (doc_id)", "btree (pipeline_run_id)"],
    },
    Table {
        name: "workflow.run_records",
        columns: &[
            "id bigint not null = nextval('workflow.run_records_id_seq'::regclass)",
            "run_id text not null",
            "record_kind text not null",
            "step text not null = ''::text",
            "record_key text not null = ''::text",
            "status text",
            "papers_dir text",
            "config_hash text",
            "workstream_id text",
            "arm text",
            "parent_run_id text",
            "trigger_source text",
            "git_sha text",
            "git_branch text",
            "config_effective_json jsonb",
            "paper_set_hash text",
            "question text",
            "report_question_set text",
            "started_at timestamptz",
            "finished_at timestamptz",
            "report_path text",
            "agentic_status text",
            "report_hash text",
            "report_question_count integer",
            "confidence_mean double precision",
            "confidence_label_counts_json jsonb",
            "final_answer_hash text",
            "question_id text",
            "artifact_type text",
            "artifact_path text",
            "artifact_sha256 text",
            "idempotency_key text",
            "input_hash text",
            "reuse_source_run_id text",
            "reuse_source_record_key text",
            "created_at timestamptz = now()",
            "updated_at timestamptz = now()",
            "output_json jsonb not null = '{}'::jsonb",
            "payload_json jsonb not null = '{}'::jsonb",
            "metadata_json jsonb not null = '{}'::jsonb",
        ],
        constraints: &[
            "PRIMARY KEY (id)",
            "UNIQUE (run_id, record_kind, step, record_key)",
            "CHECK ((record_kind = ANY (ARRAY['run'::text, 'step'::text, 'report'::text, \
             'question'::text, 'artifact'::text, 'workstream_link'::text])))",
        ],
        indexes: &[
            "btree (run_id, record_kind)",
            "btree (created_at DESC)",
            "btree (status)",
            "btree (step)",
            "btree (workstream_id, arm)",
            "btree (question_id)",
            "btree (record_kind, step, idempotency_key)",
            "btree (record_kind, step, input_hash)",
            "btree (reuse_source_run_id, reuse_source_record_key)",
            "gin (payload_json)",
        ],
    },
    Table {
        name: "workflow.async_jobs",
        columns: &[
            "id bigint not null = nextval('workflow.async_jobs_id_seq'::regclass)",
            "job_id text not null",
            "queue_name text not null = 'default'::text",
            "job_type text not null",
            "status text not null = 'queued'::text",
            "payload_json jsonb not null = '{}'::jsonb",
            "result_json jsonb not null = '{}'::jsonb",
            "error_text text",
            "attempt_count integer not null = 0",
            "max_attempts integer not null = 3",
            "retry_delay_seconds integer not null = 10",
            "available_at timestamptz not null = now()",
            "locked_at timestamptz",
            "worker_id text",
            "started_at timestamptz",
            "finished_at timestamptz",
            "created_at timestamptz = now()",
            "updated_at timestamptz = now()",
        ],
        constraints: &[
            "PRIMARY KEY (id)",
            "UNIQUE (job_id)",
            "CHECK ((job_type = ANY (ARRAY['workflow'::text, 'index'::text])))",
            "CHECK ((status = ANY (ARRAY['queued'::text, 'retry'::text, 'running'::text, \
             'completed'::text, 'failed'::text])))",
        ],
        indexes: &[
            "btree (status, available_at, created_at)",
            "btree (queue_name, status, available_at)",
            "btree (worker_id, status)",
        ],
    },
    Table {
        name: "retrieval.query_cache",
        columns: &[
            "cache_key text not null",
            "query text",
            "paper_path text",
            "model text",
            "context_hash text",
            "answer text",
            "created_at timestamptz not null = now()",
        ],
        constraints: &["PRIMARY KEY (cache_key)"],
        indexes: &["btree (created_at DESC)"],
    },
    Table {
        name: "retrieval.retrieval_events",
        columns: &[
            "id bigint not null = nextval('retrieval.retrieval_events_id_seq'::regclass)",
            "run_id text",
            "request_id text",
            "query text",
            "top_k integer",
            "method text",
            "latency_ms integer",
            "result jsonb",
            "created_at timestamptz = now()",
        ],
        constraints: &["PRIMARY KEY (id)"],
        indexes: &["btree (run_id)", "btree (created_at DESC)"],
    },
    Table {
        name: "observability.token_usage",
        columns: TOKEN_USAGE_COLUMNS,
        constraints: &["PRIMARY KEY (id, created_at)"],
        indexes: TOKEN_USAGE_INDEXES,
    },
    Table {
        name: "observability.token_usage_default",
        columns: TOKEN_USAGE_COLUMNS,
        constraints: &["PRIMARY KEY (id, created_at)"],
        indexes: TOKEN_USAGE_INDEXES,
    },
    Table {
        name: "observability.request_failures",
        columns: &[
            "id bigint not null = nextval('observability.request_failures_id_seq'::regclass)",
            "created_at timestamptz = now()",
            "component text",
            "error_type text",
            "message text",
            "request_id text",
            "run_id text",
            "context jsonb",
        ],
        constraints: &["PRIMARY KEY (id)"],
        indexes: &["btree (created_at DESC)", "btree (component)", "btree (request_id)"],
    },
];

const TOKEN_USAGE_COLUMNS: &[&str] = &[
    "id bigint not null = nextval('observability.token_usage_id_seq'::regclass)",
    "created_at timestamptz not null = now()",
    "model text",
    "operation text",
    "step text",
    "question_id text",
    "input_tokens bigint",
    "output_tokens bigint",
    "total_tokens bigint",
    "session_id text",
    "request_id text",
    "provider_request_id text",
    "latency_ms integer",
    "cache_hit boolean",
    "cost_usd_input double precision",
    "cost_usd_output double precision",
    "cost_usd_total double precision",
    "run_id text",
    "meta jsonb not null = '{}'::jsonb",
];

const TOKEN_USAGE_INDEXES: &[&str] = &[
    "btree (created_at DESC)",
    "btree (session_id)",
    "btree (request_id)",
    "btree (run_id)",
    "btree (operation, created_at)",
    "btree (model)",
];

/// Tables of the six schemas.
const NAMES: &str = "SELECT n.nspname || '.' || c.relname FROM pg_class c \
    JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'p') AND n.nspname IN \
    ('ingestion', 'enrichment', 'indexing', 'workflow', 'retrieval', 'observability')";

const COLUMNS: &str = "SELECT concat_ws(' ', a.attname, \
        replace(format_type(a.atttypid, a.atttypmod), 'timestamp with time zone', 'timestamptz'), \
        CASE WHEN a.attnotnull THEN 'not null' END, \
        '= ' || pg_get_expr(d.adbin, d.adrelid)) \
    FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
    WHERE a.attrelid = $1::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

/// Without the NOT NULL constraints that `PostgreSQL` 18 lists among the others.
const CONSTRAINTS: &str = "SELECT pg_get_constraintdef(oid) FROM pg_constraint \
    WHERE conrelid = $1::regclass AND contype IN ('p', 'u', 'c', 'f')";

const INDEXES: &str = "SELECT split_part(pg_get_indexdef(i.indexrelid), ' USING ', 2) \
    FROM pg_index i WHERE i.indrelid = $1::regclass AND NOT EXISTS \
    (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid AND c.contype IN ('p', 'u'))";

async fn migrated() -> (TestDatabase, PgConnection) {
    let database = TestDatabase::create().await;
    let mut connection = PgConnection::connect(database.url()).await.expect("connect");
    migrate::up(&mut connection, &["unified"], &Options::default()).await.expect("up");
    sqlx::raw_sql("SET search_path = pg_catalog").execute(&mut connection).await.expect("set");
    (database, connection)
}

async fn list(connection: &mut PgConnection, sql: &'static str, table: &str) -> Vec<String> {
    sqlx::query_scalar(sql).bind(table).fetch_all(connection).await.expect(sql)
}

fn sorted<T: Into<String>>(items: impl IntoIterator<Item = T>) -> Vec<String> {
    let mut items: Vec<String> = items.into_iter().map(Into::into).collect();
    items.sort_unstable();
    items
}

#[tokio::test]
async fn every_table_column_key_check_and_index_is_as_written_down() {
    let (_database, mut connection) = migrated().await;
    let names: Vec<String> =
        sqlx::query_scalar(NAMES).fetch_all(&mut connection).await.expect("names");
    assert_eq!(sorted(names), sorted(TABLES.iter().map(|table| table.name)));
    let has_vector: bool =
        sqlx::query_scalar("SELECT count(*) > 0 FROM pg_extension WHERE extname = 'vector'")
            .fetch_one(&mut connection)
            .await
            .expect("vector");
    let embedding = if has_vector { "public.vector" } else { "real[]" };
    for table in TABLES {
        let name = table.name;
        let columns: Vec<String> =
            table.columns.iter().map(|column| column.replace("EMBEDDING", embedding)).collect();
        assert_eq!(list(&mut connection, COLUMNS, name).await, columns, "{name}");
        let constraints = list(&mut connection, CONSTRAINTS, name).await;
        assert_eq!(sorted(constraints), sorted(table.constraints.iter().copied()), "{name}");
        let indexes = list(&mut connection, INDEXES, name).await;
        assert_eq!(sorted(indexes), sorted(table.indexes.iter().copied()), "{name}");
    }
}

#[tokio::test]
async fn every_table_of_the_toolkit_and_the_pack_says_what_it_is_for() {
    let (_database, mut connection) = migrated().await;
    let silent: Vec<String> = sqlx::query_scalar(
        "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p') AND n.nspname IN ('toolkit', 'ingestion', 'enrichment', \
         'indexing', 'workflow', 'retrieval', 'observability') \
         AND c.relname NOT LIKE 'migrations\\_%' AND obj_description(c.oid, 'pg_class') IS NULL",
    )
    .fetch_all(&mut connection)
    .await
    .expect("comments");
    assert_eq!(silent, Vec::<String>::new());
}

#[tokio::test]
async fn every_foreign_key_is_led_by_an_index() {
    let (_database, mut connection) = migrated().await;
    let bare: Vec<String> = sqlx::query_scalar(
        "SELECT conrelid::regclass || ' ' || conname FROM pg_constraint c WHERE contype = 'f' \
         AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.conrelid \
         AND (i.indkey::int2[])[0:cardinality(c.conkey) - 1] = c.conkey)",
    )
    .fetch_all(&mut connection)
    .await
    .expect("foreign keys");
    assert_eq!(bare, Vec::<String>::new());
}

#[tokio::test]
async fn values_outside_the_lists_and_second_natural_keys_are_refused_by_name() {
    let (_database, mut connection) = migrated().await;
    let insert = |table: &str, row: &str| format!("INSERT INTO {table} {row}");
    let record = |kind: &str| {
        insert("workflow.run_records", &format!("(run_id, record_kind) VALUES ('r', '{kind}')"))
    };
    sqlx::raw_sql(AssertSqlSafe(record("run"))).execute(&mut connection).await.expect("first");
    let cases = [
        (record("run"), "run_records_natural_key"),
        (record("runs"), "run_records_record_kind_check"),
        (
            insert("workflow.async_jobs", "(job_id, job_type) VALUES ('j', 'other')"),
            "async_jobs_job_type_check",
        ),
        (
            insert(
                "workflow.async_jobs",
                "(job_id, job_type, status) VALUES ('j', 'index', 'lost')",
            ),
            "async_jobs_status_check",
        ),
        (
            insert("ingestion.run_documents", "(run_id, doc_id) VALUES ('r', 'nowhere')"),
            "run_documents_doc_id_fkey",
        ),
        (
            insert("indexing.vectors", "(id, doc_id, chunk_id) VALUES (1, 'nowhere', 'c')"),
            "vectors_doc_id_fkey",
        ),
    ];
    for (sql, constraint) in cases {
        let error = sqlx::raw_sql(AssertSqlSafe(sql.clone()))
            .execute(&mut connection)
            .await
            .expect_err(&sql);
        let refused = error.as_database_error().and_then(|error| error.constraint());
        assert_eq!(refused, Some(constraint), "{sql}");
    }
}
