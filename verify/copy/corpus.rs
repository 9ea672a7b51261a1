//! Files as applications leave them, and hostile ones.

use super::{Scene, column};

/// Indexes, conditions, defaults, generated columns, references of every kind.
pub(super) const RICH: &str = "
    CREATE TABLE r (id INTEGER PRIMARY KEY, s TEXT COLLATE NOCASE UNIQUE, n INT DEFAULT -5
            CONSTRAINT low CHECK (n < 100), act BOOLEAN DEFAULT 1, at DATETIME DEFAULT CURRENT_TIMESTAMP,
            v INTEGER AS (n * 2) STORED, up INTEGER REFERENCES r(id) ON DELETE SET NULL,
            CHECK (act IN (0, 1)), CHECK (typeof(n) <> 'text'));
    INSERT INTO r (id, s, n, up) VALUES (1, 'A', 1, 2), (2, 'b', 2, 1), (3, NULL, NULL, 3);
    CREATE INDEX r_lower ON r (lower(s), n DESC); CREATE UNIQUE INDEX r_part ON r (n) WHERE act = 1;
    CREATE INDEX r_odd ON r (n % 2);
    CREATE TABLE k (a REAL, b BLOB, PRIMARY KEY (a, b)) WITHOUT ROWID;
    INSERT INTO k VALUES (1.5, x'00'), (1.5, x'01');
    CREATE TABLE kk (x REAL, y BLOB, FOREIGN KEY (x, y) REFERENCES k DEFERRABLE INITIALLY DEFERRED);
    INSERT INTO kk VALUES (1.5, x'01'), (NULL, x'77');
    CREATE TABLE \"Odd \"\"Name\" (\"select\" INT, \"\" TEXT, \"xmin\" INT); INSERT INTO \"Odd \"\"Name\" VALUES (1, '', 2);
    CREATE VIEW w AS SELECT * FROM r; CREATE TRIGGER tr AFTER INSERT ON r BEGIN SELECT 1; END;";

struct Case {
    name: &'static str,
    source: String,
    /// Rows rejected.
    rejected: u64,
    /// What the plan has to say.
    says: &'static [&'static str],
}

