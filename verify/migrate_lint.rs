//! The lint of migrations: every hazard of a corpus is found, its safe form is let through, and
//! the safe form is SQL that a server takes.

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use toolkit::migrate::lint::{Lint, LintFile, Severity, files_of, lint, rule_names};
use toolkit::migrate::{NO_TRANSACTION_HEADER, builtin, builtin_packs};

use crate::support::{TestDatabase, stderr, stdout, toolkit};

/// What is live before each case.
const LIVE: &str = "\
CREATE SCHEMA shop;
CREATE TABLE shop.customers (id bigint PRIMARY KEY, email text, name varchar(40), born text);
CREATE TABLE shop.orders (id bigint, customer bigint, total int, at timestamptz, note text NOT NULL,
                          stay tstzrange, CONSTRAINT orders_total CHECK (total < 1000000));
CREATE INDEX orders_at ON shop.orders (at);
CREATE TABLE shop.events (at timestamptz NOT NULL, what text) PARTITION BY RANGE (at);
CREATE TABLE shop.events_2025 PARTITION OF shop.events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE shop.events_2026 (at timestamptz NOT NULL, what text);
CREATE MATERIALIZED VIEW shop.sums AS SELECT 1 AS id, count(*) AS n FROM shop.orders;
CREATE UNIQUE INDEX sums_id ON shop.sums (id);
CREATE VIEW shop.recent AS SELECT id FROM shop.orders;
CREATE TYPE shop.mood AS ENUM ('good', 'bad');
CREATE DOMAIN shop.positive AS int;
CREATE SEQUENCE shop.numbers;
CREATE SCHEMA archive;";

/// A hazard and how to do without it.
struct Case {
    rule: &'static str,
    hazard: &'static str,
    /// Files, one after the other; one that begins with `!` runs without a transaction.
    safe: &'static [&'static str],
}

const fn case(rule: &'static str, hazard: &'static str, safe: &'static [&'static str]) -> Case {
    Case { rule, hazard, safe }
}

