//! Rust applications in mid-migration: route, writes and compared reads.

#![allow(clippy::items_after_statements, reason = "what a write does is read where it is used")]

mod router;
mod shadow;
mod writer;

use serde_json::json;
use toolkit::live::{Doing, ReadRouter, Store, WriterOptions};
use toolkit::phase::{self, Phase, Transition, TransitionKind};

use crate::support::world::World;

/// The pack's name.
const PACK: &str = "shop";

const PACK_TOML: &str = "\
[pack]
name = \"shop\"
version = 1
[[stream]]
name = \"orders\"
target = \"public.orders\"
key = [\"id\"]
[stream.source]
sqlite = \"app.sqlite\"
table = \"orders\"
";

const TARGET: &str = "CREATE TABLE orders (id bigint PRIMARY KEY, customer text NOT NULL)";

/// The capture state without its triggers, which other tests look after, and a fence that looks
/// at it.
const CAPTURED: &str = "\
CREATE TABLE toolkit_capture_state (only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
  format INTEGER NOT NULL, installation TEXT NOT NULL, pack TEXT NOT NULL,
  mode INTEGER NOT NULL DEFAULT 0);
INSERT INTO toolkit_capture_state VALUES
  (1, 1, '6f1d1ff0-0000-4000-8000-000000000001', 'shop', 0);
CREATE TABLE toolkit_capture_log (seq INTEGER PRIMARY KEY);
CREATE TRIGGER toolkit_fence BEFORE INSERT ON orders
  WHEN (SELECT mode FROM toolkit_capture_state) = 1
  BEGIN SELECT RAISE(ABORT, 'toolkit fence: this database has moved to PostgreSQL'); END;";

const SOURCE: &str = "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT NOT NULL)";

/// A shop whose file is captured, in a phase.
async fn shop(phase: Phase) -> World {
    let world = World::own(PACK_TOML, TARGET, &format!("{SOURCE};{CAPTURED}")).await;
    go_to(&world, phase).await;
    world
}

/// Moves the pack on or back by as many phases as it takes.
async fn go_to(world: &World, phase: Phase) {
    let mut conn = world.postgres.dedicated().await.unwrap();
    loop {
        let from = phase::current(&mut conn, PACK).await.unwrap().phase;
        let (to, kind) = match from.cmp(&phase) {
            std::cmp::Ordering::Less => (from.next(), TransitionKind::Advance),
            std::cmp::Ordering::Equal => return,
            std::cmp::Ordering::Greater => (from.previous(), TransitionKind::Rollback),
        };
        let to = to.unwrap();
        let step = Transition { from, to, kind, reason: None, evidence: json!([]) };
        phase::transition(&mut conn, PACK, &step).await.unwrap();
    }
}

fn fence(world: &World, mode: u8) {
    world.sqlite(&format!("UPDATE toolkit_capture_state SET mode = {mode}"));
}

async fn router(world: &World) -> ReadRouter {
    ReadRouter::start(&world.database.settings(), PACK).await.unwrap()
}

fn options() -> WriterOptions {
    WriterOptions::default()
}

/// Inserts an order; the store it went to.
fn order(id: i64) -> impl for<'s> Fn(Store<'s>) -> Doing<'s, toolkit::Result<&'static str>> {
    move |store| {
        Box::pin(async move {
            match store {
                Store::Sqlite(file) => {
                    file.run(move |tx| tx.execute("INSERT INTO orders VALUES (?1, 'ada')", [id]))
                        .await?;
                    Ok("sqlite")
                }
                Store::Postgres(conn) => {
                    sqlx::query("INSERT INTO orders VALUES ($1, 'ada')")
                        .bind(id)
                        .execute(conn)
                        .await?;
                    Ok("postgres")
                }
            }
        })
    }
}

/// The orders each store holds, as `sqlite 1,2; postgres 3`.
async fn orders(world: &World) -> String {
    let file = rusqlite::Connection::open(world.source.join("app.sqlite")).unwrap();
    let query = "SELECT coalesce(group_concat(id), '') FROM (SELECT id FROM orders ORDER BY id)";
    let left: String = file.query_row(query, [], |row| row.get(0)).unwrap();
    let right =
        world.text("SELECT coalesce(string_agg(id::text, ',' ORDER BY id), '') FROM orders").await;
    format!("sqlite {left}; postgres {right}")
}
