//! Packs of a user's own: odd tables on either side, conflict rules, rows Postgres refuses.

use crate::support::backfill::Move;

const NOTES: &str = "CREATE TABLE public.notes (id bigint PRIMARY KEY, body text, at timestamptz);";

fn stream(target: &str, table: &str, key: &str, more: &str) -> String {
    format!(
        "[[stream]]\nname = \"items\"\ntarget = \"{target}\"\nkey = [{key}]\n{more}\n\
         [stream.source]\nsqlite = \"app.sqlite\"\ntable = '''{table}'''\n"
    )
}

fn notes(conflict: &str) -> String {
    stream("public.notes", "notes", "\"id\"", conflict)
}

const BY_AT: &str = "conflict = { rule = \"newer\", by = \"at\" }";

#[tokio::test]
async fn the_newer_row_wins_whichever_side_it_is_on_and_a_tie_keeps_the_targets() {
    let scene = Move::own(
        NOTES,
        &notes(BY_AT),
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT, at TEXT);
         INSERT INTO notes VALUES (1, 'source', '2026-01-01T00:00:00Z'),
            (2, 'source', '2026-01-03T00:00:00Z'), (3, 'source', '2026-01-02T00:00:00Z'),
            (4, 'source', NULL), (5, 'source', '2026-01-01T00:00:00Z'),
            (6, 'new', '2026-01-01T00:00:00Z'), (7, 'same', '2026-01-01T02:00:00+02:00')",
    )
    .await;
    scene
        .execute(
            "INSERT INTO notes VALUES (1, 'target', '2026-01-02Z'), (2, 'target', '2026-01-02Z'),
                (3, 'target', '2026-01-02Z'), (4, 'target', '2026-01-02Z'), (5, 'target', NULL),
                (7, 'same', '2026-01-01Z')",
        )
        .await;
    let report = scene.backfill(0, &[]);
    assert_eq!(report.six("items"), [1, 2, 1, 3, 0, 0]);
    let who = "SELECT string_agg(body, ' ' ORDER BY id) FROM notes";
    assert_eq!(scene.text(who).await, "target source target target source new same");
    let ledger = "SELECT string_agg(locator || ' ' || rule, ', ' ORDER BY locator) \
                  FROM toolkit.ledger WHERE length(target_digest) = 32";
    assert_eq!(
        scene.text(ledger).await,
        "rowid 1 superseded, rowid 3 superseded_tie, rowid 4 superseded"
    );
    let kept = "SELECT bool_and(l.target_digest = sha256(record_send(ROW(n.id, n.body, n.at))))::text \
                FROM toolkit.ledger l JOIN notes n ON l.locator = 'rowid ' || n.id";
    assert_eq!(scene.text(kept).await, "true");
    assert_eq!(scene.backfill(0, &[]).six("items"), [0, 0, 4, 3, 0, 0]);
}

#[tokio::test]
async fn the_source_or_the_target_wins_where_the_pack_says_so() {
    let source = "CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT, at TEXT);
         INSERT INTO notes VALUES (1, 'source', '2026-01-01T00:00:00Z')";
    for (rule, six, body) in [
        ("source_wins", [0, 1, 0, 0, 0, 0], "source"),
        ("target_wins", [0, 0, 0, 1, 0, 0], "target"),
    ] {
        let conflict = format!("conflict = {{ rule = \"{rule}\" }}");
        let scene = Move::own(NOTES, &notes(&conflict), source).await;
        scene.execute("INSERT INTO notes VALUES (1, 'target', '2026-01-02Z')").await;
        assert_eq!(scene.backfill(0, &[]).six("items"), six, "{rule}");
        assert_eq!(scene.text("SELECT body FROM notes").await, body);
    }
}