const CASES: &[Case] = &[
    case(
        "require-concurrent-index-creation",
        "CREATE INDEX orders_customer ON shop.orders (customer)",
        &["!CREATE INDEX CONCURRENTLY IF NOT EXISTS orders_customer ON shop.orders (customer)"],
    ),
    case(
        "require-concurrent-index-creation",
        "CREATE UNIQUE INDEX ON shop.orders (id) WHERE total > 0",
        &["!CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS o ON shop.orders (id) WHERE total > 0"],
    ),
    case(
        "require-concurrent-index-creation",
        "create index if not exists x on only shop.orders using gin (to_tsvector('simple', note))",
        &["CREATE TABLE shop.notes (note text); CREATE INDEX notes_note ON shop.notes (note)"],
    ),
    case(
        "require-concurrent-index-deletion",
        "DROP INDEX shop.orders_at",
        &["!DROP INDEX CONCURRENTLY IF EXISTS shop.orders_at"],
    ),
    case(
        "require-concurrent-reindex",
        "REINDEX TABLE shop.orders",
        &["!REINDEX TABLE CONCURRENTLY shop.orders"],
    ),
    case(
        "require-concurrent-reindex",
        "REINDEX INDEX shop.orders_at",
        &["!REINDEX (VERBOSE) INDEX CONCURRENTLY shop.orders_at"],
    ),
    case(
        "require-concurrent-partition-detach",
        "ALTER TABLE shop.events DETACH PARTITION shop.events_2025",
        &["!ALTER TABLE shop.events DETACH PARTITION shop.events_2025 CONCURRENTLY"],
    ),
    case(
        "concurrently-in-transaction",
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS o ON shop.orders (total)",
        &["!CREATE INDEX CONCURRENTLY IF NOT EXISTS o ON shop.orders (total)"],
    ),
    case("concurrently-in-transaction", "VACUUM shop.orders", &["!VACUUM shop.orders"]),
    case(
        "concurrently-in-transaction",
        "DROP INDEX CONCURRENTLY IF EXISTS shop.orders_at",
        &["!DROP INDEX CONCURRENTLY IF EXISTS shop.orders_at"],
    ),
    case(
        "constraint-missing-not-valid",
        "ALTER TABLE shop.orders ADD CONSTRAINT positive CHECK (total >= 0)",
        &[
            "ALTER TABLE shop.orders ADD CONSTRAINT positive CHECK (total >= 0) NOT VALID",
            "ALTER TABLE shop.orders VALIDATE CONSTRAINT positive",
        ],
    ),
    case(
        "constraint-missing-not-valid",
        "ALTER TABLE shop.orders ADD CONSTRAINT p CHECK (total >= 0) NOT VALID; \
         ALTER TABLE shop.orders VALIDATE CONSTRAINT p",
        &[
            "ALTER TABLE shop.orders ADD CONSTRAINT p CHECK (total >= 0) NOT VALID",
            "ALTER TABLE shop.orders VALIDATE CONSTRAINT p",
        ],
    ),
    case(
        "adding-foreign-key-constraint",
        "ALTER TABLE shop.orders ADD CONSTRAINT c FOREIGN KEY (customer) REFERENCES shop.customers (id)",
        &[
            "ALTER TABLE shop.orders ADD CONSTRAINT c FOREIGN KEY (customer) \
             REFERENCES shop.customers (id) NOT VALID",
            "ALTER TABLE shop.orders VALIDATE CONSTRAINT c",
        ],
    ),
    case(
        "adding-foreign-key-constraint",
        "ALTER TABLE shop.orders ADD COLUMN payer bigint REFERENCES shop.customers",
        &[
            "ALTER TABLE shop.orders ADD COLUMN payer bigint",
            "ALTER TABLE shop.orders ADD CONSTRAINT payer_fk FOREIGN KEY (payer) \
             REFERENCES shop.customers NOT VALID",
            "ALTER TABLE shop.orders VALIDATE CONSTRAINT payer_fk",
        ],
    ),
    case(
        "disallowed-unique-constraint",
        "ALTER TABLE shop.customers ADD CONSTRAINT one_email UNIQUE (email)",
        &[
            "!CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS one_email ON shop.customers (email)",
            "ALTER TABLE shop.customers ADD CONSTRAINT one_email UNIQUE USING INDEX one_email",
        ],
    ),
    case(
        "disallowed-unique-constraint",
        "ALTER TABLE shop.customers ADD COLUMN handle text UNIQUE",
        &[
            "ALTER TABLE shop.customers ADD COLUMN handle text",
            "!CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS h ON shop.customers (handle)",
        ],
    ),
    case(
        "adding-serial-primary-key-field",
        "ALTER TABLE shop.orders ADD PRIMARY KEY (id)",
        &[
            "!CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS orders_key ON shop.orders (id)",
            "ALTER TABLE shop.orders ADD CONSTRAINT id_known CHECK (id IS NOT NULL) NOT VALID",
            "ALTER TABLE shop.orders VALIDATE CONSTRAINT id_known",
            "ALTER TABLE shop.orders ADD CONSTRAINT orders_key PRIMARY KEY USING INDEX orders_key",
        ],
    ),
    case(
        "adding-exclusion-constraint",
        "ALTER TABLE shop.orders ADD CONSTRAINT one_stay EXCLUDE USING gist (stay WITH &&)",
        &["CREATE TABLE shop.stays (stay tstzrange, EXCLUDE USING gist (stay WITH &&))"],
    ),
    case(
        "adding-check-with-column",
        "ALTER TABLE shop.orders ADD COLUMN rate int CHECK (rate > 0)",
        &[
            "ALTER TABLE shop.orders ADD COLUMN rate int",
            "ALTER TABLE shop.orders ADD CONSTRAINT r CHECK (rate > 0) NOT VALID",
            "ALTER TABLE shop.orders VALIDATE CONSTRAINT r",
        ],
    ),
    case(
        "adding-required-field",
        "ALTER TABLE shop.orders ADD COLUMN state text NOT NULL",
        &["ALTER TABLE shop.orders ADD COLUMN state text NOT NULL DEFAULT 'open'"],
    ),
    case(
        "adding-required-field",
        "ALTER TABLE shop.orders ADD state text NOT NULL, ADD kind text",
        &["ALTER TABLE shop.orders ADD state text, ADD kind text"],
    ),
    case(
        "adding-not-nullable-field",
        "ALTER TABLE shop.orders ALTER COLUMN total SET NOT NULL",
        &[
            "ALTER TABLE shop.orders ADD CONSTRAINT t CHECK (total IS NOT NULL) NOT VALID",
            "ALTER TABLE shop.orders VALIDATE CONSTRAINT t; \
             ALTER TABLE shop.orders ALTER COLUMN total SET NOT NULL",
        ],
    ),
    case(
        "adding-field-with-default",
        "ALTER TABLE shop.orders ADD COLUMN token uuid DEFAULT gen_random_uuid()",
        &[
            "ALTER TABLE shop.orders ADD COLUMN token uuid",
            "ALTER TABLE shop.orders ALTER COLUMN token SET DEFAULT gen_random_uuid()",
        ],
    ),
    case(
        "adding-field-with-default",
        "ALTER TABLE shop.orders ADD COLUMN seen timestamptz DEFAULT clock_timestamp()",
        &["ALTER TABLE shop.orders ADD COLUMN seen timestamptz DEFAULT now()"],
    ),
    case(
        "adding-field-with-default",
        "ALTER TABLE shop.orders ADD COLUMN twice int GENERATED ALWAYS AS (total * 2) STORED",
        &["CREATE OR REPLACE VIEW shop.doubled AS SELECT id, total * 2 AS twice FROM shop.orders"],
    ),
    case(
        "adding-identity-column",
        "ALTER TABLE shop.orders ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY",
        &[
            "ALTER TABLE shop.orders ADD COLUMN number bigint",
            "ALTER TABLE shop.orders ALTER COLUMN number SET DEFAULT nextval('shop.numbers')",
        ],
    ),
    case(
        "adding-identity-column",
        "ALTER TABLE shop.orders ADD COLUMN number bigserial",
        &["ALTER TABLE shop.orders ADD COLUMN number bigint"],
    ),
    case(
        "changing-column-type",
        "ALTER TABLE shop.orders ALTER COLUMN total TYPE bigint",
        &["ALTER TABLE shop.orders ADD COLUMN total_wide bigint"],
    ),
    case(
        "changing-column-type",
        "ALTER TABLE shop.customers ALTER born SET DATA TYPE date USING born::date",
        &["ALTER TABLE shop.customers ADD COLUMN born_on date"],
    ),
    case(
        "rewriting-table",
        "ALTER TABLE shop.orders SET UNLOGGED",
        &["CREATE UNLOGGED TABLE shop.u (a int)"],
    ),
    case("rewriting-table", "ALTER TABLE shop.orders SET LOGGED", &["CREATE TABLE shop.l (a int)"]),
    case(
        "rewriting-table",
        "ALTER TABLE shop.orders SET TABLESPACE pg_default",
        &["ALTER TABLE shop.orders SET (fillfactor = 90)"],
    ),
    case("rewriting-table", "CLUSTER shop.orders USING orders_at", &["ANALYZE shop.orders"]),
    case("rewriting-table", "!VACUUM FULL shop.orders", &["!VACUUM (ANALYZE) shop.orders"]),
    case(
        "locking-table",
        "LOCK TABLE shop.orders IN ACCESS EXCLUSIVE MODE",
        &["SELECT pg_advisory_xact_lock(1)"],
    ),
    case(
        "blocking-refresh",
        "REFRESH MATERIALIZED VIEW shop.sums",
        &["REFRESH MATERIALIZED VIEW CONCURRENTLY shop.sums"],
    ),
    case(
        "renaming-column",
        "ALTER TABLE shop.orders RENAME COLUMN total TO sum",
        &["ALTER TABLE shop.orders ADD COLUMN sum int"],
    ),
    case(
        "renaming-table",
        "ALTER TABLE shop.orders RENAME TO purchases",
        &["CREATE VIEW shop.purchases AS SELECT * FROM shop.orders"],
    ),
    case(
        "ban-drop-column",
        "ALTER TABLE shop.orders DROP COLUMN note",
        &["ALTER TABLE shop.orders ALTER COLUMN note SET DEFAULT ''"],
    ),
    case(
        "ban-drop-table",
        "DROP TABLE IF EXISTS shop.orders CASCADE",
        &["CREATE TABLE shop.scratch (a int); DROP TABLE shop.scratch"],
    ),
    case("ban-drop-schema", "DROP SCHEMA archive", &["CREATE SCHEMA IF NOT EXISTS attic"]),
    case(
        "ban-truncate-cascade",
        "TRUNCATE shop.customers CASCADE",
        &["DELETE FROM shop.customers WHERE id < 0"],
    ),
    case("truncating", "TRUNCATE shop.orders", &["DELETE FROM shop.orders WHERE at < now()"]),
    case(
        "unbounded-write",
        "UPDATE shop.orders SET note = ''",
        &["UPDATE shop.orders SET note = '' WHERE id BETWEEN 1 AND 1000"],
    ),
    case("unbounded-write", "DELETE FROM shop.orders", &["DELETE FROM shop.orders WHERE id = 1"]),
    case(
        "attaching-partition",
        "ALTER TABLE shop.events ATTACH PARTITION shop.events_2026 \
         FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
        &["CREATE TABLE shop.events_2027 PARTITION OF shop.events \
           FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')"],
    ),
    case(
        "ban-drop-not-null",
        "ALTER TABLE shop.orders ALTER COLUMN note DROP NOT NULL",
        &["ALTER TABLE shop.orders ALTER COLUMN note SET STATISTICS 500"],
    ),
    case(
        "ban-drop-constraint",
        "ALTER TABLE shop.orders DROP CONSTRAINT orders_total",
        &["ALTER TABLE shop.orders ADD CONSTRAINT other CHECK (total < 5) NOT VALID"],
    ),
    case(
        "ban-drop-view",
        "DROP VIEW shop.recent",
        &["CREATE OR REPLACE VIEW shop.recent AS SELECT id FROM shop.orders WHERE total > 0"],
    ),
    case("ban-drop-type", "DROP TYPE shop.mood", &["ALTER TYPE shop.mood ADD VALUE 'fair'"]),
    case(
        "ban-alter-domain-with-add-constraint",
        "ALTER DOMAIN shop.positive ADD CONSTRAINT above CHECK (VALUE > 0)",
        &["CREATE TYPE shop.pair AS (a int, b int)"],
    ),
    case(
        "ban-set-schema",
        "ALTER TABLE shop.orders SET SCHEMA archive",
        &["CREATE VIEW archive.orders AS SELECT * FROM shop.orders"],
    ),
    case(
        "identifier-too-long",
        "CREATE TABLE shop.a_name_that_is_so_long_that_postgres_cuts_it_off_after_sixty_three_bytes \
         (a int)",
        &["CREATE TABLE shop.a_name_that_is_long_but_not_longer_than_sixty_three_bytes_ (a int)"],
    ),
    case(
        "not-repeatable",
        "!CREATE INDEX CONCURRENTLY o ON shop.orders (total)",
        &["!CREATE INDEX CONCURRENTLY IF NOT EXISTS o ON shop.orders (total)"],
    ),
];

