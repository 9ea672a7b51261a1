//! The operator's page, walked by its commands alone: two SQLite files, and notes as JSON.

use std::process::Child;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rusqlite::Connection;
use serde_json::Value;

use super::scene::Stage;
use crate::support::backfill::Move;
use crate::support::stderr;

const TABLES: &str = "CREATE SCHEMA shop; \
    CREATE TABLE shop.orders (id bigint PRIMARY KEY, customer text NOT NULL, total numeric); \
    CREATE TABLE shop.stock (sku text PRIMARY KEY, pieces bigint NOT NULL); \
    CREATE TABLE shop.notes (id text PRIMARY KEY, body text);";

const STREAMS: &str = r#"
[phase]
clean_runs = 1
release_window = "0s"
[[stream]]
name = "orders"
source = { sqlite = "app.sqlite", table = "orders" }
target = "shop.orders"
key = ["id"]
reverse = "equivalent"
[[stream]]
name = "stock"
source = { sqlite = "stock.sqlite", table = "stock" }
target = "shop.stock"
key = ["sku"]
reverse = "exact"
[[stream]]
name = "notes"
source = { json = "note-*.json" }
target = "shop.notes"
key = ["id"]
[stream.columns]
id = "/id"
body = "/body"
"#;

const ORDERS: &str = "PRAGMA journal_mode = WAL; \
    CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT NOT NULL, total TEXT); \
    INSERT INTO orders VALUES (1, 'Ada', '19.90'), (2, 'Bram', '5');";

const STOCK: &str = "CREATE TABLE stock (sku TEXT PRIMARY KEY, pieces INTEGER NOT NULL) WITHOUT ROWID; \
    INSERT INTO stock VALUES ('tea', 10), ('cup', 3);";

/// A process that goes on until it is asked to stop.
struct Following(Child);

impl Following {
    fn start(stage: &Stage, what: &[&str]) -> Self {
        let mut command = stage.command(what, &[]);
        let quiet = command.stdout(std::process::Stdio::null());
        Self(quiet.stderr(std::process::Stdio::null()).spawn().unwrap())
    }

    /// Ctrl-C.
    fn stop(mut self) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        kill(pid, Signal::SIGINT).unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Shop {
    stage: Stage,
}

impl Shop {
    async fn open() -> Self {
        let scene = Move::own(TABLES, STREAMS, ORDERS).await;
        let shop = Self { stage: Stage::of(scene) };
        shop.stock().execute_batch(STOCK).unwrap();
        shop.note("a", "first");
        shop.note("b", "second");
        shop
    }

    fn stock(&self) -> Connection {
        let file = Connection::open(self.stage.scene.source.join("stock.sqlite")).unwrap();
        file.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
        file
    }

    fn note(&self, id: &str, body: &str) {
        let text = format!("{{\"id\":\"{id}\",\"body\":\"{body}\"}}");
        std::fs::write(self.stage.scene.source.join(format!("note-{id}.json")), text).unwrap();
    }

    fn exits(&self, code: i32, what: &[&str], more: &[&str]) -> Value {
        self.stage.exits(code, what, more)
    }