#[tokio::test]
async fn one_bad_row_never_costs_a_good_one() {
    let scene = Move::own(
        &format!(
            "{NOTES}
             CREATE TABLE parents (id bigint PRIMARY KEY);
             INSERT INTO parents SELECT generate_series(1, 500);
             ALTER TABLE notes ADD CONSTRAINT not_bad CHECK (body <> 'bad');
             ALTER TABLE notes ADD CONSTRAINT parent FOREIGN KEY (id) REFERENCES parents
                DEFERRABLE INITIALLY DEFERRED;
             CREATE UNIQUE INDEX ON notes (body) WHERE body LIKE 'only%';
             CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                IF NEW.body = 'custom' THEN RAISE EXCEPTION 'not today' USING ERRCODE = 'P0999'; END IF;
                IF NEW.body = 'raised' THEN RAISE EXCEPTION 'not today'; END IF;
                IF NEW.body = 'swallowed' THEN RETURN NULL; END IF;
                RETURN NEW; END $$;
             CREATE TRIGGER refuse BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION refuse();"
        ),
        &notes(""),
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT, at TEXT);
         WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 300)
         INSERT INTO notes SELECT i, 'fine', NULL FROM n;
         UPDATE notes SET body = 'bad' WHERE id IN (1, 150, 151);
         UPDATE notes SET body = 'raised' WHERE id = 77;
         UPDATE notes SET body = 'custom' WHERE id = 78;
         UPDATE notes SET body = 'swallowed' WHERE id = 79;
         UPDATE notes SET body = 'only one' WHERE id IN (200, 300);
         UPDATE notes SET id = 1000 WHERE id = 250;
         UPDATE notes SET body = hex(randomblob(4000)) WHERE id = 260",
    )
    .await;
    scene.execute("CREATE INDEX ON notes (body)").await;
    for expected in [[291, 0, 0, 0, 0, 9], [0, 0, 291, 0, 0, 9]] {
        let report = scene.backfill(1, &[]);
        let mut refused: Vec<(String, String)> =
            scene.rejects().await.into_iter().map(|(_, locator, _, why)| (locator, why)).collect();
        refused.sort();
        let refused: Vec<String> =
            refused.into_iter().map(|(locator, why)| format!("{locator}: {why}")).collect();
        assert_eq!(
            refused,
            [
                "rowid 1: check",
                "rowid 1000: orphan",
                "rowid 150: check",
                "rowid 151: check",
                "rowid 260: too_large",
                "rowid 300: unique_collision",
                "rowid 77: refused_by_postgres",
                "rowid 78: refused_by_postgres",
                "rowid 79: swallowed",
            ]
        );
        assert_eq!(report.six("items"), expected);
        assert_eq!(scene.count("notes").await, 291);
    }
}

#[tokio::test]
async fn every_kind_of_sqlite_table_is_read_to_the_last_row() {
    let rows = "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 40)";
    let cases = [
        (
            "without rowid",
            "CREATE TABLE t (id TEXT, part INTEGER, body TEXT, \
            PRIMARY KEY (part DESC, id)) WITHOUT ROWID",
            "'k' || i, i % 3, 'b' || i",
        ),
        (
            "without rowid, keys that differ in case only",
            "CREATE TABLE t (id TEXT COLLATE NOCASE, \
            part INTEGER, body TEXT, PRIMARY KEY (id COLLATE BINARY)) WITHOUT ROWID",
            "CASE i % 2 WHEN 0 THEN char(97 + i / 2) ELSE char(65 + i / 2) END, i % 3, 'b' || i",
        ),
        (
            "blob keys",
            "CREATE TABLE t (id TEXT, part INTEGER, body TEXT, \
            PRIMARY KEY (body, id)) WITHOUT ROWID",
            "'k' || i, i % 3, CAST(X'00' || char(i) AS BLOB)",
        ),
        (
            "a column called rowid",
            "CREATE TABLE t (id TEXT, part INTEGER, body TEXT, rowid TEXT)",
            "'k' || i, i % 3, 'b' || i, 'x'",
        ),
        (
            "strict",
            "CREATE TABLE t (id TEXT PRIMARY KEY, part INT, body ANY) STRICT",
            "'k' || i, i % 3, 'b' || i",
        ),
        (
            "generated columns",
            "CREATE TABLE t (id TEXT, part INTEGER, \
            body TEXT GENERATED ALWAYS AS ('b' || id) STORED)",
            "'k' || i, i % 3",
        ),
        (
            "a view",
            "CREATE TABLE base (id TEXT, part INTEGER, body TEXT); \
            CREATE VIEW t AS SELECT * FROM base",
            "'k' || i, i % 3, 'b' || i",
        ),
        (
            "negative rowids",
            "CREATE TABLE t (n INTEGER PRIMARY KEY, id TEXT, part INTEGER, body TEXT)",
            "i - 20, 'k' || i, i % 3, 'b' || i",
        ),
    ];
    for (name, create, values) in cases {
        let into = if name == "a view" { "base" } else { "t" };
        let ignore = match name {
            "a column called rowid" => "ignore = [\"rowid\"]",
            "negative rowids" => "ignore = [\"n\"]",
            _ => "",
        };
        let body = if name == "blob keys" { "bytea" } else { "text" };
        let scene = Move::own(
            &format!(
                "CREATE TABLE public.t (id text, part bigint, body {body}, PRIMARY KEY (id, part))"
            ),
            &stream("public.t", "t", "\"id\", \"part\"", ignore),
            &format!("{create}; {rows} INSERT INTO {into} SELECT {values} FROM n"),
        )
        .await;
        let report = scene.backfill(0, &["--chunk-records", "1"]);
        assert_eq!(report.six("items"), [40, 0, 0, 0, 0, 0], "{name}");
        assert_eq!(scene.backfill(0, &["--chunk-records", "7"]).six("items")[2], 40, "{name}");
    }
}

