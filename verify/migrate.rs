//! Migrations: applied once, in order, whole or not at all; refused when they do not fit.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use toolkit::ErrorKind;
use toolkit::migrate::{
    self, Applied, MigrationSet, NO_TRANSACTION_HEADER, Options, State, builtin, from_directory,
};

use crate::support::TestDatabase;

/// Of `V1__a.sql` with `SELECT 1;` and a line feed.
const PINNED_CHECKSUM: u64 = 15_641_188_318_147_896_532;

async fn connect(database: &TestDatabase) -> PgConnection {
    PgConnection::connect(database.url()).await.expect("connect")
}

async fn run(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.expect(sql);
}

async fn count(connection: &mut PgConnection, sql: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(connection).await.expect(sql)
}

async fn texts(connection: &mut PgConnection, sql: &str) -> Vec<String> {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_all(connection).await.expect(sql)
}

fn set(pack: &str, files: &[(&str, &str)]) -> MigrationSet {
    let files = files.iter().map(|(name, sql)| ((*name).to_owned(), (*sql).to_owned()));
    MigrationSet::new(pack, files).expect("a sound set")
}

async fn apply_set(
    connection: &mut PgConnection,
    set: &MigrationSet,
    options: &Options,
) -> toolkit::Result<Applied> {
    let plan = migrate::plan(connection, std::slice::from_ref(set)).await?;
    migrate::apply(connection, &plan, options).await
}

fn applied_files(applied: &Applied) -> Vec<&str> {
    applied
        .stages
        .iter()
        .flat_map(|stage| &stage.applied)
        .map(|file| file.file_name.as_str())
        .collect()
}

#[tokio::test]
async fn up_applies_everything_once_and_up_again_changes_nothing_and_says_so() {
    let database = TestDatabase::create().await;
    let mut connection = connect(&database).await;
    let unified = builtin("unified").expect("built in");

    let error = migrate::require_current(&mut connection, "unified").await.expect_err("empty");
    assert_eq!(error.kind(), ErrorKind::Migration);
    assert_eq!(error.advice_text(), Some("run `toolkit migrate up --pack unified`"));

    let first = migrate::up(&mut connection, &["unified"], &Options::default()).await.expect("up");
    let control = builtin("toolkit").expect("built in");
    let mut expected: Vec<&str> =
        control.migrations.iter().map(|file| file.file_name.as_str()).collect();
    expected.extend(unified.migrations.iter().map(|file| file.file_name.as_str()));
    assert_eq!(applied_files(&first), expected, "the control schema comes first");
    migrate::require_current(&mut connection, "unified").await.expect("current");

    let history = "SELECT version || name || applied_on || checksum \
                   FROM toolkit.migrations_unified ORDER BY version";
    let before = texts(&mut connection, history).await;
    assert_eq!(before.len(), unified.migrations.len());

    let again = migrate::up(&mut connection, &["unified"], &Options::default()).await.expect("up");
    assert!(again.is_empty(), "{again:?}");
    assert_eq!(texts(&mut connection, history).await, before);
    let status = migrate::status(&mut connection, &unified).await.expect("status");
    assert!(status.is_current());
}

#[tokio::test]
async fn a_plan_writes_nothing() {
    let database = TestDatabase::create().await;
    let mut connection = connect(&database).await;
    let unified = builtin("unified").expect("built in");
    let plan = migrate::plan(&mut connection, &[unified]).await.expect("plan");
    let control = builtin("toolkit").expect("built in");
    let all = control.migrations.len() + builtin("unified").expect("built in").migrations.len();
    assert_eq!(plan.stages.iter().map(|stage| stage.pending.len()).sum::<usize>(), all);
    let schemas = "SELECT count(*) FROM pg_namespace \
                   WHERE nspname IN ('toolkit', 'ingestion', 'workflow')";
    assert_eq!(count(&mut connection, schemas).await, 0);
}

