//! A studio's database with one of each kind of anomaly: each row that has one is rejected or
//! ledgered for the right reason, and every other row is stored.

mod table;

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;

use self::table::{ANOMALIES, Anomaly, Fate};
use crate::support::world::World;

/// The generated tables without their constraints, which an old or foreign writer had not either.
fn loose_copy(from: &Path, to: &Path) -> Connection {
    let file = Connection::open(to).unwrap();
    file.execute("ATTACH ?1 AS generated", [from.to_str().unwrap()]).unwrap();
    for table in tables(&file, "generated") {
        let copy = format!("CREATE TABLE main.{table} AS SELECT * FROM generated.{table}");
        file.execute_batch(&copy).unwrap();
    }
    file.execute_batch("DETACH generated").unwrap();
    file
}

fn tables(file: &Connection, schema: &str) -> Vec<String> {
    let query = format!("SELECT name FROM {schema}.sqlite_master WHERE type = 'table'");
    let mut statement = file.prepare(&query).unwrap();
    let names = statement.query_map([], |row| row.get(0)).unwrap();
    names.map(Result::unwrap).collect()
}

fn columns(file: &Connection, table: &str) -> Vec<String> {
    let mut statement = file.prepare(&format!("PRAGMA table_info({table})")).unwrap();
    let names = statement.query_map([], |row| row.get(1)).unwrap();
    names.map(Result::unwrap).collect()
}

/// Adds a copy of the table's first row with a key of its own and the anomaly; its rowid.
fn plant(file: &Connection, number: usize, anomaly: &Anomaly) -> i64 {
    let columns = columns(file, anomaly.table);
    let mut values: BTreeMap<&str, String> = BTreeMap::new();
    values.insert(&columns[0], format!("'{:032x}'", 0xa000_0000_usize + number));
    match anomaly.table {
        "artifacts" => {
            values.insert("version", (5000 + number).to_string());
            values.insert("parent_id", "NULL".to_owned());
        }
        "characters" => drop(values.insert("canonical_code", "NULL".to_owned())),
        _ => {}
    }
    for (column, value) in anomaly.values {
        let known = columns.iter().find(|known| known == column);
        values.insert(known.expect("a column"), (*value).to_owned());
    }
    let chosen: Vec<String> = columns
        .iter()
        .map(|column| values.get(column.as_str()).unwrap_or(column).clone())
        .collect();
    let statement = format!(
        "INSERT INTO {0} SELECT {1} FROM {0} ORDER BY rowid LIMIT 1",
        anomaly.table,
        chosen.join(", ")
    );
    file.execute_batch(&statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
    file.last_insert_rowid()
}

/// What became of a row: `stored`, or the reasons and rules on record.
async fn outcome(world: &World, table: &str, rowid: i64) -> String {
    let place = format!("stream = '{table}' AND locator = 'rowid {rowid}'");
    let reason = format!("SELECT string_agg(reason, ' ') FROM toolkit.reject WHERE {place}");
    let rule = format!(
        "SELECT string_agg(concat_ws(' ', column_name, rule), ', ' ORDER BY id) FROM toolkit.ledger WHERE {place}"
    );
    match (world.text(&reason).await.as_str(), world.text(&rule).await.as_str()) {
        ("NULL", "NULL") => "stored".to_owned(),
        ("NULL", rule) => format!("ledger {rule}"),
        (reason, "NULL") => format!("reject {reason}"),
        (reason, rule) => format!("reject {reason}, ledger {rule}"),
    }
}

#[tokio::test]
async fn each_anomaly_is_rejected_or_ledgered_for_its_reason_and_every_other_row_is_stored() {
    let world = World::builtin("webtoon", Path::new("nowhere")).await;
    let generated = world.database.folder().join("generated");
    let source = world.database.folder().join("app");
    toolkit::demo::generate::webtoon(&generated, 5, 60).unwrap();
    let file = loose_copy(&generated.join("webtoon.db"), &source.join("webtoon.db"));
    let planted: Vec<i64> = ANOMALIES
        .iter()
        .enumerate()
        .map(|(number, anomaly)| plant(&file, number, anomaly))
        .collect();
    let world = World { source, ..world };
    let report = world.backfill().await;
    let mut wrong = Vec::new();
    let (mut rejected, mut skipped) = (BTreeMap::new(), BTreeMap::new());
    for (anomaly, rowid) in ANOMALIES.iter().zip(planted) {
        let wanted = match anomaly.fate {
            Fate::Stored => "stored".to_owned(),
            Fate::Ledger(rule) => format!("ledger {rule}"),
            Fate::Reject(reason) => {
                *rejected.entry(anomaly.table).or_insert(0_u64) += 1;
                format!("reject {reason}")
            }
            Fate::Skip(rule) => {
                *skipped.entry(anomaly.table).or_insert(0_u64) += 1;
                format!("ledger {rule}")
            }
        };
        let found = outcome(&world, anomaly.table, rowid).await;
        if found != wanted {
            wrong.push(format!("{} {:?}: {found}, not {wanted}", anomaly.table, anomaly.values));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(ANOMALIES.len() >= 200, "{} kinds", ANOMALIES.len());
    for stream in &report.streams {
        assert!(stream.counts.is_balanced());
        let of =
            |counts: &BTreeMap<&str, u64>| counts.get(stream.stream.as_str()).copied().unwrap_or(0);
        let records = &stream.counts.records;
        let wanted = (of(&rejected), of(&skipped));
        assert_eq!((records.rejected, records.skipped), wanted, "{}", stream.stream);
        let absent = i64::try_from(wanted.0 + wanted.1).unwrap();
        let count = format!("SELECT count(*) FROM {}", stream.stream);
        let held: i64 = file.query_row(&count, [], |row| row.get(0)).unwrap();
        let stored = format!("SELECT count(*)::text FROM webtoon.{}", stream.stream);
        assert_eq!(world.text(&stored).await, (held - absent).to_string(), "{}", stream.stream);
    }
    world.assert_clean().await;
}
