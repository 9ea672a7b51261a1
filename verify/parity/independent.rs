//! The independent leg: a wrong cast cannot prove itself right.

use std::sync::Arc;

use toolkit::cast::Bug;
use toolkit::interrupt::Stop;
use toolkit::pack::{self, Pack};
use toolkit::parity::{self, Independent, IndependentResult, Kind, Options, Report};

use crate::support::stdout;
use crate::support::world::{World, lines};

const PACK: &str = r#"
[pack]
name = "mine"
version = 1

[[stream]]
name = "all"
source = { sqlite = "app.sqlite", table = "all_types" }
target = "public.all_types"
key = ["id"]
[stream.columns]
id = "id"
b = "b"
i2 = "i2"
i8 = "i8"
f8 = "f8"
num = "num"
t = "t"
vc = "vc"
by = "by"
u = "u"
u_blob = { from = "u_blob", cast = "uuid_bytes" }
iso = "iso"
naive = { from = "naive", zone = "Europe/Vienna" }
east = { from = "naive", zone = "+05:30" }
secs = { from = "secs", unit = "s" }
millis = { from = "millis", cast = "epoch_ms" }
ts = "ts"
d = "d"
tm = "tm"
iv = { from = "iv", cast = "interval_seconds" }
j = "j"
jb = "jb"
arr = "arr"
mood = { from = "mood", aliases = { ":)" = "happy" } }
net = "net"
given = { from = "given", default = "seven" }
"#;

const TARGET: &str = "CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE TABLE all_types (id int8 PRIMARY KEY, b bool, i2 int2, i8 int8, f8 float8,
  num numeric(20,4), t text, vc varchar(20), \"by\" bytea, u uuid, u_blob uuid, iso timestamptz,
  naive timestamptz, east timestamptz, secs timestamptz, millis timestamptz, ts timestamp, d date,
  tm time, iv interval, j json, jb jsonb, arr text[], mood mood, net inet, given text)";

const SOURCE: &str = r#"CREATE TABLE all_types (id INTEGER PRIMARY KEY, b, i2, i8, f8, num, t, vc,
  by, u, u_blob, iso, naive, secs, millis, ts, d, tm, iv, j, jb, arr, mood, net, given);
INSERT INTO all_types VALUES (1, 1, -7, 9007199254740993, 0.1, '12.5000', 'Zoë  ', 'word', x'00ff',
  '6BA7B810-9DAD-11D1-80B4-00C04FD430C8', x'6ba7b8109dad11d180b400c04fd430c8',
  '2026-02-06T17:40:01.994514+00:00', '2026-07-01 12:00:00', 1700000000, 1700000000123,
  '2024-02-29 23:59:59.5', '1999-12-31', '12:34:56.789', 90.5, '{"b": 1, "a" : [1.0]}',
  '{"b": 1, "a" : [1.0, "x"]}', '["one", null, "tw,o"]', ':)', '192.0.2.0/24', NULL);
INSERT INTO all_types VALUES (2, 'true', '12', '-1', -0.0, 3, '', 'x', 'text'||x'', NULL, NULL,
  '2026-02-06 17:40:01Z', '2026-01-01T00:00:00.25', 1700000000.5, '1700000000999',
  '0044-03-15 00:00:00', '2024-02-29', '00:00', 0, 'null', '"just text"', '[]', 'sad', '::1', 'g');
INSERT INTO all_types (id) VALUES (3);"#;

async fn opened_with(world: &World, column: Option<(&str, Bug)>) -> Arc<pack::OpenedPack> {
    let settings = world.database.settings();
    let found = Pack::find(&world.pack).unwrap();
    let roots = std::slice::from_ref(&world.source);
    let mut opened = pack::open(&settings, &world.postgres, found, roots).await.unwrap();
    if let Some((name, bug)) = column {
        let columns = &mut opened.plan.streams[0].outputs[0].columns;
        columns.iter_mut().find(|c| c.name == name).unwrap().cast.plant(bug);
    }
    Arc::new(opened)
}