#[tokio::test]
async fn a_migration_edited_after_it_was_applied_is_refused_by_version_name_and_file() {
    let database = TestDatabase::create().await;
    let mut connection = connect(&database).await;
    let options = Options::default();
    let one = ("V1__one.sql", "CREATE TABLE one ()");
    apply_set(&mut connection, &set("p", &[one, ("V2__two.sql", "SELECT 1")]), &options)
        .await
        .expect("up");

    let edited = set("p", &[one, ("V2__two.sql", "SELECT 2"), ("V3__x.sql", "CREATE TABLE x ()")]);
    let error = apply_set(&mut connection, &edited, &options).await.expect_err("divergent");
    assert_eq!(error.kind(), ErrorKind::Migration);
    for part in ["pack p", "V2", "(two)", "V2__two.sql", "another name or text"] {
        assert!(error.detail().contains(part), "{part}: {error}");
    }
    assert!(error.advice_text().expect("advice").contains("V4__<name>.sql"), "{error:?}");

    let status = migrate::status(&mut connection, &edited).await.expect("status");
    let found: Vec<_> = status.entries.into_iter().map(|entry| entry.state).collect();
    assert_eq!(found, [State::Applied, State::Divergent, State::Pending]);
    assert_eq!(
        count(&mut connection, "SELECT count(*) FROM pg_class WHERE relname = 'x'").await,
        0
    );

    let renamed = set("p", &[one, ("V2__zwei.sql", "SELECT 1")]);
    apply_set(&mut connection, &renamed, &options).await.expect_err("renamed");
}

#[tokio::test]
async fn an_applied_migration_without_a_file_and_a_late_older_one_are_refused() {
    let database = TestDatabase::create().await;
    let mut connection = connect(&database).await;
    let options = Options::default();
    let (one, three) = (("V1__one.sql", "SELECT 1"), ("V3__three.sql", "SELECT 3"));
    apply_set(&mut connection, &set("p", &[one, three]), &options).await.expect("up");

    let error = apply_set(&mut connection, &set("p", &[one]), &options).await.expect_err("missing");
    assert_eq!(error.kind(), ErrorKind::Migration);
    assert!(error.detail().contains("V3 (three)"), "{error}");
    assert!(error.detail().contains("there is no file V3__three.sql"), "{error}");

    let late = set("p", &[one, ("V2__two.sql", "SELECT 2"), three]);
    let error = apply_set(&mut connection, &late, &options).await.expect_err("out of order");
    assert!(error.detail().contains("V2 (two)"), "{error}");
    assert!(error.advice_text().expect("advice").contains("V4__two.sql"), "{error:?}");
}

#[test]
fn two_files_of_one_version_and_misnamed_files_are_refused() {
    let refused = |files: &[(&str, &str)]| {
        let files = files.iter().map(|(name, sql)| ((*name).to_owned(), (*sql).to_owned()));
        MigrationSet::new("p", files).expect_err("refused").detail().to_owned()
    };
    let twice = refused(&[("V1__a.sql", ""), ("V01__b.sql", "")]);
    assert!(twice.contains("V1__a.sql") && twice.contains("V01__b.sql"), "{twice}");
    for name in ["V1_a.sql", "v1__a.sql", "U1__a.sql", "|1__a.sql", "V1.5__a.sql", "V1__a-b.sql"] {
        assert!(refused(&[(name, "")]).contains(name), "{name}");
    }
    assert!(refused(&[("V1__a.sql", "CREATE TABLE a (); COMMIT; SELECT 1")]).contains("COMMIT"));
    let late_header = format!("SELECT 1;\n{NO_TRANSACTION_HEADER}\nSELECT 2");
    assert!(refused(&[("V1__a.sql", &late_header)]).contains("line 1"));
}

#[test]
fn a_folder_is_read_whole_or_refused() {
    let folder = tempfile::tempdir().expect("tempdir");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text);
    assert!(from_directory("p", folder.path()).is_err(), "an empty folder is a mistake");
    write("V10__ten.sql", "SELECT 10").expect("write");
    write("V9__nine.sql", "SELECT 9").expect("write");
    write("pack.toml", "not SQL").expect("write");
    let read = from_directory("p", folder.path()).expect("read");
    let versions: Vec<_> = read.migrations.iter().map(migrate::Migration::version).collect();
    assert_eq!(versions, [9, 10]);
    write("V11_typo.sql", "SELECT 11").expect("write");
    assert!(from_directory("p", folder.path()).expect_err("typo").detail().contains("V11_typo"));
    assert_eq!(from_directory("toolkit", folder.path()).expect_err("own").kind(), ErrorKind::Usage);
    assert_eq!(from_directory("P;x", folder.path()).expect_err("name").kind(), ErrorKind::Usage);
}

