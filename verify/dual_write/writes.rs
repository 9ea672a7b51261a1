//! Every way to write SQLite arrives in the target.

use super::scene::Scene;

const LONG: &str = "a_name_of_more_than_sixty_bytes_that_an_application_may_well_have_given";

/// Statements of one transaction each.
// A list.
#[allow(clippy::too_many_lines)]
fn writes() -> Vec<(&'static str, String)> {
    let plain = [
        ("insert", "INSERT INTO item VALUES ('d', 'Dan', 4, 4)"),
        ("update", "UPDATE item SET price = 9.25 WHERE sku = 'a'"),
        ("delete", "DELETE FROM item WHERE sku = 'd'"),
        ("key change", "UPDATE item SET sku = 'a2' WHERE sku = 'a'"),
        (
            "key change and back",
            "UPDATE item SET sku = 'q' WHERE sku = 'b'; \
            UPDATE item SET sku = 'b' WHERE sku = 'q'",
        ),
        (
            "insert and delete",
            "INSERT INTO item VALUES ('e', 'Eve', 1, NULL); \
            DELETE FROM item WHERE sku = 'e'",
        ),
        (
            "upsert",
            "INSERT INTO item VALUES ('b', 'Bea', 1, 7) \
            ON CONFLICT (sku) DO UPDATE SET name = excluded.name, rank = excluded.rank",
        ),
        (
            "upsert that does nothing",
            "INSERT INTO item VALUES ('b', 'x', 1, 70) \
            ON CONFLICT DO NOTHING",
        ),
        ("replace by key", "INSERT OR REPLACE INTO item VALUES ('c', 'Cyd', 3.5, NULL)"),
        (
            "replace by another unique column under NOCASE",
            "INSERT OR REPLACE INTO item VALUES ('f', 'CYD', 3.5, NULL)",
        ),
        ("replace by a partial index", "REPLACE INTO item VALUES ('g', 'Gil', 1, 7)"),
        (
            "replace by an index on expressions",
            "INSERT INTO item VALUES ('h', 'Hal', 2, NULL), ('i', 'HAL2', 2, NULL); \
             UPDATE OR REPLACE item SET name = 'hAl' WHERE sku = 'i'",
        ),
        ("update or replace evicts", "UPDATE OR REPLACE item SET rank = 7 WHERE sku = 'f'"),
        (
            "replace by rowid",
            "INSERT INTO item (rowid, sku, name) VALUES (500, 'r1', 'r1'); \
            INSERT OR REPLACE INTO item (rowid, sku, name) VALUES (500, 'r2', 'r2')",
        ),
        (
            "rowid moves onto another",
            "INSERT INTO item (rowid, sku, name) VALUES (501, 'r3', 'r3'); \
            UPDATE OR REPLACE item SET rowid = 500 WHERE sku = 'r3'",
        ),
        (
            "composite key, no rowid",
            "INSERT INTO pair VALUES (3, 'z', 'k'); \
            UPDATE pair SET b = 'zz' WHERE a = 3; UPDATE pair SET a = 4 WHERE a = 3",
        ),
        ("replace without rowid", "INSERT OR REPLACE INTO pair VALUES (1, 'x', 'm')"),
        (
            "update or replace without rowid",
            "INSERT INTO pair VALUES (7, 'u', 'u'), (7, 'v', 'v'); \
            UPDATE OR REPLACE pair SET note = 'u' WHERE b = 'v'",
        ),
        (
            "quoted names, autoincrement",
            "INSERT INTO \"select\" (\"fr\"\"om\") VALUES ('three'); \
            DELETE FROM \"select\" WHERE id = 1; UPDATE \"select\" SET id = 30 WHERE id = 2",
        ),
        (
            "all rows",
            "UPDATE \"select\" SET \"fr\"\"om\" = 'x' || id; \
            DELETE FROM \"select\" WHERE id > 3",
        ),
        ("delete everything", "DELETE FROM \"select\""),
        ("cascade to delete and to null", "DELETE FROM parent WHERE id = 1"),
        ("cascade of a key", "UPDATE parent SET id = 20 WHERE id = 2"),
        (
            "child moves, old parent goes",
            "INSERT INTO parent VALUES (5, 'p5'); \
            UPDATE child SET parent = 5 WHERE id = 12; DELETE FROM parent WHERE id = 20",
        ),
        ("parent replaced by its name", "INSERT OR REPLACE INTO parent VALUES (6, 'p5')"),
        (
            "generated key",
            "INSERT INTO made (n) VALUES (3); UPDATE made SET n = 4 WHERE n = 1; \
            INSERT OR REPLACE INTO made (n) VALUES (2)",
        ),
        (
            "strict, blob key",
            "INSERT INTO exact VALUES (x'01', 5); \
            UPDATE exact SET k = x'02' WHERE k = x''; DELETE FROM exact WHERE k = x'00ff'",
        ),
        (
            "no key in the source",
            "INSERT INTO loose VALUES ('t3', 'three'); \
            UPDATE loose SET tag = 't4' WHERE tag = 't1'; DELETE FROM loose WHERE tag = 't2'",
        ),
        (
            "unique values swap",
            "INSERT INTO item VALUES ('s1', 's1', 1, 101), ('s2', 's2', 1, 102); \
            UPDATE item SET rank = NULL WHERE sku = 's1'; \
            UPDATE item SET rank = 101 WHERE sku = 's2'; \
            UPDATE item SET rank = 102 WHERE sku = 's1'",
        ),
        (
            "keys swap",
            "UPDATE item SET sku = 'tmp' WHERE sku = 's1'; \
            UPDATE item SET sku = 's1' WHERE sku = 's2'; \
            UPDATE item SET sku = 's2' WHERE sku = 'tmp'",
        ),
        (
            "vacuum renumbers",
            "DELETE FROM item WHERE sku = 's1'; \
            UPDATE item SET price = 77 WHERE sku = 's2'",
        ),
    ];
    let mut all: Vec<(&str, String)> =
        plain.into_iter().map(|(what, sql)| (what, sql.to_owned())).collect();
    all.push((
        "a name that is long",
        format!(
            "INSERT INTO \"{LONG}\" VALUES ('s', 'g3', 'three'); \
             UPDATE \"{LONG}\" SET \"group\" = 'g4' WHERE \"group\" = 'g1'; \
             INSERT OR REPLACE INTO \"{LONG}\" VALUES ('t', 'g2', 'new')"
        ),
    ));
    all
}

