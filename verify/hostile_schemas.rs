//! Any schema on either side: each case is loaded, verified in full, and loaded again unchanged.

use crate::support::backfill::Move;
use crate::support::{TestDatabase, as_role, stderr};

struct Case {
    name: &'static str,
    source: &'static str,
    target: &'static str,
    /// Table of the source, `target` and `key`, as in pack.toml; then further lines.
    table: &'static str,
    into: &'static str,
    key: &'static str,
    more: &'static str,
    /// Rows inserted and rows rejected.
    rows: [u64; 2],
}

const CASE: Case = Case {
    name: "",
    source: "",
    target: "",
    table: "t",
    into: "public.t",
    key: "[\"id\"]",
    more: "",
    rows: [0, 0],
};

async fn holds(case: &Case) {
    let Case { name, table, into, key, more, .. } = case;
    let streams = format!(
        "[[stream]]\nname = \"items\"\ntarget = '''{into}'''\nkey = {key}\n\
         source = {{ sqlite = \"app.sqlite\", table = '''{table}''' }}\n{more}\n"
    );
    let [inserted, rejected] = case.rows;
    let code = i32::from(rejected > 0);
    for chunk in ["1", "1000"] {
        let scene = Move::own(case.target, &streams, case.source).await;
        let report = scene.backfill(code, &["--chunk-records", chunk]);
        let why: Vec<String> =
            scene.rejects().await.into_iter().map(|(_, at, _, why)| at + " " + &why).collect();
        assert_eq!(report.six("items"), [inserted, 0, 0, 0, 0, rejected], "{name}: {why:?}");
        let verified = scene.verify();
        let text = crate::support::stdout(&verified);
        assert_eq!(verified.status.code(), Some(0), "{name}: {text}{}", stderr(&verified));
        let again = scene.backfill(code, &["--chunk-records", chunk]);
        assert_eq!(again.six("items"), [0, 0, inserted, 0, 0, rejected], "{name}: second run");
        if chunk == "1" {
            let (url, file) = (scene.database.url(), scene.source.join("app.sqlite"));
            crate::copy::copies(url, &file, &scene.database.folder().join("state"), name);
        }
    }
}

async fn all_hold(cases: &[Case]) {
    for case in cases {
        holds(case).await;
    }
}