fn file(text: &str) -> LintFile {
    match text.strip_prefix('!') {
        Some(outside) => LintFile::new("a.sql", &format!("{NO_TRANSACTION_HEADER}\n{outside};\n")),
        None => LintFile::new("a.sql", &format!("{text};\n")),
    }
}

fn linted(texts: &[&str]) -> Lint {
    let files: Vec<LintFile> = texts.iter().map(|text| file(text)).collect();
    lint(&files, "15").expect("a version")
}

#[test]
fn every_hazard_is_found_by_its_rule_and_every_safe_form_is_let_through() {
    for case in CASES {
        let found = linted(&[case.hazard]);
        let by_rule = found.hazards.iter().filter(|hazard| hazard.rule == case.rule).count();
        assert_eq!(by_rule, 1, "{}: {:#?}", case.hazard, found.hazards);
        assert!(
            found.hazards.iter().all(|hazard| !hazard.safe.is_empty() && !hazard.what.is_empty())
        );
        let safe = linted(case.safe);
        assert!(safe.hazards.is_empty(), "{:?}: {:#?}", case.safe, safe.hazards);
    }
    assert!(CASES.len() >= 40, "{}", CASES.len());
}

#[test]
fn every_rule_has_a_case_but_those_that_a_migration_cannot_contain() {
    for rule in rule_names() {
        let has_case = CASES.iter().any(|case| case.rule == rule);
        let cannot = ["ban-drop-database", "transaction-nesting"].contains(&rule);
        assert!(has_case != cannot, "{rule}");
    }
}