#[tokio::test]
async fn every_form_of_a_write_arrives() {
    let scene = Scene::copied().await;
    scene.assert_clean("after history").await;
    let application = scene.application();
    let mut tail = scene.tail(2_000).await;
    for (what, sql) in writes() {
        application.execute_batch(&format!("BEGIN; {sql}; COMMIT")).unwrap_or_else(|error| {
            panic!("{what}: {error}");
        });
        if what == "vacuum renumbers" {
            application.execute_batch("VACUUM").unwrap();
        }
        tail.catch_up(None, &toolkit::interrupt::Stop::new()).await.unwrap();
        scene.assert_clean(what).await;
    }
    let held = scene.place.count("toolkit.capture_held").await;
    assert_eq!(held, 0);
}

#[tokio::test]
async fn batches_of_any_size_lead_to_the_same() {
    for size in [1, 3, 7] {
        let scene = Scene::copied().await;
        let application = scene.application();
        for (what, sql) in writes() {
            application.execute_batch(&format!("BEGIN; {sql}; COMMIT")).unwrap_or_else(|error| {
                panic!("{what}: {error}");
            });
        }
        scene.catch_up(size).await;
        scene.assert_clean(&format!("batches of {size}")).await;
        assert_eq!(scene.place.rejects().await, [], "batches of {size}");
        assert_eq!(scene.place.count("toolkit.capture_held").await, 0, "batches of {size}");
    }
}
