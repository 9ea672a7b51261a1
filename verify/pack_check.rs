//! What `toolkit pack check` and every other command say about a pack.toml that is wrong.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use serde_json::Value;
use sqlx::Executor;

use crate::support::{TestDatabase, stderr, stdout};
use crate::user_pack::{migrate, run, shop, shop_db};

const SOURCE_LINE: &str = "source = { sqlite = \"shop.db\", table = \"orders\" }\n";

/// The example's pack.toml with each first text replaced by the second, in a folder of its own.
fn edited(database: &TestDatabase, edits: &[(&str, &str)]) -> PathBuf {
    let mut text = fs::read_to_string(shop().join("pack.toml")).expect("pack.toml");
    for (from, to) in edits {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    let folder = database.folder().join("edited");
    fs::create_dir_all(&folder).expect("folder");
    fs::write(folder.join("pack.toml"), text).expect("pack.toml");
    folder
}

fn check(database: &TestDatabase, pack: &std::path::Path, source: Option<&str>) -> Output {
    let pack = pack.to_str().expect("UTF-8");
    let mut arguments = vec!["pack", "check", "--pack", pack];
    if let Some(source) = source {
        arguments.extend(["--source", source]);
    }
    run(database, &arguments)
}

#[tokio::test]
async fn every_typo_that_toml_or_the_manifest_can_see_is_one_sentence_with_its_line() {
    let database = TestDatabase::create().await;
    for (from, to, line, says) in [
        ("[pack]", "[pack", 1, ""),
        ("version = 1", "version = 1\nverison = 2", 4, "verison"),
        ("version = 1", "version = \"1\"", 3, "invalid type"),
        ("name = \"shop\"\n", "", 1, "missing field `name`"),
        ("[pack]", "[default]\n[pack]", 1, "default"),
        ("[[stream]]", "[defaults]\nzoen = \"UTC\"\n[[stream]]", 6, "zoen"),
        ("[[stream]]", "[defaults]\non = { nann = \"null\" }\n[[stream]]", 6, "nann"),
        ("target =", "tagret =", 8, "tagret"),
        ("sqlite =", "sqlitte =", 7, "sqlitte"),
        (SOURCE_LINE, "source.sqlite = \"shop.db\"\nsource.tabel = \"orders\"\n", 8, "tabel"),
        ("total = \"total\"", "total.form = \"total\"", 15, "form"),
        (SOURCE_LINE, "", 5, "missing field `source`"),
        ("key = [", "conflict = { rule = \"newest\" }\nkey = [", 9, "newest"),
        ("key = [", "conflict = { rul = \"newer\" }\nkey = [", 9, "rul"),
        ("key = [\"order_no\"]", "key = \"order_no\"", 9, "invalid value"),
        ("zone = \"Eur", "zoone = \"Eur", 14, "zoone"),
        ("zone = \"Eur", "unit = \"sec\", zone = \"Eur", 14, "sec"),
        ("zone = \"Eur", "cast = \"timestamp\", zone = \"Eur", 14, "timestamp"),
        ("zone = \"Eur", "on = { overfow = \"null\" }, zone = \"Eur", 14, "overfow"),
        ("zone = \"Eur", "on = { overflow = \"nul\" }, zone = \"Eur", 14, "nul"),
        ("zone = \"Eur", "empty = \"none\", zone = \"Eur", 14, "none"),
        ("from = \"placed\"", "from = 7", 14, "a string or a list of strings"),
        ("from = \"placed\"", "from = [\"placed\", 7]", 14, "invalid type"),
        ("total = \"total\"", "total = 7", 15, "a source column's name"),
        ("total = \"total\"", "total = \"total\"\ntotal = \"total\"", 16, "duplicate key"),
        ("target = \"shop.orders\"", "", 6, "needs either `target` or a [[stream.output]]"),
        ("[stream.columns]", "[[stream.output]]\nnmae = \"x\"\n[stream.columns]", 12, "nmae"),
    ] {
        let pack = edited(&database, &[(from, to)]);
        let output = check(&database, &pack, None);
        let said = stderr(&output) + &stdout(&output);
        let place = format!("pack.toml, line {line}");
        let found: Vec<&str> = said.lines().filter(|text| text.contains(&place)).collect();
        assert!(
            found.iter().any(|text| text.contains(says)),
            "{to}: no {place}, {says} in:\n{said}"
        );
        let code = if to.is_empty() && from.starts_with("target") { 1 } else { 2 };
        assert_eq!(output.status.code(), Some(code), "{to}: {said}");
    }
}

#[tokio::test]
async fn every_mistake_in_meaning_names_line_stream_and_column() {
    let database = TestDatabase::create().await;
    migrate(&database);
    let source = shop_db(database.folder(), "");
    let source = source.to_str().expect("UTF-8");
    let columns = "order_no = \"id\"";
    for (from, to, line, says) in [
        ("total = \"total\"", "total = \"totl\"", 15, "column `total` comes from `totl`"),
        ("total = \"total\"", "total = { from = [\"total\", \"sum\"] }", 15, "comes from `sum`"),
        ("total = \"total\"", "totla = \"total\"", 15, "shop.orders has no column `totla`"),
        ("total = \"total\"", "totla = \"total\"", 8, "shop.orders.total is NOT NULL"),
        ("total = \"total\"", "total = {}\ntotal2 = \"x\"", 16, "no column `total2`"),
        ("total = \"total\"", "total = \"/total\"", 15, "rows with columns"),
        ("total = \"total\"", "total = \"^/total\"", 15, "names no `companion`"),
        ("total = \"total\"", "total = \"+/total\"", 15, "names no `compute`"),
        ("total = \"total\"", "total = \"@sha256\"", 15, "not of a SQLite file"),
        ("total = \"total\"", "total = \"@key\"", 15, "needs `each`"),
        ("total = \"total\"", "total = { from = [] }", 15, "empty list"),
        ("total = \"total\"", "total = { from = \"total\", value = \"1\" }", 15, "one of them"),
        (
            "total = \"total\"",
            "total = { from = \"total\", zone = \"UTC\" }",
            15,
            "timestamptz only",
        ),
        ("total = \"total\"", "total = { from = \"total\", default = \"x\" }", 15, "default"),
        ("customer = \"customer\"\n", "", 8, "shop.orders.customer is NOT NULL"),
        ("customer = \"customer\"\n", "", 6, "nothing is mapped from source column customer"),
        ("ignore = [\"basket_html\"]\n", "", 6, "basket_html: its values would vanish"),
        ("\"basket_html\"", "\"basket_html\", \"nosuch\"", 10, "`ignore` names `nosuch`"),
        ("key = [\"order_no\"]", "key = [\"orderno\"]", 9, "key column `orderno` is not mapped"),
        ("key = [\"order_no\"]", "key = []", 8, "needs a `key`"),
        ("key = [\"order_no\"]", "key = [\"order_no\", \"order_no\"]", 9, "named twice"),
        ("key =", "conflict = { rule = \"newer\" }\nkey =", 8, "needs `by"),
        ("key =", "conflict = { by = \"total\" }\nkey =", 9, "rule `newer` only"),
        ("key =", "conflict = { rule = \"newer\", by = \"at\" }\nkey =", 9, "`at` is not mapped"),
        ("key =", "after = [\"customers\"]\nkey =", 9, "`after` names `customers`"),
        ("key =", "after = [\"orders\"]\nkey =", 9, "goes in a circle"),
        ("\"shop.orders\"", "\"shop.order\"", 8, "the database has no table shop.order"),
        ("\"shop.orders\"", "\"a.b.c\"", 8, "not a table name"),
        ("table = \"orders\"", "table = \"order\"", 6, "has no table or view `order`"),
        (", table = \"orders\"", "", 6, "name its `table`"),
        ("table =", "json = \"*.json\", table =", 6, "exactly one of"),
        ("table =", "records = \"/a\", table =", 7, "`records` belongs"),
        ("table =", "compute = \"unified.report\", table =", 7, "`compute` takes records"),
        ("table =", "companion = \"a-{nosuch}.json\", table =", 7, "`companion` names `nosuch`"),
        ("table =", "companion = \"a.json\", table =", 7, "between braces"),
        ("table =", "except = \"a*\", table =", 6, "`except` belongs to files"),
        (
            "total = \"total\"",
            "total = { from = \"total\", original = \"/x\" }",
            15,
            "`original`: `/x`",
        ),
        (
            "total = \"total\"",
            "total = { from = \"total\", cast = \"uuid_v5\" }",
            15,
            "for another type",
        ),
        (
            "total = \"total\"",
            "total = { from = \"total\", namespace = \"x\" }",
            15,
            "for the cast uuid_v5",
        ),
        (columns, "nothing = { value = \"1\" }\norder_no = \"id\"", 12, "no column `nothing`"),
    ] {
        let pack = edited(&database, &[(from, to)]);
        let checked = check(&database, &pack, Some(source));
        let said = stdout(&checked);
        let place = format!("pack.toml, line {line}: stream `orders`: ");
        let circle = format!("pack.toml, line {line}: `after`");
        let found = said
            .lines()
            .any(|text| (text.contains(&place) || text.contains(&circle)) && text.contains(says));
        assert!(found, "{to}: no {place}{says} in:\n{said}{}", stderr(&checked));
        assert_eq!(checked.status.code(), Some(1), "{to}: {said}");
        let backfill =
            ["backfill", "--pack", pack.to_str().expect("UTF-8"), "--source", source, "--dry-run"];
        let refused = run(&database, &backfill);
        assert_eq!(refused.status.code(), Some(2), "{to}: {}", stdout(&refused));
    }
}

#[tokio::test]
async fn outputs_of_rows_cannot_point_into_documents_that_are_not_there() {
    let database = TestDatabase::create().await;
    migrate(&database);
    let source = shop_db(database.folder(), "");
    let output = "[[stream.output]]\nname = \"orders\"\n\
                  target = \"shop.orders\"\nkey = [\"order_no\"]\n";
    for (extra, says) in [
        ("each = \"/items\"\n", "`each`: `/items` points into a JSON document"),
        ("each = \"details\"\n", "`each`: `details` is no JSON pointer"),
        ("when = \"/id\"\n", "`when`: `/id` points into a JSON document"),
        ("when = \"idd\"\n", "`when` looks at `idd`"),
        ("skip = { empty = \"idd\", rule = \"r\" }\n", "`skip` looks at `idd`"),
        ("skip = { empty = \"/id\", rule = \"r\" }\n", "`skip`: `/id` points"),
        ("mention = true\n", "`mention` is for an output after the first"),
    ] {
        let pack = edited(
            &database,
            &[
                ("target = \"shop.orders\"\nkey = [\"order_no\"]\n", ""),
                ("[stream.columns]", &format!("{output}{extra}[stream.output.columns]")),
            ],
        );
        let checked = check(&database, &pack, source.to_str());
        let said = stdout(&checked);
        assert!(said.contains(&format!("stream `orders`: {says}")), "{extra}: {said}");
        assert_eq!(checked.status.code(), Some(1), "{said}{}", stderr(&checked));
    }
}

#[tokio::test]
async fn all_problems_are_listed_and_refusing_casts_are_counted_with_an_example() {
    let database = TestDatabase::create().await;
    migrate(&database);
    let source = shop_db(
        database.folder(),
        "INSERT INTO orders SELECT 10 + value, 'x', 'yesterday', 1, '{}', NULL \
         FROM (WITH RECURSIVE n(value) AS (VALUES (1) UNION ALL SELECT value + 1 FROM n \
         WHERE value < 1500) SELECT value FROM n)",
    );
    let source = source.to_str().expect("UTF-8");
    let checked = check(&database, &shop(), Some(source));
    let said = stdout(&checked);
    assert_eq!(checked.status.code(), Some(1), "{said}{}", stderr(&checked));
    assert!(
        said.contains(
            "pack.toml, line 14: stream `orders`: shop.orders.placed_at: 997 of 1000 sampled \
             records refused (invalid_timestamp); first shop.db, rowid 11"
        ),
        "{said}"
    );

    let two = edited(&database, &[("\"customer\"", "\"customr\""), ("total = ", "totl = ")]);
    let output = run(
        &database,
        &[
            "--format",
            "json",
            "pack",
            "check",
            "--pack",
            two.to_str().expect("UTF-8"),
            "--source",
            source,
        ],
    );
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let lines: Vec<i64> = report["problems"]
        .as_array()
        .expect("problems")
        .iter()
        .map(|problem| problem["line"].as_i64().expect("line"))
        .collect();
    assert_eq!(lines, [6, 8, 13, 15], "{report}");
    assert_eq!(report["problems"][1]["stream"], "orders");
    assert!(!database.folder().join("state/redaction.key").exists(), "a check creates nothing");
}

#[tokio::test]
async fn a_key_without_a_unique_index_and_pointers_into_nothing_are_warnings() {
    let database = TestDatabase::create().await;
    let pool = database.pool().await;
    let create = "CREATE TABLE public.note (id text, body text, tag text)";
    pool.execute(create).await.expect("table");
    let folder = database.folder().join("notes");
    fs::create_dir_all(&folder).expect("folder");
    let pack = "[pack]\nname = \"notes\"\nversion = 1\n[[stream]]\nname = \"notes\"\n\
                source = { json = \"note-*.json\" }\ntarget = \"note\"\nkey = [\"id\"]\n\
                [stream.columns]\nid = \"/id\"\nbody = \"/boody\"\ntag = \"/tags/0\"\n";
    fs::write(folder.join("pack.toml"), pack).expect("pack.toml");
    for n in 0..3 {
        let document = format!(r#"{{"id": "n{n}", "body": "text", "tags": []}}"#);
        fs::write(folder.join(format!("note-{n}.json")), document).expect("document");
    }
    let checked = check(&database, &folder, folder.to_str());
    let said = stdout(&checked);
    assert_eq!(checked.status.code(), Some(0), "{said}{}", stderr(&checked));
    for part in [
        "line 7: stream `notes`: the key (id) is covered by no unique key of public.note",
        "nothing in the first 3 documents is at /boody, /tags/0",
        "members of the first 3 documents that are mapped nowhere: body",
        "fine: the pack fits; warnings: 3",
    ] {
        assert!(said.contains(part), "no {part:?} in:\n{said}");
    }
    let plain = pack.replace("\"/id\"", "\"id\"");
    fs::write(folder.join("pack.toml"), plain).expect("pack.toml");
    let checked = check(&database, &folder, folder.to_str());
    assert!(stdout(&checked).contains("write the pointer `/id`"), "{}", stdout(&checked));
    assert_eq!(checked.status.code(), Some(1));
}

#[tokio::test]
async fn columns_of_csv_files_and_of_older_databases_are_held_to_the_mapping_too() {
    let database = TestDatabase::create().await;
    let pool = database.pool().await;
    let create = "CREATE TABLE public.item (id bigint PRIMARY KEY, name text)";
    pool.execute(create).await.expect("table");
    let folder = database.folder().join("items");
    fs::create_dir_all(&folder).expect("folder");
    let pack = |source: &str| {
        let text = format!(
            "[pack]\nname = \"items\"\nversion = 1\n[[stream]]\nname = \"items\"\n\
             source = {{ {source} }}\ntarget = \"item\"\nkey = [\"id\"]\n\
             [stream.columns]\nid = \"id\"\nname = \"title\"\n"
        );
        fs::write(folder.join("pack.toml"), text).expect("pack.toml");
        check(&database, &folder, folder.to_str())
    };
    let csv = "csv = \"*.csv\"";
    fs::write(folder.join("a.csv"), "\u{feff}id,title\n1,x\n").expect("CSV");
    assert_eq!(pack(csv).status.code(), Some(0));
    fs::write(folder.join("a.csv"), "id,titel\n1,x\n").expect("CSV");
    let said = stdout(&pack(csv));
    assert!(said.contains("line 11: stream `items`: column `name` comes from `title`"), "{said}");
    assert!(said.contains("nothing is mapped from source column titel"), "{said}");

    for (file, sql) in [
        ("new.db", "CREATE TABLE t (id INTEGER PRIMARY KEY, title TEXT)"),
        ("old.db", "CREATE TABLE t (id INTEGER PRIMARY KEY)"),
    ] {
        let source = rusqlite::Connection::open(folder.join(file)).expect("SQLite");
        source.execute_batch(sql).expect("SQL");
    }
    let checked = pack("sqlite = [\"new.db\", \"old.db\"], table = \"t\"");
    let said = stdout(&checked);
    assert_eq!(checked.status.code(), Some(0), "{said}");
    assert!(said.contains("old.db lacks title: its rows get NULL or the default there"), "{said}");
    let old = rusqlite::Connection::open(folder.join("old.db")).expect("SQLite");
    old.execute_batch("ALTER TABLE t ADD COLUMN legacy TEXT").expect("SQL");
    let checked = pack("sqlite = [\"new.db\", \"old.db\"], table = \"t\"");
    assert_eq!(checked.status.code(), Some(1), "what only the old file has would vanish");
    assert!(stdout(&checked).contains("source column legacy"), "{}", stdout(&checked));
}

#[tokio::test]
async fn what_keeps_a_check_from_being_made_exits_2() {
    let database = TestDatabase::create().await;
    let shop = shop();
    for (pack, source, says) in [
        ("no-such-pack", None, "there is no pack `no-such-pack`"),
        (
            shop.to_str().expect("UTF-8"),
            Some("/no/such/folder"),
            "/no/such/folder cannot be opened",
        ),
        (shop.to_str().expect("UTF-8"), Some("."), "nothing of the pack `shop` was found"),
        ("unified", None, "is not fully migrated"),
    ] {
        let checked = check(&database, std::path::Path::new(pack), source);
        assert_eq!(checked.status.code(), Some(2), "{pack}: {}", stdout(&checked));
        assert!(stderr(&checked).contains(says), "{}", stderr(&checked));
    }
}

#[tokio::test]
async fn a_time_type_that_would_round_in_silence_is_refused() {
    let database = TestDatabase::create().await;
    let pool = database.pool().await;
    let create = "CREATE TABLE public.event (id text PRIMARY KEY, at timestamptz(3))";
    pool.execute(create).await.expect("table");
    let folder = database.folder().join("events");
    fs::create_dir_all(&folder).expect("folder");
    let pack = "[pack]\nname = \"events\"\nversion = 1\n[[stream]]\nname = \"events\"\n\
                source = { json = \"event-*.json\" }\ntarget = \"event\"\nkey = [\"id\"]\n\
                [stream.columns]\nid = \"/id\"\nat = \"/at\"\n";
    fs::write(folder.join("pack.toml"), pack).expect("pack.toml");
    let checked = check(&database, &folder, None);
    let said = stdout(&checked);
    assert!(said.contains("at is timestamp(3) with time zone, which rounds in silence"), "{said}");
    assert_eq!(checked.status.code(), Some(1));
}