#[test]
fn line_endings_and_a_byte_order_mark_do_not_change_the_checksum() {
    let sum = |sql: &str| set("p", &[("V1__a.sql", sql)]).migrations[0].checksum();
    let unix = "CREATE TABLE a (\n    id int\n);\n";
    assert_eq!(sum(unix), sum(&unix.replace('\n', "\r\n")));
    assert_eq!(sum(unix), sum(&format!("\u{feff}{unix}")));
    assert_ne!(sum(unix), sum(&unix.replace("    ", "  ")));
    // Pinned: a database migrated by an older build must still be recognised.
    assert_eq!(sum("SELECT 1;\n"), PINNED_CHECKSUM);
}

#[tokio::test]
async fn of_two_migrators_at_once_one_waits_and_each_migration_is_applied_once() {
    let database = TestDatabase::create().await;
    let slow = set(
        "p",
        &[
            ("V1__one.sql", "CREATE TABLE one (); SELECT pg_sleep(0.7)"),
            ("V2__two.sql", "CREATE TABLE two ()"),
        ],
    );
    let migrator = async || {
        let mut connection = connect(&database).await;
        let plan = migrate::plan(&mut connection, std::slice::from_ref(&slow)).await.expect("plan");
        // Both plan before either applies.
        tokio::time::sleep(Duration::from_millis(200)).await;
        migrate::apply(&mut connection, &plan, &Options::default()).await.expect("apply")
    };
    let (a, b) = tokio::join!(migrator(), migrator());
    let (winner, waiter) = if a.is_empty() { (b, a) } else { (a, b) };
    let control = builtin("toolkit").expect("built in");
    let mut expected: Vec<&str> =
        control.migrations.iter().map(|file| file.file_name.as_str()).collect();
    expected.extend(["V1__one.sql", "V2__two.sql"]);
    assert_eq!(applied_files(&winner), expected);
    assert!(waiter.is_empty());
    assert_eq!(waiter.stages[1].by_others, ["V1__one.sql", "V2__two.sql"]);
    let mut connection = connect(&database).await;
    assert_eq!(count(&mut connection, "SELECT count(*) FROM toolkit.migrations_p").await, 2);
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = \
                 (SELECT oid FROM pg_database WHERE datname = current_database())";
    assert_eq!(count(&mut connection, locks).await, 0, "the lock was given back");
}

#[tokio::test]
async fn a_migrator_that_waits_too_long_says_who_holds_the_lock() {
    let database = TestDatabase::create().await;
    let url = format!("{}&application_name=slowpoke", database.url());
    let url = if database.url().contains('?') { url } else { url.replacen('&', "?", 1) };
    let mut holder = PgConnection::connect(&url).await.expect("connect");
    run(&mut holder, "SELECT pg_advisory_lock(x'746f6f6c'::int, x'6d696772'::int)").await;
    let pid: i32 =
        sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut holder).await.expect("pid");

    let mut connection = connect(&database).await;
    let options = Options { wait: Duration::from_millis(300), ..Options::default() };
    let error = migrate::up(&mut connection, &["toolkit"], &options).await.expect_err("busy");
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(error.detail().contains(&format!("pid {pid}")), "{error}");
    assert!(error.detail().contains("slowpoke"), "{error}");
}