async fn verify(world: &World, column: Option<(&str, Bug)>, independent: Independent) -> Report {
    let opened = opened_with(world, column).await;
    let options = Options { independent, ..Options::default() };
    parity::verify(&world.postgres, opened, &options, &Stop::new()).await.unwrap()
}

fn of<'r>(report: &'r Report, column: &str) -> &'r IndependentResult {
    report.independent.iter().find(|result| result.column == column).unwrap()
}

#[tokio::test]
async fn every_cast_is_read_a_second_way_and_a_bug_planted_in_any_of_them_is_found() {
    let world = World::own(PACK, TARGET, SOURCE).await;
    world.backfill().await;
    let clean = verify(&world, None, Independent::All).await;
    assert_eq!(clean.differing_rows, 0, "{:#?}", clean.differences);
    let mut planted = 0;
    let columns: Vec<(String, toolkit::cast::PgType)> =
        opened_with(&world, None).await.plan.streams[0].outputs[0]
            .columns
            .iter()
            .map(|column| (column.name.clone(), column.cast.ty().clone()))
            .collect();
    for (name, ty) in columns.iter().filter(|(name, _)| name != "id") {
        let result = of(&clean, name);
        assert!(result.has_second_way && result.checked >= 1, "{result:?}");
        assert_eq!(result.unread, 0, "{result:?}");
        for bug in Bug::ALL.into_iter().filter(|bug| bug.fits(ty)) {
            let report = verify(&world, Some((name.as_str(), bug)), Independent::All).await;
            let found = of(&report, name).differing;
            assert!(found > 0, "{bug:?} planted in {name} is not found");
            let miscast: Vec<_> =
                report.differences.iter().filter(|d| d.kind == Kind::Miscast).collect();
            assert_eq!(miscast.len() as u64, found, "{bug:?} in {name}");
            assert!(miscast.iter().all(|d| d.column.as_deref() == Some(name)), "{miscast:?}");
            planted += 1;
        }
    }
    assert!(planted > columns.len(), "{planted} bugs planted in {} columns", columns.len());
}

#[tokio::test]
async fn a_second_reading_of_a_sample_says_how_much_it_read() {
    let source = "CREATE TABLE all_types (id INTEGER PRIMARY KEY, b, i2, i8, f8, num, t, vc, by, u,
          u_blob, iso, naive, secs, millis, ts, d, tm, iv, j, jb, arr, mood, net, given);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
        INSERT INTO all_types (id, i8, t) SELECT i, i * 3, 'note ' || i FROM n";
    let world = World::own(PACK, TARGET, source).await;
    world.backfill().await;
    let report = verify(&world, None, Independent::Sample { n: 200, seed: 3 }).await;
    assert_eq!((of(&report, "t").checked, of(&report, "t").differing), (200, 0));
    let bug = Some(("i8", Bug::LastBit));
    let report = verify(&world, bug, Independent::Sample { n: 200, seed: 3 }).await;
    assert_eq!((of(&report, "i8").checked, of(&report, "i8").differing), (200, 200));
    let shown = world.run(&[
        "verify-parity",
        "--pack",
        &world.pack,
        "--source",
        world.source.to_str().unwrap(),
        "--independent",
    ]);
    assert!(stdout(&shown).contains("second reading of the casts: 0 of "), "{}", stdout(&shown));
}

#[tokio::test]
async fn the_generated_applications_casts_agree_with_their_second_reading() {
    let (world, _) = World::generated(11, &toolkit::demo::Shape::tiny()).await;
    world.backfill().await;
    let report = verify(&world, None, Independent::All).await;
    assert_eq!(report.differing_rows, 0, "{:#?}", lines(&report.differences));
    let checked: u64 = report.independent.iter().map(|result| result.checked).sum();
    assert!(checked > 1000, "only {checked} values");
    let unread: Vec<_> = report.independent.iter().filter(|result| result.unread > 0).collect();
    assert!(unread.is_empty(), "{unread:#?}");
}