    /// `toolkit WHAT... --pack P`, of commands that look at Postgres alone.
    fn status(&self, what: &[&str]) -> Value {
        let scene = &self.stage.scene;
        let mut command = scene.command(&["--format", "json"]);
        let output = command.args(what).args(["--pack", &scene.pack]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{what:?}: {}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn phase(&self) -> String {
        let output = self.stage.run(&["phase", "status"], &[]);
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        found["packs"][0]["state"]["phase"].as_str().unwrap().to_owned()
    }

    /// Phase 0 to 3, with an application that writes on the way.
    fn cut_over(&self) -> Value {
        let planned = self.before_the_cutover();
        assert!(planned.to_string().contains("notes -> shop.notes"), "{planned}");
        // What was written last is found behind the fence.
        self.note("b", "second, corrected");
        self.note("c", "third");
        self.exits(0, &["phase", "advance"], &["--acknowledge-none"])
    }

    /// Phase 0 to 2, up to where nothing is missing but the acknowledgement; the refusal.
    fn before_the_cutover(&self) -> Value {
        assert_eq!(self.phase(), "bootstrap");
        self.exits(0, &["phase", "advance"], &[]);
        let enabled = self.exits(0, &["dual-write", "enable"], &[]);
        assert_eq!(enabled["files"].as_array().unwrap().len(), 2, "{enabled}");
        let tail = Following::start(&self.stage, &["dual-write", "run"]);
        self.stage.write("INSERT INTO orders VALUES (3, 'Cleo', '7.5')").unwrap();
        self.exits(0, &["phase", "advance"], &[]);
        self.exits(0, &["backfill"], &[]);
        self.stock().execute("UPDATE stock SET pieces = pieces - 1", []).unwrap();
        self.note("a", "first, corrected");
        tail.stop();
        self.exits(0, &["dual-write", "run"], &["--until-caught-up"]);
        let status = self.status(&["dual-write", "status"]);
        assert_eq!(status["documents"], 2, "{status}");
        let parity = self.exits(0, &["verify-parity"], &[]);
        assert_eq!(parity["differing_rows"], 0, "{parity}");
        self.exits(1, &["phase", "advance"], &[])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shop_of_two_files_and_notes_walks_from_sqlite_to_its_seal_by_commands_alone() {
    let shop = Shop::open().await;
    let scene = &shop.stage.scene;
    let done = shop.cut_over();
    assert_eq!(done["cutover"]["files"].as_array().unwrap().len(), 2, "{done}");
    assert_eq!(shop.phase(), "cutover");
    assert_eq!(scene.text("SELECT body FROM shop.notes WHERE id = 'b'").await, "second, corrected");
    assert_eq!(scene.count("shop.notes").await, 3);

    let back = Following::start(&shop.stage, &["dual-write", "reverse", "run"]);
    scene.execute("INSERT INTO shop.orders VALUES (4, 'Dirk', 1); DELETE FROM shop.stock WHERE sku = 'cup'").await;
    let mut waited = 0;
    while shop.stock().query_row("SELECT count(*) FROM stock", [], |row| row.get(0)) != Ok(1) {
        waited += 1;
        assert!(waited < 600, "it never went back");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    shop.exits(0, &["verify-parity"], &[]);
    let busy = shop.stage.run(&["phase", "advance"], &[]);
    assert_eq!(busy.status.code(), Some(2));
    assert!(stderr(&busy).contains("stop `toolkit dual-write reverse run`"), "{}", stderr(&busy));
    back.stop();

    // The application goes on writing while the seal is put.
    let pool = scene.pool.clone();
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let application = tokio::spawn(async move {
        let mut id = 100_i64;
        while stopped.try_recv().is_err() {
            id += 1;
            let statement = "INSERT INTO shop.orders VALUES ($1, 'more', 1)";
            sqlx::query(statement).bind(id).execute(&pool).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        id
    });
    let done = shop.exits(0, &["phase", "advance"], &[]);
    stop.send(()).unwrap();
    let last = application.await.unwrap();
    assert_eq!(shop.phase(), "decommissioned");
    let position = &done["position"];
    assert_eq!(position["differing_rows"], 0, "{done}");
    assert_eq!(position["streams"], serde_json::json!(["orders", "stock"]), "{done}");
    for file in done["sealed"].as_array().unwrap() {
        assert_eq!(file["lsn"], position["lsn"], "{done}");
        assert_eq!(file["parity_run"], position["parity_run"], "{done}");
        assert!(file["sha256"].is_string(), "{done}");
    }
    assert_eq!(scene.count(&format!("shop.orders WHERE id <= {last}")).await, last - 100 + 4);
    let run = scene.text("SELECT verdict FROM toolkit.parity_run ORDER BY started_at DESC").await;
    assert_eq!(run, "clean");
    assert_eq!(scene.count("pg_trigger WHERE tgname LIKE 'toolkit%'").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shop_goes_back_to_sqlite_with_everything_and_on_again() {
    let shop = Shop::open().await;
    let scene = &shop.stage.scene;
    shop.cut_over();
    let back = Following::start(&shop.stage, &["dual-write", "reverse", "run"]);
    scene.execute("UPDATE shop.orders SET total = 20 WHERE id = 1; INSERT INTO shop.stock VALUES ('jug', 1)").await;
    // Until it is the one that writes back.
    while shop.status(&["dual-write", "reverse", "status"])["running"] != true {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let busy = shop.stage.run(&["phase", "rollback"], &[]);
    assert_eq!(busy.status.code(), Some(2));
    assert!(stderr(&busy).contains("stop `toolkit dual-write reverse run`"), "{}", stderr(&busy));
    back.stop();
    let done = shop.exits(0, &["phase", "rollback"], &["--reason", "a trial"]);
    assert_eq!(done["reverse"]["accepted_loss"], 0, "{done}");
    assert_eq!(shop.phase(), "backfill");
    let total: String = scene
        .sqlite()
        .query_row("SELECT total FROM orders WHERE id = 1", [], |row| row.get(0))
        .unwrap();
    assert_eq!(total, "20");
    let pieces = |sku: &str| -> i64 {
        let query = "SELECT pieces FROM stock WHERE sku = ?1";
        shop.stock().query_row(query, [sku], |row| row.get(0)).unwrap()
    };
    assert_eq!((pieces("jug"), pieces("tea")), (1, 9));
    shop.stage.write("DELETE FROM orders WHERE id = 2").unwrap();
    shop.exits(0, &["dual-write", "run"], &["--until-caught-up"]);
    shop.exits(0, &["backfill"], &[]);
    shop.exits(0, &["verify-parity"], &[]);
    shop.exits(0, &["phase", "advance"], &["--acknowledge-none"]);
    assert_eq!(shop.phase(), "cutover");
    assert_eq!(scene.count("shop.orders").await, 2);
}

#[tokio::test]
async fn files_that_do_not_hold_what_postgres_holds_are_not_sealed() {
    let shop = Shop::open().await;
    shop.cut_over();
    shop.exits(0, &["verify-parity"], &[]);
    // Nobody captured this, and no verification has seen it.
    let unseen = "SET toolkit.replay = 'on'; UPDATE shop.orders SET customer = 'Eve' WHERE id = 2; \
                  RESET toolkit.replay";
    shop.stage.scene.execute(unseen).await;
    let refused = shop.exits(1, &["phase", "advance"], &[]);
    let checks = refused["gate"]["checks"].as_array().unwrap();
    let missing: Vec<&Value> = checks.iter().filter(|check| check["verdict"] != "met").collect();
    assert_eq!((missing.len(), &missing[0]["name"]), (1, &"position".into()), "{refused}");
    assert!(missing[0]["finding"].as_str().unwrap().contains("1 row of SQLite"), "{refused}");
    assert_eq!(shop.phase(), "cutover");
    let left = shop.stage.write("DELETE FROM orders").unwrap_err();
    assert!(left.starts_with("toolkit fence:"), "{left}");
    let done = shop.exits(0, &["phase", "advance"], &["--force", "--reason", "known"]);
    assert_eq!(done["sealed"][0]["lsn"], Value::Null, "{done}");
    assert_eq!(done["position"]["differing_rows"], 1, "{done}");
}

#[tokio::test]
async fn what_was_given_up_at_the_cutover_does_not_keep_the_last_phase_shut() {
    let shop = Shop::open().await;
    let scene = &shop.stage.scene;
    let refused = shop.before_the_cutover();
    let checks = refused["gate"]["checks"].as_array().unwrap();
    let way_back = checks.iter().find(|check| check["name"] == "way_back").unwrap();
    assert!(way_back["finding"].as_str().unwrap().contains("notes -> shop.notes"), "{way_back}");
    let next = way_back["advice"].as_str().unwrap();
    assert!(next.starts_with("toolkit phase advance --to 3 --acknowledge-none --pack"), "{next}");
    shop.exits(0, &["phase", "advance"], &["--to", "3", "--acknowledge-none"]);
    // Notes do not go back; orders do, and this one was not captured.
    scene.execute("UPDATE shop.notes SET body = 'in postgres' WHERE id = 'a'").await;
    let unseen = "SET toolkit.replay = 'on'; UPDATE shop.orders SET customer = 'Eve' WHERE id = 2; \
                  RESET toolkit.replay";
    scene.execute(unseen).await;
    shop.exits(1, &["verify-parity"], &[]);
    let missing = shop.stage.missing().join("\n");
    assert!(missing.contains("parity: 0 of 1"), "{missing}");
    scene.execute(&unseen.replace("Eve", "Bram")).await;
    let found = shop.exits(1, &["verify-parity"], &[]);
    assert_eq!(found["differing_rows"], 1, "{found}");
    let done = shop.exits(0, &["phase", "advance"], &["--to", "4"]);
    let parity = &done["gate"]["checks"][1];
    assert!(parity["finding"].as_str().unwrap().contains("but for shop.notes"), "{parity}");
    assert_eq!(shop.phase(), "decommissioned");
}