#[tokio::test]
async fn a_failure_in_the_middle_leaves_neither_changes_nor_bookkeeping() {
    let database = TestDatabase::create().await;
    let mut connection = connect(&database).await;
    let options = Options::default();
    let one = ("V1__one.sql", "CREATE TABLE one ()");
    let broken = set("p", &[one, ("V2__two.sql", "CREATE TABLE two ();\n\nSELECT nonsense;\n")]);
    let error = apply_set(&mut connection, &broken, &options).await.expect_err("fails");
    assert_eq!(error.kind(), ErrorKind::Migration);
    for part in ["pack p", "V2__two.sql line 3", "nonsense", "42703"] {
        assert!(error.detail().contains(part), "{part}: {error}");
    }
    assert_eq!(
        texts(
            &mut connection,
            "SELECT relname::text FROM pg_class WHERE relname IN ('one', 'two')"
        )
        .await,
        ["one"]
    );
    let history = "SELECT name FROM toolkit.migrations_p";
    assert_eq!(texts(&mut connection, history).await, ["one"]);

    let mended = set("p", &[one, ("V2__two.sql", "CREATE TABLE two ();")]);
    let applied = apply_set(&mut connection, &mended, &options).await.expect("mended");
    assert_eq!(applied_files(&applied), ["V2__two.sql"]);
}

#[tokio::test]
async fn a_table_in_use_is_waited_for_briefly_and_tried_again() {
    let database = TestDatabase::create().await;
    let mut connection = connect(&database).await;
    let base = ("V1__base.sql", "CREATE TABLE public.busy ()");
    let change = ("V2__change.sql", "ALTER TABLE public.busy ADD COLUMN a int");
    apply_set(&mut connection, &set("p", &[base]), &Options::default()).await.expect("base");

    let mut reader = connect(&database).await;
    run(&mut reader, "BEGIN; SELECT * FROM public.busy").await;
    let hasty =
        Options { lock_timeout: Duration::from_millis(50), attempts: 2, ..Options::default() };
    let error = apply_set(&mut connection, &set("p", &[base, change]), &hasty)
        .await
        .expect_err("the reader does not let go");
    assert_eq!(error.kind(), ErrorKind::StoreConflict);
    assert!(error.detail().contains("gave up after 2 attempts"), "{error}");
    assert!(error.advice_text().expect("advice").contains("--lock-timeout"));

    let patient = Options { attempts: 20, ..hasty.clone() };
    let both = set("p", &[base, change]);
    let (applied, ()) = tokio::join!(apply_set(&mut connection, &both, &patient), async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        run(&mut reader, "ROLLBACK").await;
    });
    assert_eq!(applied_files(&applied.expect("after the reader is gone")), ["V2__change.sql"]);
}

#[tokio::test]
async fn a_step_without_transaction_killed_midway_recovers_from_an_invalid_index() {
    let database = TestDatabase::create().await;
    let mut watcher = connect(&database).await;
    run(&mut watcher, "CREATE TABLE public.t AS SELECT i AS id FROM generate_series(1, 1000) i")
        .await;
    run(&mut watcher, "CREATE TABLE public.trace (at timestamptz DEFAULT clock_timestamp())").await;
    let sql = format!(
        "{NO_TRANSACTION_HEADER}\nINSERT INTO public.trace DEFAULT VALUES;\n\
         CREATE UNIQUE INDEX CONCURRENTLY t_id ON public.t (id);\n"
    );
    let files = set("p", &[("V1__index.sql", &sql)]);

    // An open transaction that has written the table holds the build up in its middle.
    let mut writer = connect(&database).await;
    run(&mut writer, "BEGIN; INSERT INTO public.t VALUES (0)").await;
    let mut victim = connect(&database).await;
    let options = Options::default();
    let (killed, ()) = tokio::join!(apply_set(&mut victim, &files, &options), async {
        let building = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE \
                        'CREATE UNIQUE INDEX CONCURRENTLY t_id%' AND wait_event_type = 'Lock'";
        while count(&mut watcher, building).await == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE \
                    'CREATE UNIQUE INDEX CONCURRENTLY t_id%'";
        count(&mut watcher, kill).await;
    });
    assert_eq!(killed.expect_err("killed").kind(), ErrorKind::StoreUnreachable);
    run(&mut writer, "COMMIT").await;

    let invalid = "SELECT count(*) FROM pg_index WHERE indexrelid = to_regclass('public.t_id') \
                   AND NOT indisvalid";
    assert_eq!(count(&mut watcher, invalid).await, 1, "the case is planted");
    let steps = "SELECT state FROM toolkit.migration_step ORDER BY step";
    assert_eq!(texts(&mut watcher, steps).await, ["done", "pending"]);
    let status = migrate::status(&mut watcher, &files).await.expect("status");
    assert_eq!(status.entries[0].state, State::Pending);

    let mut second = connect(&database).await;
    let applied = apply_set(&mut second, &files, &options).await.expect("recovers");
    assert_eq!(applied_files(&applied), ["V1__index.sql"]);
    assert_eq!(count(&mut watcher, invalid).await, 0);
    let valid = "SELECT count(*) FROM pg_index WHERE indexrelid = to_regclass('public.t_id') \
                 AND indisvalid";
    assert_eq!(count(&mut watcher, valid).await, 1);
    assert_eq!(texts(&mut watcher, steps).await, ["done", "done"]);
    let trace = "SELECT count(*) FROM public.trace";
    assert_eq!(count(&mut watcher, trace).await, 1, "a finished step is not run again");
    assert!(apply_set(&mut second, &files, &options).await.expect("again").is_empty());
}