/// Each in a database of its own, statement by statement as `migrate up` would.
#[tokio::test]
async fn every_safe_form_and_every_hazard_is_sql_that_a_server_takes() {
    let database = TestDatabase::create().await;
    let mut conn = PgConnection::connect(database.url()).await.expect("connect");
    for case in CASES.iter().filter(|case| case.rule != "concurrently-in-transaction") {
        for texts in [case.safe, &[case.hazard]] {
            run(&mut conn, LIVE).await;
            for text in texts {
                match text.strip_prefix('!') {
                    Some(outside) => run(&mut conn, outside).await,
                    None => run(&mut conn, &format!("BEGIN; {text}; COMMIT")).await,
                }
            }
            run(
                &mut conn,
                "DROP SCHEMA IF EXISTS shop CASCADE; DROP SCHEMA IF EXISTS archive CASCADE",
            )
            .await;
            run(&mut conn, "DROP SCHEMA IF EXISTS attic CASCADE").await;
        }
    }
}

async fn run(conn: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(conn).await.expect(sql);
}

#[test]
fn what_the_same_file_makes_is_not_live_and_what_an_earlier_file_made_is() {
    let made = "CREATE TABLE shop.fresh (a int, b text); CREATE INDEX fresh_a ON shop.fresh (a); \
                ALTER TABLE shop.fresh ALTER COLUMN b TYPE varchar(5); DROP INDEX fresh_a";
    assert_eq!(linted(&[made]).hazards, []);
    let later = linted(&[made, "CREATE INDEX fresh_b ON shop.fresh (b)"]);
    assert_eq!(later.refused(), 1, "{:#?}", later.hazards);
    // A first installation runs on empty tables, whichever of its files made them.
    let mut files = vec![file(made), file("CREATE INDEX fresh_b ON shop.fresh (b)")];
    for file in &mut files {
        file.first_installation = true;
    }
    assert_eq!(lint(&files, "15").expect("a version").hazards, []);
}