#[tokio::test]
async fn any_key_of_a_source() {
    all_hold(&[
        Case {
            name: "WITHOUT ROWID, composite, mixed classes",
            source: "CREATE TABLE t (id ANY, part ANY, body TEXT, PRIMARY KEY (id, part)) WITHOUT ROWID;
                INSERT INTO t VALUES (1, 'a', 'x'), (1, 'A', 'y'), ('1', 'b', 'z'), (1.5, 'c', NULL),
                    ('a', '', 'e'), ('ä', 'ß', 's'), (-9223372036854775808, 'm', 'min')",
            target: "CREATE TABLE t (id text, part text, body text, PRIMARY KEY (id, part))",
            key: "[\"id\", \"part\"]",
            more: "columns = { id = { from = \"id\", cast = \"text\" }, part = \"part\", body = \"body\" }",
            rows: [7, 0],
            ..CASE
        },
        Case {
            name: "text keys that are nearly alike, and NULL ones",
            source: "CREATE TABLE t (id TEXT PRIMARY KEY, n INTEGER);
                INSERT INTO t VALUES ('a', 1), ('A', 2), ('ß', 3), ('ss', 4), ('é', 5),
                    ('e' || char(769), 6), ('a ', 7), ('', 8), (' ', 9), (NULL, 10), (NULL, 11)",
            target: "CREATE TABLE t (id text PRIMARY KEY, n bigint)",
            rows: [9, 2],
            ..CASE
        },
        Case {
            name: "INTEGER PRIMARY KEY DESC, which is no rowid",
            source: "CREATE TABLE t (id INTEGER PRIMARY KEY DESC, body TEXT);
                INSERT INTO t VALUES (3, 'c'), (-1, 'a'), (2, 'b'), (NULL, 'n'), (NULL, 'n')",
            target: "CREATE TABLE t (id bigint PRIMARY KEY, body text)",
            rows: [3, 2],
            ..CASE
        },
        Case {
            name: "rowid, oid and _rowid_ all taken",
            source: "CREATE TABLE t (rowid TEXT, oid TEXT, _rowid_ TEXT);
                INSERT INTO t VALUES ('a', 'b', 'c'), ('d', 'e', 'f'), ('g', NULL, 'h')",
            target: "CREATE TABLE t (rowid text PRIMARY KEY, oid text, _rowid_ text)",
            key: "[\"rowid\"]",
            rows: [3, 0],
            ..CASE
        },
        Case {
            name: "STRICT with every class",
            source: "CREATE TABLE t (id INTEGER PRIMARY KEY, i INT, r REAL, x TEXT, b BLOB, a ANY) STRICT;
                INSERT INTO t VALUES (1, 2, 3.5, 'x', x'00ff', 'any'), (2, NULL, NULL, NULL, NULL, NULL)",
            target: "CREATE TABLE t (id bigint PRIMARY KEY, i bigint, r float8, x text, b bytea, a text)",
            rows: [2, 0],
            ..CASE
        },
        Case {
            name: "generated columns",
            source: "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER,
                    v INTEGER GENERATED ALWAYS AS (n * 2) VIRTUAL, s TEXT AS ('s' || n) STORED);
                INSERT INTO t (id, n) VALUES (1, 10), (2, NULL)",
            target: "CREATE TABLE t (id bigint PRIMARY KEY, n bigint, v bigint, s text)",
            rows: [2, 0],
            ..CASE
        },
        Case {
            name: "a view over a join",
            source: "CREATE TABLE a (id INTEGER PRIMARY KEY, n TEXT); CREATE TABLE b (a INTEGER, m TEXT);
                INSERT INTO a VALUES (1, 'x'), (2, 'y'); INSERT INTO b VALUES (2, 'm'), (1, 'k');
                CREATE VIEW t AS SELECT a.id, n || m AS both FROM b JOIN a ON a.id = b.a",
            target: "CREATE TABLE t (id bigint PRIMARY KEY, \"both\" text)",
            rows: [2, 0],
            ..CASE
        },
    ])
    .await;
}

