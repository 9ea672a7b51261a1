//! Dirty values end to end: stored, stored changed with a ledger entry, or refused; never silently.

mod policies;
mod retry;
mod retry_shapes;
mod table;
mod units;

use std::collections::BTreeMap;

use self::table::{DDL, GROUPS};
use crate::support::world::World;

/// What becomes of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It is stored; as Postgres prints it.
    Stored(&'static str),
    /// It is stored changed, under a rule.
    Ledger(&'static str, &'static str),
    /// Its record is a reject.
    Reject(&'static str),
}

fn pack() -> String {
    let columns: Vec<String> = GROUPS
        .iter()
        .map(|group| {
            let comma = if group.options.is_empty() { "" } else { ", " };
            format!("{0} = {{ from = \"{0}\"{comma}{1} }}\n", group.name, group.options)
        })
        .collect();
    format!(
        "[pack]\nname = \"dirt\"\nversion = 1\n[[stream]]\nname = \"wide\"\n\
         source = {{ sqlite = \"app.sqlite\", table = \"wide\" }}\ntarget = \"public.wide\"\n\
         key = [\"id\"]\n[stream.columns]\nid = \"id\"\n{}",
        columns.concat()
    )
}

fn target() -> String {
    let columns: Vec<String> =
        GROUPS.iter().map(|group| format!("{} {}", group.name, group.ty)).collect();
    format!("{DDL} CREATE TABLE wide (id bigint PRIMARY KEY, {})", columns.join(", "))
}

fn source() -> String {
    let names: Vec<&str> = GROUPS.iter().map(|group| group.name).collect();
    let mut statements =
        format!("CREATE TABLE wide (id INTEGER PRIMARY KEY, {});", names.join(", "));
    let mut id = 0;
    for (dirty, group) in GROUPS.iter().enumerate() {
        for (value, _) in group.cases {
            id += 1;
            let values: Vec<&str> = GROUPS
                .iter()
                .enumerate()
                .map(|(at, group)| if at == dirty { *value } else { group.good })
                .collect();
            statements.push_str(&format!("INSERT INTO wide VALUES ({id}, {});", values.join(", ")));
        }
    }
    statements
}

/// What became of row `id`, whose dirt is in `column`.
async fn outcome(world: &World, id: usize, column: &str) -> String {
    let place = format!("locator = 'rowid {id}'");
    let reason = world
        .text(&format!("SELECT string_agg(reason, ' ') FROM toolkit.reject WHERE {place}"))
        .await;
    if reason != "NULL" {
        return format!("reject {reason}");
    }
    let stored =
        world.text(&format!("SELECT left({column}::text, 60) FROM wide WHERE id = {id}")).await;
    let rules = world
        .text(&format!(
            "SELECT string_agg(column_name || ' ' || rule, ', ' ORDER BY id) FROM toolkit.ledger \
             WHERE {place}"
        ))
        .await;
    if rules == "NULL" { format!("stored {stored}") } else { format!("{rules}: {stored}") }
}

#[tokio::test]
async fn every_kind_of_dirt_is_stored_ledgered_or_refused_as_the_table_says() {
    let world = World::own(&pack(), &target(), &source()).await;
    let census = predicted(&world).await;
    let report = world.backfill().await;
    let counts = &report.streams[0].counts;
    let mut wrong = Vec::new();
    let (mut id, mut rejects) = (0, 0);
    let mut by_column: BTreeMap<&str, [u64; 2]> = BTreeMap::new();
    for group in GROUPS {
        for (value, wanted) in group.cases {
            id += 1;
            let seen = by_column.entry(group.name).or_default();
            let wanted = match wanted {
                Outcome::Stored(text) => format!("stored {text}"),
                Outcome::Ledger(text, rule) => {
                    seen[0] += 1;
                    format!("{} {rule}: {text}", group.name)
                }
                Outcome::Reject(reason) => {
                    seen[1] += 1;
                    rejects += 1;
                    format!("reject {reason}")
                }
            };
            let found = outcome(&world, id, group.name).await;
            if found != wanted {
                wrong.push(format!("{} {}: {value}: {found}, not {wanted}", group.name, group.ty));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {id} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(id >= 50, "{id} kinds");
    assert_eq!(counts.read, id as u64);
    assert!(counts.is_balanced());
    assert_eq!(counts.records.rejected, rejects);
    assert_eq!(counts.records.inserted, id as u64 - rejects);
    let ledgered: u64 = by_column.values().map(|[ledger, _]| ledger).sum();
    assert_eq!(counts.ledgered, ledgered);
    world.assert_clean().await;
    assert_predicted(&census, &by_column, counts);
}

/// Every original is kept beside what was stored instead, secrets excepted.
#[tokio::test]
async fn the_ledger_keeps_the_original_of_every_changed_value_and_parity_misses_a_lost_one() {
    let world = World::own(&pack(), &target(), &source()).await;
    world.backfill().await;
    let lost = "SELECT count(*)::text FROM toolkit.ledger WHERE NOT secret AND original IS NULL";
    assert_eq!(world.text(lost).await, "0");
    let original = "SELECT convert_from(original, 'UTF8') FROM toolkit.ledger \
                    WHERE column_name = 'mac' \
                    ORDER BY original LIMIT 1 OFFSET 1";
    assert_eq!(world.text(original).await, "08002B:010203");
    let secrets = "SELECT count(*)::text FROM toolkit.ledger WHERE secret AND original IS NULL";
    assert_eq!(world.text(secrets).await, "2");
    world.sql("DELETE FROM toolkit.ledger WHERE column_name = 'mac'").await;
    let report = world.verify().await;
    assert_eq!(report.differing_rows, 2, "{:#?}", report.differences);
    // A second run finds everything as it is, and records the entries again.
    let again = world.backfill().await;
    let records = again.streams[0].counts.records;
    assert_eq!((records.inserted, records.updated), (0, 0));
    world.assert_clean().await;
}

async fn predicted(world: &World) -> toolkit::preflight::Census {
    use toolkit::{interrupt::Stop, pack::Pack, preflight};
    let (settings, pack) = (world.database.settings(), Pack::find(&world.pack).unwrap());
    let (roots, options) = (std::slice::from_ref(&world.source), preflight::Options::default());
    preflight::census(&settings, &world.postgres, pack, roots, &options, &Stop::new(), &|_| ())
        .await
        .unwrap()
}

/// What the preflight said of each column is what the run did; what only Postgres refuses is named.
#[track_caller]
fn assert_predicted(
    census: &toolkit::preflight::Census,
    by_column: &BTreeMap<&str, [u64; 2]>,
    counts: &toolkit::backfill::Counts,
) {
    // A domain's check, which the census names.
    let judged_by_postgres = ["pct"];
    assert_eq!(census.left_to_postgres, ["public.wide: check percent_check of pct as percent"]);
    let stream = &census.streams[0];
    for column in &stream.outputs[0].columns {
        let Some([ledger, rejects]) = by_column.get(column.column.as_str()) else { continue };
        if judged_by_postgres.contains(&column.column.as_str()) {
            continue;
        }
        assert_eq!(column.ledger, *ledger, "{}: ledger", column.column);
        assert_eq!(column.reject, *rejects, "{}: reject", column.column);
        assert_eq!(column.lossless, counts.read - ledger - rejects, "{}", column.column);
    }
    let missed = judged_by_postgres.len() as u64;
    assert_eq!(stream.predicted.rejects() + missed, counts.records.rejected);
    assert_eq!(stream.predicted.ledgered, counts.ledgered);
}
