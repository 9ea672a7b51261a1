//! The scenario of a backfill: generated sources into the pack `unified`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use toolkit::demo::generate::{Shape, generate};
use toolkit::store::quote_ident;

use super::cluster::Cluster;
use super::rack::Scenario;
use crate::support::backfill::fingerprint;
use crate::support::{binary, cleaned, copy_program, stderr, stdout};

const TEMPLATE: &str = "migrated";
const DATABASE: &str = "round";

/// See the module.
pub(crate) struct Copying {
    cluster: Cluster,
    folder: tempfile::TempDir,
    source: PathBuf,
    fingerprint: BTreeMap<PathBuf, Vec<u8>>,
    chunk_records: &'static str,
    /// What the first, undisturbed run left; every later one is held to it.
    calm: std::sync::OnceLock<State>,
}

/// What a finished run leaves in the database, apart from what the database counts itself.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    tables: Vec<String>,
    indexes: Vec<String>,
    rejects: Vec<String>,
    ledger: Vec<String>,
}

impl Copying {
    /// `token_usage` records are copied; from 50,000 on the indexes are built afterwards.
    pub(crate) async fn new(token_usage: usize, chunk_records: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        fs::create_dir(&source).unwrap();
        let shape = Shape { token_usage, ..Shape::demo() };
        generate(&source, 7, &shape).unwrap();
        fs::create_dir(folder.path().join("scratch")).unwrap();
        // Its own, so that a build beside a long torture changes nothing.
        copy_program(&binary(), &folder.path().join("toolkit"));
        let cluster = Cluster::start_new(&[]);
        cluster.make_database(TEMPLATE, None).await;
        let this = Self {
            fingerprint: contents(&source),
            cluster,
            folder,
            source,
            chunk_records,
            calm: std::sync::OnceLock::new(),
        };
        let migrated = this.tool(TEMPLATE, &["migrate", "up", "--pack", "unified"]).output();
        let migrated = migrated.unwrap();
        assert_eq!(migrated.status.code(), Some(0), "{}", stderr(&migrated));
        this
    }

    fn tool(&self, database: &str, arguments: &[&str]) -> Command {
        let mut command = cleaned(Command::new(self.folder.path().join("toolkit")));
        command
            .args(["--database-url", &self.cluster.url(database), "--format", "json"])
            .args(arguments)
            .env("TMPDIR", self.scratch())
            .current_dir(self.folder.path());
        command
    }

    fn scratch(&self) -> PathBuf {
        self.folder.path().join("scratch")
    }

    async fn state(&self) -> State {
        let lines = |query: &'static str| self.cluster.lines(DATABASE, query);
        let mut tables = Vec::new();
        for table in self.cluster.lines(DATABASE, COMPARED_COLUMNS).await {
            let (table, columns) = table.split_once('|').unwrap();
            let query = format!(
                "SELECT '{table} ' || count(*) || ' ' \
                 || coalesce(sum(hashtextextended(ROW({columns})::text, 0)), 0) FROM {table}"
            );
            tables.push(self.cluster.line(DATABASE, &query).await);
        }
        State {
            tables,
            indexes: lines(INDEXES).await,
            rejects: lines(REJECTS).await,
            ledger: lines(LEDGER).await,
        }
    }

    /// Rows counted without any index, so that a broken one cannot hide a duplicate.
    async fn assert_no_duplicates(&self) {
        for key in self.cluster.lines(DATABASE, UNIQUE_KEYS).await {
            let (table, columns) = key.split_once('|').unwrap();
            let query = format!(
                "SELECT set_config('enable_indexscan', 'off', false) \
                 || set_config('enable_indexonlyscan', 'off', false) \
                 || set_config('enable_bitmapscan', 'off', false) || (SELECT '|' || count(*) || \
                 '|' || count(DISTINCT ({columns})) FROM {table} WHERE num_nulls({columns}) = 0)"
            );
            let line = self.cluster.line(DATABASE, &query).await;
            let counts: Vec<&str> = line.split('|').skip(1).collect();
            assert_eq!(counts[0], counts[1], "{table}: two rows of one ({columns})");
        }
    }

    async fn assert_sequences_set(&self) {
        for sequence in self.cluster.lines(DATABASE, SEQUENCES).await {
            let parts: Vec<&str> = sequence.split('|').collect();
            let query = format!(
                "SELECT (coalesce(max({column}), 0) <= (SELECT last_value - CASE WHEN is_called \
                 THEN 0 ELSE 1 END FROM {sequence}))::text FROM {table}",
                sequence = parts[0],
                table = parts[1],
                column = quote_ident(parts[2])
            );
            let line = self.cluster.line(DATABASE, &query).await;
            assert_eq!(line, "true", "{sequence}: an INSERT would meet an existing key");
        }
    }