#[tokio::test]
async fn keys_that_are_not_utf8_are_resumed_after() {
    let scene = Move::own(
        "CREATE TABLE public.t (id bytea PRIMARY KEY)",
        &format!("{}[stream.columns]\nid = {{ from = \"id\" }}\n", stream("public.t", "t", "\"id\"", "")),
        "CREATE TABLE t (id TEXT PRIMARY KEY) WITHOUT ROWID;
         INSERT INTO t VALUES (CAST(X'80' AS TEXT)), (CAST(X'FE' AS TEXT)), ('a'), (CAST(X'C3' AS TEXT))",
    )
    .await;
    let report = scene.backfill(1, &["--chunk-records", "1"]);
    assert_eq!(report.six("items"), [0, 0, 0, 0, 0, 4], "bytea takes bytes, not text");
}

#[tokio::test]
async fn odd_identifiers_are_only_names() {
    let table = "select \"x\"; DROP TABLE é--";
    let column = "group by \"q\" ' ü ; \\";
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let scene = Move::own(
        &format!(
            "CREATE SCHEMA \"Or der\"; CREATE TABLE \"Or der\".{} (\"user\" text PRIMARY KEY, {} text, \"UPPER\" text)",
            quoted(table),
            quoted(column)
        ),
        &stream(&format!("Or der.{}", table.replace('"', "\\\"")), table, "\"user\"", ""),
        &format!(
            "CREATE TABLE {} (\"user\" TEXT PRIMARY KEY, {} TEXT, upper TEXT); \
             INSERT INTO {0} VALUES ('1', 'a', 'b'), ('2', 'c', NULL)",
            quoted(table),
            quoted(column)
        ),
    )
    .await;
    assert_eq!(scene.backfill(0, &[]).six("items"), [2, 0, 0, 0, 0, 0]);
    scene.execute(&format!("UPDATE \"Or der\".{} SET \"UPPER\" = 'z'", quoted(table))).await;
    assert_eq!(scene.backfill(0, &[]).six("items"), [0, 2, 0, 0, 0, 0]);
}