#[tokio::test]
async fn a_unique_index_that_failed_on_duplicates_is_redone_after_they_are_gone() {
    let database = TestDatabase::create().await;
    let mut connection = connect(&database).await;
    run(&mut connection, "CREATE TABLE public.t (id int); INSERT INTO public.t VALUES (1), (1)")
        .await;
    let sql = format!(
        "{NO_TRANSACTION_HEADER}\nCREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS \"t id\" ON t (id)"
    );
    let files = set("p", &[("V1__index.sql", &sql)]);
    let options = Options::default();
    let error = apply_set(&mut connection, &files, &options).await.expect_err("duplicates");
    assert_eq!(error.kind(), ErrorKind::Migration);
    assert!(error.detail().contains("V1__index.sql, statement 1"), "{error}");
    run(&mut connection, "DELETE FROM public.t WHERE ctid = '(0,2)'").await;
    apply_set(&mut connection, &files, &options).await.expect("redone");
    let valid = "SELECT count(*) FROM pg_index WHERE indexrelid = to_regclass('public.\"t id\"') \
                 AND indisvalid";
    assert_eq!(count(&mut connection, valid).await, 1);
    let timeout = texts(&mut connection, "SELECT current_setting('lock_timeout')").await;
    assert_eq!(timeout, ["0"], "the connection keeps no limit of the migration's");
}

#[tokio::test]
async fn an_invalid_index_of_somebody_else_is_refused() {
    let database = TestDatabase::create().await;
    let mut connection = connect(&database).await;
    run(&mut connection, "CREATE TABLE public.t (id int); INSERT INTO public.t VALUES (1), (1)")
        .await;
    let build = "CREATE UNIQUE INDEX CONCURRENTLY t_id ON public.t (id)";
    sqlx::raw_sql(build).execute(&mut connection).await.expect_err("planted");
    let files = set("p", &[("V1__index.sql", &format!("{NO_TRANSACTION_HEADER}\n{build}"))]);
    let error =
        apply_set(&mut connection, &files, &Options::default()).await.expect_err("not ours");
    assert!(error.detail().contains("public.t_id exists, invalid"), "{error}");
    assert!(error.advice_text().expect("advice").contains("DROP INDEX CONCURRENTLY public.t_id"));
}

#[tokio::test]
async fn concurrently_without_the_header_is_explained() {
    let database = TestDatabase::create().await;
    let mut connection = connect(&database).await;
    run(&mut connection, "CREATE TABLE public.t (id int)").await;
    let files = set("p", &[("V1__i.sql", "CREATE INDEX CONCURRENTLY i ON public.t (id)")]);
    let error = apply_set(&mut connection, &files, &Options::default()).await.expect_err("refused");
    assert!(error.advice_text().expect("advice").contains(NO_TRANSACTION_HEADER), "{error:?}");
}