#[tokio::test]
async fn any_name() {
    let long = "x".repeat(70);
    let source = format!(
        "CREATE TABLE \"a.b \"\"c\"\" select é\" (\"/id\" TEXT PRIMARY KEY, \"^x\" TEXT, \"+/y\" TEXT,
            \"@path\" TEXT, \"a.b\" TEXT, \"select\" TEXT, \" \" TEXT, \"\" TEXT, \"{long}\" TEXT,
            \"q\"\"q\" TEXT, \"column:z\" TEXT, \"日本\" TEXT, \"@left out\" TEXT);
         INSERT INTO \"a.b \"\"c\"\" select é\" VALUES
            ('1', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm')"
    );
    let target =
        "CREATE SCHEMA \"s.1\"; CREATE TABLE \"s.1\".\"t.\"\"2\"\"\" (\"/id\" text PRIMARY KEY,
        \"^x\" text, \"+/y\" text, \"@path\" text, \"a.b\" text, \"select\" text, \" \" text,
        empty text, long text, \"q\"\"q\" text, \"column:z\" text, \"日本\" text);
        CREATE TABLE \"T\" (id text); CREATE TABLE t (id text)";
    let more = format!(
        "ignore = [\"@left out\"]\n[stream.columns]\n\"/id\" = \"column:/id\"\n\"^x\" = \"column:^x\"\n\
         \"+/y\" = \"column:+/y\"\n\"@path\" = \"column:@path\"\n\"a.b\" = \"a.b\"\nselect = \"select\"\n\
         \" \" = \" \"\nempty = \"column:\"\nlong = \"{long}\"\n'q\"q' = 'q\"q'\n\
         \"column:z\" = \"column:column:z\"\n\"日本\" = \"日本\"\n"
    );
    let case = Case {
        name: "odd names",
        source: source.leak(),
        target,
        table: "a.b \"c\" select é",
        into: "\"s.1\".\"t.\"\"2\"\"\"",
        key: "[\"/id\"]",
        more: more.leak(),
        rows: [1, 0],
    };
    holds(&case).await;
    holds(&Case {
        name: "same names, odd ones among them",
        source: "CREATE TABLE t (\"/id\" TEXT PRIMARY KEY, \"@sha256\" TEXT, \"^\" TEXT);
            INSERT INTO t VALUES ('1', 'b', 'c')",
        target: "CREATE TABLE t (\"/id\" text PRIMARY KEY, \"@sha256\" text, \"^\" text)",
        key: "[\"/id\"]",
        rows: [1, 0],
        ..CASE
    })
    .await;
    holds(&Case {
        name: "tables that differ by case",
        source: "CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)",
        target:
            "CREATE TABLE \"T\" (id bigint PRIMARY KEY); CREATE TABLE t (id bigint PRIMARY KEY);
            INSERT INTO t VALUES (99)",
        into: "public.T",
        rows: [1, 0],
        ..CASE
    })
    .await;
}

#[tokio::test]
async fn any_column_of_a_target() {
    all_hold(&[
        Case {
            name: "serial, identity by default, generated, left to itself",
            source: "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER); INSERT INTO t VALUES (5, 1), (7, 2)",
            target: "CREATE TABLE t (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, n bigint,
                other serial, twice bigint GENERATED ALWAYS AS (n * 2) STORED,
                at timestamptz NOT NULL DEFAULT now())",
            rows: [2, 0],
            ..CASE
        },
        Case {
            name: "identity always",
            source: "CREATE TABLE t (id INTEGER PRIMARY KEY, n TEXT); INSERT INTO t VALUES (5, 'a'), (7, 'b')",
            target: "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n text)",
            rows: [2, 0],
            ..CASE
        },
        Case {
            name: "enums, domains, arrays and domains over them",
            source: "CREATE TABLE t (id INTEGER PRIMARY KEY, e TEXT, d TEXT, nested TEXT, a TEXT, da TEXT);
                INSERT INTO t VALUES (1, 'Sad', 'ab', 'ab', '[1, 2]', '[\"x\"]'), (2, 'sad', NULL, 'cd', '[]', NULL),
                    (3, 'SAD', 'ab', 'ab', NULL, NULL), (4, 'sad', 'toolong', 'ab', NULL, NULL),
                    (5, 'sad', 'ab', 'ab', NULL, '[\"x\", \"y\", \"z\"]'), (6, 'so \"x\"', 'ab', 'cd', NULL, '[]')",
            target: "CREATE TYPE mood AS ENUM ('Sad', 'sad', 'so \"x\"');
                CREATE DOMAIN short AS text CHECK (length(VALUE) < 4);
                CREATE DOMAIN shorter AS short NOT NULL CHECK (VALUE <> 'no');
                CREATE DOMAIN pair AS text[] CHECK (cardinality(VALUE) < 3);
                CREATE TABLE t (id bigint PRIMARY KEY, e mood, d short, nested shorter, a int[], da pair)",
            rows: [3, 3],
            ..CASE
        },
        Case {
            name: "checks, NOT NULL with a default, an unlogged table",
            source: "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, w TEXT);
                INSERT INTO t VALUES (1, 1, 'a'), (2, -1, 'b'), (3, 2, NULL)",
            target: "CREATE UNLOGGED TABLE t (id bigint PRIMARY KEY, n bigint CHECK (n > 0),
                w text NOT NULL DEFAULT 'd')",
            more: "columns = { id = \"id\", n = \"n\", w = { from = \"w\", default = \"d\" } }",
            rows: [2, 1],
            ..CASE
        },
    ])
    .await;
}

