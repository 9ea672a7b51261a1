//! A schema with all kinds of keys, captured, and a tail over it.

use std::sync::Arc;

use rusqlite::Connection;
use toolkit::capture::tail::{Applied, Tail, TailOptions};
use toolkit::capture::{self, EnableOptions};
use toolkit::interrupt::Stop;
use toolkit::pack::Pack;
use toolkit::parity::{Level, Options, verify};
use toolkit::store::Postgres;

use crate::support::backfill::Move;

const DDL: &str = "CREATE SCHEMA app;
    CREATE TABLE app.item (sku text PRIMARY KEY, name text UNIQUE, price float8, rank int UNIQUE);
    CREATE TABLE app.pair (a bigint, b text, note text, PRIMARY KEY (a, b));
    CREATE TABLE app.plain (id bigint PRIMARY KEY, body text);
    CREATE TABLE app.parent (id bigint PRIMARY KEY, name text NOT NULL UNIQUE);
    CREATE TABLE app.child (id bigint PRIMARY KEY, parent bigint REFERENCES app.parent,
        uncle bigint REFERENCES app.parent, note text);
    CREATE TABLE app.made (code text PRIMARY KEY, n bigint);
    CREATE TABLE app.exact (k bytea PRIMARY KEY, v bigint CHECK (v < 1000));
    CREATE TABLE app.odd (\"group\" text PRIMARY KEY, \"a \"\"b\" text);
    CREATE TABLE app.loose (tag text PRIMARY KEY, v text);";

const LONG: &str = "a_name_of_more_than_sixty_bytes_that_an_application_may_well_have_given";

fn streams() -> String {
    let stream = |name: &str, table: &str, key: &str, columns: &[(&str, &str)]| {
        let columns: Vec<String> =
            columns.iter().map(|(to, from)| format!("'{to}' = '{from}'")).collect();
        format!(
            "[[stream]]\nname = '{name}'\nsource = {{ sqlite = 'app.sqlite', table = '{table}' }}\n\
             target = 'app.{name}'\nkey = [{key}]\n[stream.columns]\n{}\n",
            columns.join("\n")
        )
    };
    [
        stream(
            "item",
            "item",
            "'sku'",
            &[("sku", "sku"), ("name", "name"), ("price", "price"), ("rank", "rank")],
        ),
        stream("pair", "pair", "'a', 'b'", &[("a", "a"), ("b", "b"), ("note", "note")]),
        stream("plain", "select", "'id'", &[("id", "id"), ("body", "fr\"om")]),
        stream("parent", "parent", "'id'", &[("id", "id"), ("name", "name")]),
        stream(
            "child",
            "child",
            "'id'",
            &[("id", "id"), ("parent", "parent"), ("uncle", "uncle"), ("note", "note")],
        ),
        stream("made", "made", "'code'", &[("code", "code"), ("n", "n")]) + "[[stream.ignored]]\n",
        stream("exact", "exact", "'k'", &[("k", "k"), ("v", "v")]),
        stream("odd", LONG, "'group'", &[("group", "group"), ("a \"b", "a \"b")]),
        stream("loose", "loose", "'tag'", &[("tag", "tag"), ("v", "v")]),
    ]
    .concat()
    .replace("[[stream.ignored]]\n", "")
}

fn source() -> String {
    format!(
        "CREATE TABLE item (sku TEXT PRIMARY KEY, name TEXT UNIQUE COLLATE NOCASE, price REAL, \
           rank INTEGER);
         CREATE UNIQUE INDEX item_rank ON item (rank) WHERE rank IS NOT NULL;
         CREATE UNIQUE INDEX item_text ON item (lower(name) || '-' || coalesce(price, 0));
         CREATE TABLE pair (a INTEGER, b TEXT, note TEXT UNIQUE, PRIMARY KEY (a, b)) WITHOUT ROWID;
         CREATE TABLE \"select\" (id INTEGER PRIMARY KEY AUTOINCREMENT, \"fr\"\"om\" TEXT);
         CREATE TABLE parent (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
         CREATE TABLE child (id INTEGER PRIMARY KEY,
           parent INTEGER REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE,
           uncle INTEGER REFERENCES parent ON DELETE SET NULL ON UPDATE CASCADE, note TEXT);
         CREATE TABLE made (n INTEGER, code TEXT GENERATED ALWAYS AS ('c' || n) VIRTUAL UNIQUE);
         CREATE TABLE exact (k BLOB PRIMARY KEY, v INTEGER) STRICT;
         CREATE TABLE \"{LONG}\" (rowid TEXT, \"group\" TEXT UNIQUE, \"a \"\"b\" TEXT);
         CREATE TABLE loose (tag TEXT, v TEXT);
         INSERT INTO item VALUES ('a', 'Ann', 1.5, 1), ('b', 'Bob', NULL, 2), ('c', 'Cid', 3, NULL);
         INSERT INTO pair VALUES (1, 'x', 'n'), (1, 'y', 'm'), (2, 'x', NULL);
         INSERT INTO \"select\" VALUES (1, 'one'), (2, 'two');
         INSERT INTO parent VALUES (1, 'p1'), (2, 'p2'), (3, 'p3');
         INSERT INTO child VALUES (10, 1, 2, 'x'), (11, 1, NULL, 'y'), (12, 2, 1, 'z');
         INSERT INTO made (n) VALUES (1), (2);
         INSERT INTO exact VALUES (x'00ff', 1), (x'', 2);
         INSERT INTO \"{LONG}\" VALUES ('r', 'g1', 'one'), ('r', 'g2', NULL);
         INSERT INTO loose VALUES ('t1', 'one'), ('t2', 'two');"
    )
}

/// See the module.
pub(super) struct Scene {
    pub(super) place: Move,
    pub(super) postgres: Postgres,
}

impl Scene {
    /// Captured; nothing is in the target yet.
    pub(super) async fn captured() -> Self {
        let streams = streams().replace("'a \"b' = 'a \"b'", "'a \"b' = 'a \"b'\n[stream_end]");
        // The column `rowid` is left behind on purpose.
        let streams =
            streams.replace("target = 'app.odd'", "target = 'app.odd'\nignore = ['rowid']");
        let streams = streams.replace("\n[stream_end]", "");
        let place = Move::own(DDL, &streams, &source()).await;
        let postgres = Postgres::connect(&place.database.settings()).await.unwrap();
        let scene = Self { place, postgres };
        scene.enable().await;
        scene
    }

    /// Captured, and history is in the target.
    pub(super) async fn copied() -> Self {
        let scene = Self::captured().await;
        scene.place.backfill(0, &[]);
        scene
    }

    pub(super) async fn enable(&self) {
        let settings = self.place.database.settings();
        let pack = Pack::find(&self.place.pack).unwrap();
        let roots = std::slice::from_ref(&self.place.source);
        let opened = toolkit::pack::open(&settings, &self.postgres, pack, roots).await.unwrap();
        capture::enable(&self.postgres, &opened, &EnableOptions::default()).await.unwrap();
    }

    /// As an application opens it.
    pub(super) fn application(&self) -> Connection {
        let connection = self.place.sqlite();
        connection.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
        connection.pragma_update(None, "journal_mode", "wal").unwrap();
        connection.pragma_update(None, "foreign_keys", true).unwrap();
        connection
    }

    pub(super) async fn tail(&self, entries_max: usize) -> Tail {
        self.tail_with(TailOptions { entries_max, ..TailOptions::default() }).await
    }

    pub(super) async fn tail_with(&self, options: TailOptions) -> Tail {
        let settings = self.place.database.settings();
        let pack = Pack::find(&self.place.pack).unwrap();
        let roots = std::slice::from_ref(&self.place.source);
        Tail::open(&settings, &self.postgres, pack, roots, options).await.unwrap()
    }

    /// Applies all that is captured, in batches of so many changes.
    pub(super) async fn catch_up(&self, entries_max: usize) -> Vec<Applied> {
        let mut tail = self.tail(entries_max).await;
        let applied = tail.catch_up(None, &Stop::new()).await.unwrap();
        tail.close().await.unwrap();
        applied
    }

    /// Full parity finds nothing.
    pub(super) async fn assert_clean(&self, what: &str) {
        let settings = self.place.database.settings();
        let pack = Pack::find(&self.place.pack).unwrap();
        let roots = std::slice::from_ref(&self.place.source);
        let opened = toolkit::pack::open(&settings, &self.postgres, pack, roots).await.unwrap();
        let options = Options { level: Level::Full, differences_max: 20, ..Options::default() };
        let report =
            verify(&self.postgres, Arc::new(opened), &options, &Stop::new()).await.unwrap();
        assert_eq!(report.differing_rows, 0, "{what}: {:#?}", report.differences);
        for stream in &report.streams {
            assert_eq!(stream.unaccounted, 0, "{what}: {stream:#?}");
        }
    }
}