    /// Sessions end on the server moments after their client.
    async fn assert_nobody_left(&self) {
        let begun = Instant::now();
        loop {
            let left = self.cluster.lines("postgres", LEFT_BEHIND).await;
            if left.is_empty() {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "left behind: {left:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn assert_parity(&self) {
        let source = self.source.to_str().unwrap();
        let arguments = ["verify-parity", "--pack", "unified", "--level", "full", "--source"];
        let mut command = self.tool(DATABASE, &arguments);
        let output = command.arg(source).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    }
}

impl Scenario for Copying {
    fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    fn database(&self) -> &str {
        DATABASE
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    async fn begin(&mut self) {
        self.cluster.make_database(DATABASE, Some(TEMPLATE)).await;
    }

    fn command(&self) -> Command {
        let arguments =
            ["backfill", "--pack", "unified", "--chunk-records", self.chunk_records, "--source"];
        let mut command = self.tool(DATABASE, &arguments);
        command.arg(&self.source);
        command
    }

    /// The generated sources hold records that are refused.
    fn exit_code(&self) -> i32 {
        1
    }

    async fn audit(&self) {
        self.assert_parity();
        let empty: Vec<String> = Vec::new();
        for (what, query) in BROKEN_PROMISES {
            assert_eq!(self.cluster.lines(DATABASE, query).await, empty, "{what}");
        }
        self.assert_no_duplicates().await;
        self.assert_sequences_set().await;
        self.assert_nobody_left().await;
        let state = self.state().await;
        let calm = self.calm.get_or_init(|| state.clone());
        assert_eq!(&state, calm, "not what an undisturbed run leaves");
        assert!(contents(&self.source) == self.fingerprint, "the source was touched");
        let scratch: Vec<_> =
            fs::read_dir(self.scratch()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(scratch, Vec::<PathBuf>::new(), "scratch files are left");
    }
}

/// An index of a write-ahead log is the one side effect reading may have.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fingerprint(folder)
        .into_iter()
        .filter(|(path, (bytes, _))| {
            let name = path.to_string_lossy();
            !(name.ends_with("-shm") || name.ends_with("-wal") && bytes.is_empty())
        })
        .map(|(path, (bytes, _))| (path, bytes))
        .collect()
}

/// What must not be found after a finished run.
const BROKEN_PROMISES: [(&str, &str); 8] = [
    (
        "the newest run is not completed",
        "SELECT status FROM (SELECT status FROM toolkit.run ORDER BY started_at DESC LIMIT 1) r \
         WHERE status <> 'completed'",
    ),
    ("runs still running", "SELECT run_id::text FROM toolkit.run WHERE status = 'running'"),
    (
        "counts of a completed run do not balance",
        "SELECT run_id || ': ' || counts FROM toolkit.run WHERE status = 'completed' AND \
         (counts->>'read')::int <> (SELECT sum(value::int) FROM jsonb_each_text(counts->'records'))",
    ),
    (
        "the sum of a completed run's chunks is not its count",
        "SELECT r.run_id::text FROM toolkit.run r WHERE status = 'completed' AND \
         (counts->>'read')::int IS DISTINCT FROM \
         (SELECT sum(rows_read) FROM toolkit.chunk c WHERE c.run_id = r.run_id)",
    ),
    (
        "chunks of a completed run are pending",
        "SELECT c.stream || ' ' || c.chunk_no FROM toolkit.chunk c JOIN toolkit.run r USING \
         (run_id) WHERE c.status = 'pending' AND r.status = 'completed'",
    ),
    (
        "deferred indexes wait",
        "SELECT index_name FROM toolkit.deferred_index WHERE restored_at IS NULL",
    ),
    (
        "temporary tables are left",
        "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n \
         ON n.oid = c.relnamespace WHERE n.nspname ~ '^pg_(toast_)?temp_'",
    ),
    (
        "indexes are not valid",
        "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid OR NOT indisready",
    ),
];

/// Ordinary tables of the application with their columns; left out is what the database counts
/// or dates itself.
const COMPARED_COLUMNS: &str = "\
    SELECT a.attrelid::regclass || '|' || string_agg(quote_ident(a.attname), ', ' ORDER BY attnum) \
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
    JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind = 'r' AND a.attnum > 0 AND NOT attisdropped AND n.nspname <> 'toolkit' \
    AND n.nspname !~ '^(pg_|information_schema)' AND c.relname !~ '^refinery' \
    AND NOT (c.relname = 'run_records' AND attname IN ('id', 'created_at', 'updated_at')) \
    GROUP BY a.attrelid ORDER BY a.attrelid::regclass::text";

const INDEXES: &str = "SELECT schemaname || ': ' || indexdef FROM pg_indexes \
    WHERE schemaname !~ '^pg_' ORDER BY 1";

const REJECTS: &str = "SELECT concat_ws(' ', stream, output, source, locator, record_key, \
    column_name, reason, detail, encode(record_sha256, 'hex'), state) FROM toolkit.reject \
    ORDER BY 1";

const LEDGER: &str = "SELECT concat_ws(' ', stream, output, source, locator, column_name, rule, \
    path, encode(original_hash, 'hex'), encode(target_digest, 'hex')) FROM toolkit.ledger \
    ORDER BY 1";

const UNIQUE_KEYS: &str = "\
    SELECT x.indrelid::regclass || '|' || string_agg(quote_ident(a.attname), ', ' ORDER BY k.n) \
    FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid \
    JOIN pg_namespace n ON n.oid = c.relnamespace \
    CROSS JOIN LATERAL unnest(x.indkey) WITH ORDINALITY k(attnum, n) \
    JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.attnum \
    WHERE x.indisunique AND x.indpred IS NULL AND x.indexprs IS NULL AND c.relkind = 'r' \
    AND n.nspname !~ '^pg_' GROUP BY x.indexrelid, x.indrelid";

const SEQUENCES: &str = "\
    SELECT d.objid::regclass || '|' || d.refobjid::regclass || '|' || a.attname \
    FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' \
    JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid \
    WHERE d.classid = 'pg_class'::regclass AND d.refobjsubid > 0";

const LEFT_BEHIND: &str = "\
    SELECT 'session ' || state || ': ' || left(query, 80) FROM pg_stat_activity \
    WHERE application_name = 'toolkit' \
    UNION ALL SELECT 'advisory lock of ' || pid FROM pg_locks WHERE locktype = 'advisory' \
    UNION ALL SELECT 'prepared ' || gid FROM pg_prepared_xacts";