#[tokio::test]
async fn any_constraint_of_a_target() {
    let source = "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, w TEXT);
        INSERT INTO t VALUES (1, 1, 'a'), (2, 1, 'b'), (3, 2, NULL), (4, NULL, 'A'), (5, NULL, NULL)";
    let cases: &[(&'static str, &'static str, [u64; 2])] = &[
        ("a deferrable primary key", "CREATE TABLE t (id bigint PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, n bigint, w text)", [5, 0]),
        ("a deferrable unique constraint", "CREATE TABLE t (id bigint PRIMARY KEY, n bigint UNIQUE DEFERRABLE INITIALLY DEFERRED, w text)", [4, 1]),
        ("a partial unique index", "CREATE TABLE t (id bigint PRIMARY KEY, n bigint, w text); CREATE UNIQUE INDEX ON t (n) WHERE w = 'b' OR w = 'a'", [4, 1]),
        ("an expression unique index", "CREATE TABLE t (id bigint PRIMARY KEY, n bigint, w text); CREATE UNIQUE INDEX ON t (lower(w))", [4, 1]),
        ("an exclusion constraint", "CREATE TABLE t (id bigint PRIMARY KEY, n bigint, w text, EXCLUDE USING btree (n WITH =))", [4, 1]),
        ("only a partial unique index on the key", "CREATE TABLE t (id bigint, n bigint, w text); CREATE UNIQUE INDEX ON t (id) WHERE n > 0", [5, 0]),
        ("row-level security, for others", "CREATE TABLE t (id bigint PRIMARY KEY, n bigint, w text); ALTER TABLE t ENABLE ROW LEVEL SECURITY", [5, 0]),
        ("a child that inherits", "CREATE TABLE t (id bigint PRIMARY KEY, n bigint, w text); CREATE TABLE c (more text) INHERITS (t)", [5, 0]),
        ("list partitions with a default one", "CREATE TABLE t (id bigint, n bigint, w text) PARTITION BY LIST (w);
            CREATE TABLE t_a PARTITION OF t FOR VALUES IN ('a', NULL); CREATE TABLE t_d PARTITION OF t DEFAULT;
            CREATE UNIQUE INDEX ON t (id, w)", [5, 0]),
        ("hash partitions", "CREATE TABLE t (id bigint PRIMARY KEY, n bigint, w text) PARTITION BY HASH (id);
            CREATE TABLE t_0 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 0);
            CREATE TABLE t_1 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 1)", [5, 0]),
        ("range partitions that leave a gap, partitioned again", "CREATE TABLE t (id bigint PRIMARY KEY, n bigint, w text) PARTITION BY RANGE (id);
            CREATE TABLE t_0 PARTITION OF t FOR VALUES FROM (0) TO (2);
            CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (3) TO (9) PARTITION BY RANGE (id);
            CREATE TABLE t_10 PARTITION OF t_1 FOR VALUES FROM (3) TO (5);
            CREATE TABLE t_11 PARTITION OF t_1 FOR VALUES FROM (5) TO (9)", [4, 1]),
    ];
    for (name, target, rows) in cases {
        holds(&Case { name, source, target, rows: *rows, ..CASE }).await;
    }
    let scene = Move::own("CREATE TABLE t (id bigint)", "[[stream]]\nname = \"x\"\ntarget = \"t\"\nkey = [\"id\"]\nsource = { sqlite = \"x\", table = \"t\" }\n", "").await;
    if scene.text("SELECT current_setting('server_version_num')").await.as_str() >= "150000" {
        let target =
            "CREATE TABLE t (id bigint PRIMARY KEY, n bigint UNIQUE NULLS NOT DISTINCT, w text)";
        holds(&Case { name: "NULLS NOT DISTINCT", source, target, rows: [3, 2], ..CASE }).await;
    } else {
        println!("skipped: NULLS NOT DISTINCT needs PostgreSQL 15");
    }
}

#[tokio::test]
async fn keys_that_the_target_calls_equal_are_never_merged() {
    let source = "CREATE TABLE t (id TEXT PRIMARY KEY, n INTEGER);
        INSERT INTO t VALUES ('google', 1), ('Google', 2), ('x', 3)";
    let scene = Move::own("CREATE TABLE t (id bigint)", "[[stream]]\nname = \"x\"\ntarget = \"t\"\nkey = [\"id\"]\nsource = { sqlite = \"x\", table = \"t\" }\n", "").await;
    let mut tried = 0;
    for (needs, target) in [
        (
            "SELECT name FROM pg_available_extensions WHERE name = 'citext'",
            "CREATE EXTENSION citext; CREATE TABLE t (id citext PRIMARY KEY, n bigint)",
        ),
        (
            "SELECT collname FROM pg_collation WHERE collprovider = 'i' LIMIT 1",
            "CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false); CREATE TABLE t (id text COLLATE nocase PRIMARY KEY, n bigint)",
        ),
    ] {
        if scene.text(needs).await == "no row" {
            println!("skipped, not on this server: {target}");
            continue;
        }
        holds(&Case { name: "case twins", source, target, rows: [2, 1], ..CASE }).await;
        tried += 1;
    }
    println!("{tried} kinds of equality tried");
}

fn columns(n: usize, ty: &str) -> String {
    (1..n).map(|i| [", c", &i.to_string(), " ", ty].concat()).collect()
}

#[tokio::test]
async fn as_many_columns_as_postgres_has_and_not_one_more() {
    let source = format!(
        "CREATE TABLE t (id INTEGER PRIMARY KEY{}); INSERT INTO t (id, c1, c1599) VALUES (1, 2, 3), (2, NULL, 4)",
        columns(1600, "INTEGER")
    );
    let target = format!("CREATE TABLE t (id bigint PRIMARY KEY{})", columns(1600, "int"));
    holds(&Case {
        name: "1,600 columns",
        source: source.leak(),
        target: target.leak(),
        rows: [2, 0],
        ..CASE
    })
    .await;
    let wide = format!(
        "CREATE TABLE t (id INTEGER PRIMARY KEY{}); INSERT INTO t (id, c1) VALUES (1, 2)",
        columns(2000, "INTEGER")
    );
    let mapped = columns(2000, "").replace(", ", "\n").replace(' ', "");
    let mapped: String =
        mapped.lines().skip(1).map(|name| [name, " = \"", name, "\"\n"].concat()).collect();
    let ignored: Vec<String> = (2..2000).map(|i| format!("\"c{i}\"")).collect();
    let ignored = format!("ignore = [{}]", ignored.join(", "));
    let target = "CREATE TABLE t (id bigint PRIMARY KEY, c1 int)";
    let wide: &'static str = wide.leak();
    holds(&Case {
        name: "2 of 2,000",
        source: wide,
        target,
        more: ignored.leak(),
        rows: [1, 0],
        ..CASE
    })
    .await;
    let streams = format!(
        "[[stream]]\nname = \"items\"\ntarget = \"public.t\"\nkey = [\"id\"]\n\
         source = {{ sqlite = \"app.sqlite\", table = \"t\" }}\n[stream.columns]\nid = \"id\"\n{mapped}"
    );
    let scene = Move::own(target, &streams, wide).await;
    let output = scene.run(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("at most 1600"), "{}", stderr(&output));
}

#[tokio::test]
async fn targets_that_take_no_rows_are_refused_with_their_kind() {
    let base = "CREATE TABLE b (id bigint PRIMARY KEY);";
    for (target, says) in [
        ("CREATE VIEW t AS SELECT * FROM b", "is a view"),
        ("CREATE MATERIALIZED VIEW t AS SELECT * FROM b", "is a materialized view"),
        (
            "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; CREATE FOREIGN TABLE t (id bigint) SERVER s",
            "is a foreign table",
        ),
    ] {
        let streams = "[[stream]]\nname = \"items\"\ntarget = \"public.t\"\nkey = [\"id\"]\n\
            source = { sqlite = \"app.sqlite\", table = \"t\" }\n";
        let source = "CREATE TABLE t (id INTEGER PRIMARY KEY)";
        let scene = Move::own(&format!("{base}{target}"), streams, source).await;
        let output = scene.run(&[]);
        assert_eq!(output.status.code(), Some(2), "{target}");
        assert!(stderr(&output).contains(says), "{}", stderr(&output));
    }
}

#[tokio::test]
async fn a_role_that_may_not_write_is_told_what_it_lacks_before_anything_is_copied() {
    let streams = "[[stream]]\nname = \"items\"\ntarget = \"app.t\"\nkey = [\"id\"]\n\
        source = { sqlite = \"app.sqlite\", table = \"t\" }\n";
    let source = "CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)";
    let ddl = "CREATE SCHEMA app; CREATE TABLE app.t (id bigint PRIMARY KEY)";
    let scene = Move::own(ddl, streams, source).await;
    let role = format!("r_{}", uuid::Uuid::new_v4().simple());
    scene
        .execute(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'pw';
             GRANT USAGE ON SCHEMA toolkit TO {role};
             GRANT ALL ON ALL TABLES IN SCHEMA toolkit TO {role};
             GRANT ALL ON ALL SEQUENCES IN SCHEMA toolkit TO {role}"
        ))
        .await;
    let run = || {
        let mut command = crate::support::toolkit();
        let url = as_role(scene.database.url(), &role);
        command.args(["--database-url", &url, "backfill", "--pack", &scene.pack, "--source"]);
        let output = command.arg(&scene.source).current_dir(scene.database.folder()).output();
        let output = output.unwrap();
        (output.status.code(), stderr(&output))
    };
    for (grant, code, says) in [
        ("", 2, "may not use the schema of app.t".to_owned()),
        ("GRANT USAGE ON SCHEMA app TO", 2, "lacks SELECT, INSERT, UPDATE on app.t".to_owned()),
        (
            "ALTER TABLE app.t ENABLE ROW LEVEL SECURITY; GRANT ALL ON app.t TO",
            2,
            "row-level security hides rows".to_owned(),
        ),
        (
            "ALTER TABLE app.t DISABLE ROW LEVEL SECURITY; GRANT TEMP ON DATABASE current TO",
            0,
            String::new(),
        ),
    ] {
        if !grant.is_empty() {
            let database = scene.text("SELECT current_database()::text").await;
            scene.execute(&format!("{} {role}", grant.replace("current", &database))).await;
        }
        let (found, text) = run();
        assert_eq!(found, Some(code), "{grant}: {text}");
        assert!(text.contains(&says), "{text}");
    }
    scene.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

/// The URL with another user.
#[tokio::test]
async fn the_collation_of_the_database_changes_nothing() {
    let streams = "[[stream]]\nname = \"items\"\ntarget = \"public.t\"\nkey = [\"id\"]\n\
        conflict = { rule = \"newer\", by = \"at\" }\n\
        source = { sqlite = \"app.sqlite\", table = \"t\" }\n";
    let ddl = "CREATE TABLE t (id text PRIMARY KEY, at text);
        INSERT INTO t VALUES ('held', 'a'), ('taken', 'B')";
    let source = "CREATE TABLE t (id TEXT PRIMARY KEY, at TEXT) WITHOUT ROWID;
        INSERT INTO t VALUES ('a', 'x'), ('A', 'x'), ('ä', 'x'), ('Z', 'x'), ('_', 'x'), ('ß', 'x'),
            ('ss', 'x'), ('', 'x'), (' ', 'x'), ('é', 'x'), ('e' || char(769), 'x'), ('a b', 'x'),
            ('ab', 'x'), ('held', 'B'), ('taken', 'a')";
    let mut reports = Vec::new();
    for database in [Some(TestDatabase::create().await), TestDatabase::collated().await] {
        let Some(database) = database else {
            println!("skipped: this server makes no database with an ICU collation");
            continue;
        };
        let scene = Move::own_in(database, ddl, streams, source).await;
        let six = scene.backfill(0, &["--chunk-records", "2"]).six("items");
        scene.is_clean();
        let again = scene.backfill(0, &["--chunk-records", "3"]).six("items");
        let held =
            scene.text("SELECT string_agg(at, ' ' ORDER BY id) FROM t WHERE at <> 'x'").await;
        reports.push((six, again, held));
    }
    // By bytes, as in Rust: `a` comes after `B`.
    assert_eq!(reports[0], ([13, 1, 0, 1, 0, 0], [0, 0, 14, 1, 0, 0], "a a".to_owned()));
    assert!(reports.iter().all(|report| *report == reports[0]), "{reports:?}");
}