fn case(name: &'static str, source: &str, rejected: u64, says: &'static [&'static str]) -> Case {
    Case { name, source: source.to_owned(), rejected, says }
}

fn cases() -> Vec<Case> {
    let long = "x".repeat(70);
    let wide: String = (1..1600).map(|i| [", c", &i.to_string(), " INTEGER"].concat()).collect();
    vec![
        case("rich", RICH, 0, &[
            "CHECK (typeof(n) <> 'text') left out",
            "r_odd left out",
            "computed by Postgres",
            "\"view\"",
            "\"trigger\"",
            "collation NOCASE",
            "DEFERRABLE, for rows that refer to each other",
            "column `xmin` is called `xmin_`",
        ]),
        case("null keys", "CREATE TABLE t (id TEXT PRIMARY KEY, n INT);
            INSERT INTO t VALUES ('a', 1), ('A', 2), (NULL, 3), (NULL, 3)", 0, &["holds NULL"]),
        case("names that are cut alike", &format!("CREATE TABLE \"{long}a\" (\"{long}\" INT, \"{long}1\" INT);
            CREATE TABLE \"{long}b\" (\"new\nline \\ \"\"q\"\"\" INT); INSERT INTO \"{long}a\" VALUES (1, 2)"), 0, &["is called"]),
        case("a circle", "CREATE TABLE a (id INTEGER PRIMARY KEY, b INT NOT NULL REFERENCES b(id));
            CREATE TABLE b (id INTEGER PRIMARY KEY, a INT NOT NULL REFERENCES a(id));
            INSERT INTO a VALUES (1, 1), (2, 1); INSERT INTO b VALUES (1, 2)", 0, &["DEFERRABLE"]),
        case("references that lead nowhere", "CREATE TABLE p (id INTEGER PRIMARY KEY);
            CREATE TABLE c (a INT REFERENCES p, b INT REFERENCES absent(x), d INT REFERENCES p(nope));
            INSERT INTO c VALUES (5, 1, 2)", 0, &[
                "1 rows lead nowhere", "that table is not copied", "its columns do not match"]),
        case("text Postgres cannot hold", "CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT);
            INSERT INTO t VALUES (1, 'ok'), (2, 'a' || char(0)), (3, CAST(x'ff' AS TEXT)), (4, 'y'), (5, 'z')",
            2, &["2 of 5 texts hold U+0000"]),
        case("numbers of every size", "CREATE TABLE t (i INTEGER, d DECIMAL(4,1), r REAL, big INTEGER, inf REAL, mix);
            INSERT INTO t VALUES (12.3, 1.25, 1, 9223372036854775807, 9e999, 1),
                (1, 3, -0.0, 1, -9e999, 2.5), ('toto', NULL, 1e-320, -9223372036854775808, 1, 9007199254740993)",
            0, &["mixed classes", "beyond the declared digits"]),
        case("every class in one column", "CREATE TABLE t (x);
            INSERT INTO t VALUES (1), (2.5), ('t'), (x'00'), (NULL), ('t')", 0, &["bytes of their text"]),
        case("values no B-tree holds", "CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT UNIQUE, y TEXT);
            CREATE INDEX by_y ON t (y);
            INSERT INTO t VALUES (1, hex(randomblob(3000)), hex(randomblob(3000)))", 0, &["more than a B-tree holds"]),
        case("names of constraints that are taken", "CREATE TABLE t_pkey (id INTEGER PRIMARY KEY);
            CREATE TABLE t (id INTEGER PRIMARY KEY, x INT UNIQUE, CHECK (x > 0));
            CREATE INDEX t_check ON t (x); CREATE INDEX t_idx ON t (x); INSERT INTO t VALUES (1, 1)", 0, &[]),
        case("the last number", "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT);
            INSERT INTO t VALUES (9223372036854775807)", 0, &[]),
        case("a full-text index", "CREATE VIRTUAL TABLE f USING fts5(body); INSERT INTO f VALUES ('x');
            CREATE TABLE t (a)", 0, &["virtual table", "shadow table"]),
        case("as wide as can be", &format!("CREATE TABLE t (id INTEGER PRIMARY KEY{wide}); INSERT INTO t (id) VALUES (1)"), 0, &[]),
        case("no table at all", "CREATE VIEW v AS SELECT 1", 0, &[]),
    ]
}

#[tokio::test]
async fn any_file_ends_clean_or_with_rejects_that_are_right() {
    for case in cases() {
        let scene = Scene::of(&case.source).await;
        println!("{}", case.name);
        let report = scene.copy(i32::from(case.rejected > 0), &[]);
        let text = report.to_string();
        for says in case.says {
            assert!(
                text.contains(&says.replace('"', "\\\"")) || text.contains(says),
                "{}: {says}: {text}",
                case.name
            );
        }
        if report["backfill"].is_null() {
            continue;
        }
        assert_eq!(report["backfill"]["rejects"], case.rejected, "{}: {text}", case.name);
        assert_eq!(report["parity"]["verdict"], "clean", "{}: {text}", case.name);
    }
}

#[tokio::test]
async fn references_that_lead_nowhere_become_what_is_asked_for() {
    let source = "CREATE TABLE p (id INTEGER PRIMARY KEY); INSERT INTO p VALUES (1);
        CREATE TABLE c (id INTEGER PRIMARY KEY, p INT REFERENCES p);
        INSERT INTO c VALUES (1, 1), (2, 5), (3, NULL)";
    for (how, code, rows, keys) in
        [("keep", 0, "3", "0"), ("reject", 1, "2", "1"), ("null", 0, "3", "1")]
    {
        let scene = Scene::of(source).await;
        let report = scene.copy(code, &["--dangling", how]);
        assert_eq!(report["parity"]["verdict"], "clean", "{how}");
        assert_eq!(scene.text("SELECT count(*)::text FROM app.c").await, rows, "{how}");
        let count = "SELECT count(*)::text FROM pg_constraint WHERE contype = 'f' AND conrelid = 'app.c'::regclass";
        assert_eq!(scene.text(count).await, keys, "{how}");
    }
}

#[tokio::test]
async fn bad_text_becomes_what_is_asked_for() {
    let source = "CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT);
        INSERT INTO t VALUES (1, 'ok'), (2, 'a' || char(0) || 'b'), (3, 'c')";
    for (how, ty) in [("replace", "text"), ("bytea", "bytea")] {
        let scene = Scene::of(source).await;
        let report = scene.copy(0, &["--bad-text", how]);
        assert_eq!(column(&report["plan"], "t", "x")["type"], ty);
        assert_eq!(scene.text("SELECT count(*)::text FROM app.t").await, "3");
    }
}

#[tokio::test]
async fn moments_in_integers_are_said_and_converted_if_asked() {
    let source = "CREATE TABLE t (created_at INTEGER, n INTEGER);
        INSERT INTO t VALUES (1700000000, 1700000000), (1700000001, 1700000001)";
    let scene = Scene::of(source).await;
    let plan = scene.copy(0, &["--dry-run"]);
    assert!(column(&plan, "t", "created_at")["hint"].as_str().unwrap().contains("--epochs"));
    let report = scene.copy(0, &["--epochs"]);
    assert_eq!(column(&report["plan"], "t", "created_at")["type"], "timestamptz");
    assert_eq!(column(&report["plan"], "t", "n")["type"], "bigint");
    let epoch = "SELECT max(extract(epoch FROM created_at))::bigint::text FROM app.t";
    assert_eq!(scene.text(epoch).await, "1700000001");
}