#[tokio::test]
async fn every_kind_of_target_column_takes_its_values_and_sequences_go_on_after_them() {
    let scene = Move::own(
        "CREATE TYPE mood AS ENUM ('sad', 'so so');
         CREATE DOMAIN short AS text CHECK (length(VALUE) < 6);
         CREATE TABLE public.wide (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            counted serial, feeling mood, label short, tags text[], code char(4), bits varbit(8),
            price numeric(12, 4), area point, doubled bigint GENERATED ALWAYS AS (id * 2) STORED);
         CREATE TABLE public.parted (LIKE public.wide INCLUDING DEFAULTS) PARTITION BY RANGE (id)",
        &stream("public.wide", "wide", "\"id\"", ""),
        "CREATE TABLE wide (id INTEGER PRIMARY KEY, counted INTEGER, feeling TEXT, label TEXT,
            tags TEXT, code TEXT, bits TEXT, price TEXT, area TEXT);
         INSERT INTO wide VALUES
            (7, 90, 'so so', 'abcde', '[\"x\", null, \"y,\\\"z\"]', 'abc', '1011', '12.5000', '(1,2)'),
            (8, 91, 'sad', NULL, '[]', 'abcd', NULL, '0', NULL),
            (9, 92, 'glad', 'a', NULL, 'a', NULL, '1', NULL),
            (10, 93, 'sad', 'toolong', NULL, 'a', NULL, '1', NULL),
            (11, 94, 'sad', 'a', NULL, 'abcde', NULL, '1', NULL),
            (12, 95, 'sad', 'a', NULL, 'a', '12', '1', NULL)",
    )
    .await;
    let report = scene.backfill(1, &[]);
    assert_eq!(report.six("items"), [2, 0, 0, 0, 0, 4], "{:?}", scene.rejects().await);
    let row = "SELECT string_agg(ROW(w.*)::text, ' ' ORDER BY id) FROM wide w";
    assert_eq!(
        scene.text(row).await,
        "(7,90,\"so so\",abcde,\"{x,NULL,\"\"y,\\\\\"\"z\"\"}\",\"abc \",1011,12.5000,\"(1,2)\",14) \
         (8,91,sad,,{},abcd,,0.0000,,16)"
    );
    assert_eq!(scene.backfill(1, &[]).six("items"), [0, 0, 2, 0, 0, 4]);
    let next = "INSERT INTO wide (feeling) VALUES ('sad') RETURNING id || ' ' || counted";
    assert_eq!(scene.text(next).await, "9 92");
}

#[tokio::test]
async fn partitioned_targets_take_rows_and_refuse_those_without_a_partition() {
    let scene = Move::own(
        "CREATE TABLE public.parted (id bigint, day date NOT NULL, body text, PRIMARY KEY (id, day))
            PARTITION BY RANGE (day);
         CREATE TABLE public.parted_1 PARTITION OF public.parted
            FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
         CREATE TABLE public.parted_2 PARTITION OF public.parted
            FOR VALUES FROM ('2026-02-01') TO ('2026-03-01')",
        &stream("public.parted", "parted", "\"id\"", ""),
        "CREATE TABLE parted (id INTEGER PRIMARY KEY, day TEXT, body TEXT);
         INSERT INTO parted VALUES (1, '2026-01-31', 'a'), (2, '2026-02-01', 'b'),
            (3, '2026-03-01', 'c')",
    )
    .await;
    assert_eq!(scene.backfill(1, &[]).six("items"), [2, 0, 0, 0, 0, 1]);
    scene.sqlite().execute("UPDATE parted SET day = '2026-02-02' WHERE id = 1", []).unwrap();
    assert_eq!(scene.backfill(1, &[]).six("items"), [0, 1, 1, 0, 0, 1]);
    assert_eq!(scene.count("parted").await, 2);
    assert_eq!(scene.count("parted_2").await, 2);
}

#[tokio::test]
async fn rows_that_share_a_key_never_both_get_in_even_without_a_unique_index() {
    let scene = Move::own(
        "CREATE TABLE public.loose (id bigint, body text)",
        "[[stream]]\nname = \"items\"\ntarget = \"public.loose\"\nkey = [\"id\"]\n\
         [stream.source]\ncsv = \"loose.csv\"\n",
        "",
    )
    .await;
    let file = scene.source.join("loose.csv");
    std::fs::write(&file, "id,body\n1,a\n2,b\n1,a\n1,c\n3,d\n").unwrap();
    assert_eq!(scene.backfill(1, &[]).six("items"), [3, 0, 0, 0, 1, 1]);
    assert_eq!(scene.count("loose").await, 3);
    assert_eq!(scene.text("SELECT body FROM loose WHERE id = 1").await, "a");
    assert_eq!(scene.backfill(1, &[]).six("items"), [0, 0, 3, 0, 1, 1]);
}

