//! A pack of one's own, as the README walks through it: `fixtures/shop`.

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use sqlx::Row;

use crate::support::{TestDatabase, stderr, stdout, toolkit};

/// The example pack's folder.
pub(crate) fn shop() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/shop")
}

/// Makes the example's `SQLite` file in `folder`, and runs more SQL on it.
pub(crate) fn shop_db(folder: &Path, more: &str) -> PathBuf {
    let path = folder.join("shop.db");
    let sql = std::fs::read_to_string(shop().join("source/shop.sql")).expect("shop.sql");
    let database = rusqlite::Connection::open(&path).expect("SQLite");
    database.execute_batch(&sql).expect("shop.sql");
    database.execute_batch(more).expect("SQL");
    path
}

/// Runs the program on the test's database, in its folder.
pub(crate) fn run(database: &TestDatabase, arguments: &[&str]) -> Output {
    toolkit()
        .args(["--database-url", database.url(), "--state-dir"])
        .arg(database.folder().join("state"))
        .args(arguments)
        .current_dir(database.folder())
        .output()
        .expect("toolkit")
}

/// Migrates the example's schema.
pub(crate) fn migrate(database: &TestDatabase) {
    let folder = shop();
    let folder = folder.to_str().expect("UTF-8");
    let up = run(database, &["migrate", "up", "--pack", "shop", "--dir", folder]);
    assert_eq!(up.status.code(), Some(0), "{}", stderr(&up));
}

#[tokio::test]
async fn a_pack_of_sixteen_lines_moves_a_table_into_postgres() {
    let database = TestDatabase::create().await;
    migrate(&database);
    let source = shop_db(database.folder(), "");
    let (pack, source) = (shop(), source.to_str().expect("UTF-8").to_owned());
    let pack = pack.to_str().expect("UTF-8");

    let check = run(&database, &["pack", "check", "--pack", pack, "--source", &source]);
    assert_eq!(check.status.code(), Some(0), "{}{}", stdout(&check), stderr(&check));
    assert!(stdout(&check).contains("fine: the pack fits"), "{}", stdout(&check));

    let backfill = ["--format", "json", "backfill", "--pack", pack, "--source", &source];
    let first = run(&database, &backfill);
    assert_eq!(first.status.code(), Some(0), "{}{}", stdout(&first), stderr(&first));
    let report: Value = serde_json::from_slice(&first.stdout).expect("JSON");
    assert_eq!((&report["read"], &report["changed_rows"]), (&3.into(), &3.into()));

    let pool = database.pool().await;
    let rows = sqlx::query(
        "SELECT order_no, customer, (placed_at AT TIME ZONE 'UTC')::text AS placed, \
         total::text AS total, details::text AS details FROM shop.orders ORDER BY order_no",
    )
    .fetch_all(&pool)
    .await
    .expect("rows");
    let rows: Vec<(i64, String, String, String, String)> = rows
        .iter()
        .map(|row| {
            (
                row.get(0),
                row.get("customer"),
                row.get("placed"),
                row.get("total"),
                row.get("details"),
            )
        })
        .collect();
    let row = |id, customer: &str, placed: &str, total: &str, details: &str| {
        (id, customer.to_owned(), placed.to_owned(), total.to_owned(), details.to_owned())
    };
    assert_eq!(
        rows,
        [
            row(1, "Ada", "2025-07-01 07:30:00", "19.90", r#"{"gift": true}"#),
            row(2, "Bram", "2025-12-24 17:00:00", "5.00", "{}"),
            row(3, "Zoë", "2025-12-31 23:59:59", "120.50", "{}"),
        ]
    );

    let second = run(&database, &backfill);
    let report: Value = serde_json::from_slice(&second.stdout).expect("JSON");
    assert_eq!(second.status.code(), Some(0), "{}", stderr(&second));
    assert_eq!(report["changed_rows"], 0, "a second run changes nothing");
}

#[test]
fn the_mapping_is_shown_without_a_database() {
    let pack = shop();
    let shown = toolkit()
        .args(["--database-url", "postgres://nobody@127.0.0.1:1/none", "pack", "show", "--pack"])
        .arg(&pack)
        .output()
        .expect("toolkit");
    let text = stdout(&shown);
    assert_eq!(shown.status.code(), Some(0), "{}", stderr(&shown));
    for part in [
        "stream orders: SQLite shop.db, table orders",
        "left behind: basket_html",
        "-> shop.orders, key (order_no), the source wins",
        "zone = \"Europe/Vienna\"",
        "default = \"{}\"",
    ] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
    let json = toolkit().args(["--format", "json", "pack", "show"]).output().expect("toolkit");
    let mapping: Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(mapping["pack"], "unified");
    assert_eq!(mapping["problems"], Value::Array(Vec::new()));
    assert_eq!(mapping["streams"][0]["outputs"][0]["columns"][1]["value"], "run");
}