#[test]
fn a_comment_with_a_reason_lets_one_rule_through_and_one_without_is_refused() {
    let with = |comment: &str| linted(&[&format!("{comment}\nALTER TABLE shop.a RENAME TO b")]);
    let allowed = with("-- toolkit: allow renaming-table because nobody is there\n-- as agreed");
    assert!(allowed.passes && allowed.allowed == 1, "{:#?}", allowed.hazards);
    for refused in [
        "-- toolkit: allow renaming-table",
        "-- toolkit: allow renaming-table because ",
        "-- toolkit: allow renaming-column because nobody is there",
        "-- nothing",
    ] {
        assert_eq!(with(refused).refused(), 1, "{refused}");
    }
    // It speaks of the next statement alone.
    let next = linted(&["-- toolkit: allow ban-drop-table because it is empty\n\
                         DROP TABLE shop.a;\nDROP TABLE shop.b"]);
    assert_eq!((next.refused(), next.hazards[0].line), (1, 3));
}

#[test]
fn a_finding_says_file_line_column_and_the_statement_it_is_about() {
    let text = "-- A comment; with a semicolon.\nSELECT 'DROP TABLE x;', $$DROP TABLE y;$$;\n\n  \
                ALTER TABLE shop.a\n    RENAME COLUMN \"Ä b\" TO c";
    let found = linted(&[text]);
    assert_eq!(found.statements, 2);
    let [hazard] = found.hazards.as_slice() else { panic!("{:#?}", found.hazards) };
    assert_eq!((hazard.file.as_str(), hazard.line), ("a.sql", 5));
    assert_eq!(hazard.statement, "ALTER TABLE shop.a RENAME COLUMN \"Ä b\" TO c;");
    assert_eq!(hazard.severity, Severity::Refused);
}

#[test]
fn the_packs_own_migrations_pass_and_the_parser_understands_every_statement_of_them() {
    for pack in builtin_packs() {
        let set = builtin(pack).expect(pack);
        let found = lint(&files_of(&set, i64::MAX), "15").expect("a version");
        assert_eq!(found.hazards, [], "{pack}");
        assert!(found.statements > set.migrations.len(), "{pack}");
    }
}

#[test]
fn the_command_exits_1_where_something_is_refused_0_on_warnings_and_2_on_a_missing_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("V1__a.sql"), "CREATE TABLE t (a int);").expect("written");
    std::fs::write(path("V10__c.sql"), "TRUNCATE t;").expect("written");
    let run = |arguments: &[&str]| {
        toolkit().args(["migrate", "lint"]).args(arguments).output().expect("toolkit")
    };
    let warned = run(&[&path(""), "--format", "json"]);
    assert_eq!(warned.status.code(), Some(0), "{}", stderr(&warned));
    let report: serde_json::Value = serde_json::from_str(&stdout(&warned)).expect("JSON");
    assert_eq!(report["hazards"][0]["rule"], "truncating");
    std::fs::write(path("V2__b.sql"), "CREATE INDEX i ON t (a);").expect("written");
    let refused = run(&[&path("")]);
    assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
    let said = "V2__b.sql:1:1: refused: require-concurrent-index-creation";
    assert!(stdout(&refused).contains(said), "{}", stdout(&refused));
    assert_eq!(run(&[&path(""), "--installed", "2"]).status.code(), Some(0));
    for missing in ["none.sql", "V1__a.sql/none"] {
        let failed = run(&[&path(missing)]);
        assert_eq!(failed.status.code(), Some(2), "{}", stdout(&failed));
        assert!(stderr(&failed).contains(missing), "{}", stderr(&failed));
    }
    assert_eq!(run(&["--postgres", "new"]).status.code(), Some(2));
}