#[tokio::test]
async fn a_missing_optional_extension_never_fails_a_migration_and_is_reported() {
    let database = TestDatabase::create().await;
    let mut connection = connect(&database).await;
    let applied =
        migrate::up(&mut connection, &["unified"], &Options::default()).await.expect("up");
    let available = "SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'";
    let has_vector = count(&mut connection, available).await == 1;
    let column = "SELECT udt_name::text FROM information_schema.columns \
                  WHERE table_schema = 'indexing' AND table_name = 'vectors' \
                  AND column_name = 'embedding'";
    let expected = if has_vector { "vector" } else { "_float4" };
    assert_eq!(texts(&mut connection, column).await, [expected]);
    let names: Vec<_> = applied.optional.iter().map(|part| part.name.as_str()).collect();
    assert_eq!(names, ["vector", "lz4"]);
    assert_eq!(applied.optional[0].used, has_vector);
    assert!(has_vector || applied.optional[0].state.contains("real[]"));
    run(
        &mut connection,
        "INSERT INTO ingestion.documents (doc_id, path) VALUES ('d', 'p'); \
         INSERT INTO indexing.vectors (id, doc_id, chunk_id, embedding) VALUES \
         (1, 'd', 'c', ARRAY[0.5, -1]::real[])",
    )
    .await;
}

#[tokio::test]
async fn an_extension_of_that_name_that_cannot_serve_falls_back_too() {
    let database = TestDatabase::create().await;
    let mut connection = connect(&database).await;
    // Without schema public the extension has no home to be created in.
    run(&mut connection, "DROP SCHEMA public CASCADE").await;
    migrate::up(&mut connection, &["unified"], &Options::default()).await.expect("up");
    let parts = migrate::optional_extensions(&mut connection).await.expect("report");
    assert!(!parts[0].used, "{parts:?}");
}

#[tokio::test]
async fn wide_columns_use_lz4_where_the_server_has_it() {
    let database = TestDatabase::create().await;
    let mut connection = connect(&database).await;
    let applied =
        migrate::up(&mut connection, &["unified"], &Options::default()).await.expect("up");
    let server = "SELECT count(*) FROM pg_settings WHERE name = 'default_toast_compression' \
                  AND 'lz4' = ANY (enumvals)";
    let has_lz4 = count(&mut connection, server).await == 1;
    assert_eq!(applied.optional[1].used, has_lz4);
    if has_lz4 {
        run(&mut connection, "SELECT observability.ensure_token_usage_partition('2026-02-03')")
            .await;
        let tables = texts(
            &mut connection,
            "SELECT DISTINCT attrelid::regclass::text FROM pg_attribute \
             WHERE attcompression = 'l' ORDER BY 1",
        )
        .await;
        for table in ["retrieval.query_cache", "observability.token_usage_y2026m02"] {
            assert!(tables.iter().any(|own| own == table), "{table}: {tables:?}");
        }
    }
}

#[tokio::test]
async fn a_month_of_token_usage_takes_its_rows_out_of_default_whatever_the_time_zone() {
    let database = TestDatabase::create().await;
    let mut connection = connect(&database).await;
    migrate::up(&mut connection, &["unified"], &Options::default()).await.expect("up");
    run(
        &mut connection,
        "SET timezone = 'Pacific/Auckland'; SET datestyle = 'SQL, DMY'; \
         INSERT INTO observability.token_usage (id, created_at) VALUES \
         (1, '2026-01-31T23:59:59.999999Z'), (2, '2026-02-01T00:00:00Z'), \
         (3, '2026-02-28T23:59:59.999999Z'), (4, '2026-03-01T00:00:00Z'); \
         SELECT observability.ensure_token_usage_partition('2026-02-14'); \
         SELECT observability.ensure_token_usage_partition('2026-02-01')",
    )
    .await;
    let rows = "SELECT id || ' ' || tableoid::regclass FROM observability.token_usage ORDER BY id";
    let expected = [
        "1 observability.token_usage_default",
        "2 observability.token_usage_y2026m02",
        "3 observability.token_usage_y2026m02",
        "4 observability.token_usage_default",
    ];
    assert_eq!(texts(&mut connection, rows).await, expected);
    for wrong in ["NULL", "'infinity'"] {
        let sql = format!("SELECT observability.ensure_token_usage_partition({wrong})");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.expect_err(wrong);
    }
}