#[tokio::test]
async fn a_broken_csv_line_is_kept_as_it_was_written() {
    let scene = Move::own(
        NOTES,
        "[[stream]]\nname = \"items\"\ntarget = \"public.notes\"\nkey = [\"id\"]\n\
         [stream.source]\ncsv = \"*.csv\"\n[stream.columns]\nid = \"id\"\nbody = \"body\"\n",
        "",
    )
    .await;
    let lines = "id,body\r\n1,\"a\r\n\"\"b\"\"\"\r\n2,\"x,y\",z\r\n3,\\N\r\n4,\r\n";
    std::fs::write(scene.source.join("n.csv"), lines).unwrap();
    assert_eq!(scene.backfill(1, &[]).six("items"), [3, 0, 0, 0, 0, 1]);
    assert_eq!(scene.text("SELECT body FROM notes WHERE id = 1").await, "a\r\n\"b\"");
    assert_eq!(scene.text("SELECT body FROM notes WHERE id = 3").await, "\\N");
    assert_eq!(scene.text("SELECT body FROM notes WHERE id = 4").await, "");
    let record = "SELECT convert_from(record, 'UTF8') FROM toolkit.reject";
    assert_eq!(scene.text(record).await.trim_end(), "2,\"x,y\",z");
}

#[tokio::test]
async fn values_arrive_byte_for_byte() {
    let scene = Move::own(
        "CREATE TABLE public.v (id bigint PRIMARY KEY, body text, big bigint, price numeric, raw bytea, real8 float8)",
        &stream("public.v", "v", "\"id\"", ""),
        "CREATE TABLE v (id INTEGER PRIMARY KEY, body TEXT, big INTEGER, price TEXT, raw BLOB, real8 REAL);
         INSERT INTO v VALUES
            (1, 'a' || char(13, 10) || 'b' || char(9) || 'c', 9223372036854775807, '1.50', X'00FF', 0.1),
            (2, '\\N', -9223372036854775808, '1.5', X'', 0.0),
            (3, '\\.', 3000000000, '-0', NULL, 5e-324),
            (4, '', NULL, '100000000000000000000000000000.000000000000000000001', NULL, 9e999),
            (5, 'NULL', 0, NULL, NULL, NULL),
            (6, NULL, 0, NULL, NULL, 1e308),
            (7, 'e' || char(769) || char(128169) || char(65279), 0, '1e3', NULL, NULL),
            (8, 'a' || char(0) || 'b', 0, NULL, NULL, NULL),
            (9, X'616263', 0, NULL, NULL, NULL),
            (10, CAST(X'FF' AS TEXT), 0, NULL, NULL, NULL)",
    )
    .await;
    let report = scene.backfill(1, &[]);
    let refused: Vec<String> = scene
        .rejects()
        .await
        .into_iter()
        .map(|(_, locator, column, _)| locator + " " + &column)
        .collect();
    assert_eq!(refused, ["rowid 10 body", "rowid 8 body", "rowid 9 body"]);
    assert_eq!(report.records("items", "inserted"), 7);
    let hex =
        |id: i32| format!("SELECT encode(convert_to(body, 'UTF8'), 'hex') FROM v WHERE id = {id}");
    assert_eq!(scene.text(&hex(1)).await, hex::encode("a\r\nb\tc"));
    assert_eq!(scene.text(&hex(2)).await, hex::encode("\\N"));
    assert_eq!(scene.text(&hex(3)).await, hex::encode("\\."));
    assert_eq!(scene.text(&hex(4)).await, "");
    assert_eq!(scene.text(&hex(5)).await, hex::encode("NULL"));
    assert_eq!(scene.text(&hex(6)).await, "NULL");
    assert_eq!(scene.text(&hex(7)).await, hex::encode("e\u{301}\u{1f4a9}\u{feff}"));
    let numbers = "SELECT string_agg(coalesce(big::text, '-') || '/' || coalesce(price::text, '-') || '/' \
                   || coalesce(raw::text, '-') || '/' || coalesce(real8::text, '-'), ' ' ORDER BY id) FROM v";
    assert_eq!(
        scene.text(numbers).await,
        "9223372036854775807/1.50/\\x00ff/0.1 -9223372036854775808/1.5/\\x/0 3000000000/0/-/5e-324 \
         -/100000000000000000000000000000.000000000000000000001/-/Infinity 0/-/-/- 0/-/-/1e+308 0/1000/-/-"
    );
}
