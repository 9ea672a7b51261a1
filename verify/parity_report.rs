//! A verification as a page, JSON and `JUnit`: complete, readable, and safe to open.

mod browser;
mod files;
mod page;

use crate::support::stderr;
use crate::support::world::World;

const PACK: &str = r#"
[pack]
name = "mine"
version = 1
[defaults]
zone = "UTC"

[[stream]]
name = "notes"
source = { sqlite = "app.sqlite", table = "notes" }
target = "public.notes"
key = ["id"]

[[stream]]
name = "logs"
source = { sqlite = "app.sqlite", table = "logs" }
target = "public.logs"
key = ["kind", "id"]
[stream.columns]
kind = { value = "mine" }
id = "id"
line = "line"

[[stream]]
name = "extras"
source = { sqlite = "extras.sqlite", table = "extras" }
target = "public.extras"
key = ["id"]
[stream.columns]
id = "id"
"#;

const TARGET: &str = "
CREATE TABLE notes (id text PRIMARY KEY, body text, share float8, checked_by text);
CREATE TABLE logs (kind text, id int8, line text, PRIMARY KEY (kind, id));
CREATE TABLE extras (id int8 PRIMARY KEY)";

const SOURCE: &str = r#"
CREATE TABLE notes (id TEXT PRIMARY KEY, body TEXT, share REAL);
CREATE TABLE logs (id INTEGER PRIMARY KEY, line TEXT);
INSERT INTO notes VALUES
 ('a', 'Grüße', 1.5), ('b', 'two words', 2.5), ('c', 'café', 0), ('d', '', 1), ('e', 'gone', 2),
 ('<script>top.pwned=1</script>', 'x', 3),
 ('html', '<img src=x onerror=top.pwned=1> & "quotes"', 3),
 ('lines', 'a' || char(13, 10) || 'b', 3);
INSERT INTO notes VALUES ('long', replace(hex(zeroblob(2000000)), '00', 'ab'), 4);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
INSERT INTO logs SELECT i, 'line ' || i FROM n"#;

/// Ten rows that differ, each in its own way.
const TAMPERING: &str = r"
UPDATE notes SET body = 'Grüsse' WHERE id = 'a';
UPDATE notes SET body = 'two words ', share = 2.25 WHERE id = 'b';
UPDATE notes SET body = normalize(body, NFD) WHERE id = 'c';
UPDATE notes SET body = NULL WHERE id = 'd';
DELETE FROM notes WHERE id = 'e';
INSERT INTO notes VALUES ('extra'' onclick=''x', 'y', 1);
UPDATE notes SET body = U&'x\202Ey\200B' WHERE id LIKE '<script>%';
UPDATE notes SET body = body || '</td></table><script>top.pwned=1</script>' WHERE id = 'html';
UPDATE notes SET body = replace(body, chr(13), '') WHERE id = 'lines';
UPDATE notes SET body = overlay(body PLACING 'XY' FROM 1000000) WHERE id = 'long'";

async fn untouched() -> World {
    // `notes` leaves checked_by alone, `extras` has no source, some logs are no stream's.
    let pack = PACK.replacen(
        "key = [\"id\"]\n\n",
        "key = [\"id\"]\n[stream.columns]\nid = \"id\"\nbody = \"body\"\nshare = \"share\"\n\n",
        1,
    );
    let world = World::own(&pack, TARGET, SOURCE).await;
    world.backfill().await;
    world
}

async fn tampered() -> World {
    let world = untouched().await;
    world.sql(TAMPERING).await;
    world.sql("INSERT INTO logs VALUES ('other', 1, ''), ('other', 2, '')").await;
    world
}

/// Verifies with one report; its text.
fn report(world: &World, code: i32, name: &str, more: &[&str]) -> String {
    let path = world.database.folder().join(name);
    let arguments = [&["--report", path.to_str().unwrap()], more].concat();
    let done = world.verify_parity(&arguments);
    assert_eq!(done.status.code(), Some(code), "{}", stderr(&done));
    std::fs::read_to_string(path).unwrap()
}
