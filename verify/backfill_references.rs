//! Foreign keys of the targets: parents that come later, circles, and references that lead
//! nowhere.

use std::process::Stdio;
use std::time::Duration;

use crate::support::backfill::Move;

fn stream(name: &str, key: &str, more: &str) -> String {
    format!(
        "[[stream]]\nname = \"{name}\"\ntarget = \"public.{name}\"\nkey = [\"{key}\"]\n{more}\n\
         [stream.source]\nsqlite = \"app.sqlite\"\ntable = \"{name}\"\n"
    )
}

/// A second run that finds everything in place, and parity.
#[track_caller]
fn settled(scene: &Move, code: i32, streams: &[(&str, u64)]) {
    let report = scene.backfill(code, &["--chunk-records", "3"]);
    for (name, rows) in streams {
        assert_eq!(report.records(name, "unchanged"), *rows, "{name}: {:?}", report.six(name));
        assert_eq!(report.records(name, "inserted") + report.records(name, "updated"), 0, "{name}");
    }
    scene.is_clean();
}

const CHAIN: &str = "CREATE TABLE node (id INTEGER PRIMARY KEY, parent INTEGER);
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40)
    INSERT INTO node SELECT i, CASE WHEN i < 40 THEN i + 1 END FROM n";

#[tokio::test]
async fn a_child_may_stand_before_its_parent_in_whatever_chunk_and_kind_of_constraint() {
    for constraint in ["", "DEFERRABLE", "DEFERRABLE INITIALLY DEFERRED"] {
        for chunk in ["1", "7", "100"] {
            let scene = Move::own(
                &format!(
                    "CREATE TABLE public.node (id bigint PRIMARY KEY,
                        parent bigint REFERENCES public.node {constraint})"
                ),
                &stream("node", "id", ""),
                CHAIN,
            )
            .await;
            let report = scene.backfill(0, &["--chunk-records", chunk]);
            assert_eq!(report.six("node"), [40, 0, 0, 0, 0, 0], "{constraint} {chunk}");
            assert_eq!(scene.count("toolkit.held_row").await, 0);
            assert_eq!(scene.count("node WHERE parent = id + 1").await, 39);
            settled(&scene, 0, &[("node", 40)]);
        }
    }
}

#[tokio::test]
async fn of_a_chain_without_a_root_every_row_is_an_orphan_and_no_other_one() {
    let scene = Move::own(
        "CREATE TABLE public.node (id bigint PRIMARY KEY, parent bigint REFERENCES public.node)",
        &stream("node", "id", ""),
        "CREATE TABLE node (id INTEGER PRIMARY KEY, parent INTEGER);
         INSERT INTO node VALUES (1, 2), (2, 3), (3, 99), (4, NULL), (5, 6), (6, 5), (7, 7), (8, 4)",
    )
    .await;
    let report = scene.backfill(1, &["--chunk-records", "2"]);
    assert_eq!(report.six("node"), [5, 0, 0, 0, 0, 3]);
    let ids = "SELECT string_agg(id::text, ' ' ORDER BY id) FROM node";
    assert_eq!(scene.text(ids).await, "4 5 6 7 8");
    for (_, _, _, reason) in scene.rejects().await {
        assert_eq!(reason, "orphan");
    }
    settled(&scene, 1, &[("node", 5)]);
}

/// Two tables that refer to each other, and a third that refers to one of them.
const CIRCLE: &str = "CREATE TABLE scene (id INTEGER PRIMARY KEY, chosen INTEGER, body TEXT);
    CREATE TABLE artifact (id INTEGER PRIMARY KEY, scene INTEGER, before INTEGER);
    CREATE TABLE image (id INTEGER PRIMARY KEY, artifact INTEGER);
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30)
    INSERT INTO scene SELECT i, CASE WHEN i % 3 > 0 THEN 100 + i END, 's' || i FROM n;
    INSERT INTO artifact SELECT 100 + id, id, CASE WHEN id % 2 = 0 THEN 100 + id + 1 END FROM scene
        WHERE id < 30;
    INSERT INTO artifact VALUES (130, 30, NULL);
    INSERT INTO image SELECT id, id FROM artifact;";

fn circle(constraint: &str, chosen: &str, policy: &str) -> (String, String) {
    let ddl = format!(
        "CREATE TABLE public.scene (id bigint PRIMARY KEY, chosen bigint {chosen}, body text);
         CREATE TABLE public.artifact (id bigint PRIMARY KEY,
            scene bigint NOT NULL REFERENCES public.scene ON DELETE CASCADE {constraint},
            before bigint REFERENCES public.artifact {constraint});
         CREATE TABLE public.image (id bigint PRIMARY KEY, artifact bigint NOT NULL
            REFERENCES public.artifact {constraint});
         ALTER TABLE public.scene ADD FOREIGN KEY (chosen) REFERENCES public.artifact {constraint}"
    );
    let columns = "[stream.columns]\nid = \"id\"\nbody = \"body\"\n";
    let scene = stream("scene", "id", "")
        + columns
        + &format!("chosen = {{ from = \"chosen\", on = {{ orphan = \"{policy}\" }} }}\n");
    let streams = stream("image", "id", "") + &scene + &stream("artifact", "id", "");
    (ddl, streams)
}

#[tokio::test]
async fn tables_that_refer_to_each_other_are_stored_together_in_any_order() {
    for (constraint, chosen) in
        [("", ""), ("DEFERRABLE INITIALLY DEFERRED", "NOT NULL"), ("DEFERRABLE", "")]
    {
        let (ddl, streams) = circle(constraint, chosen, "reject");
        let source = CIRCLE.replace("CASE WHEN i % 3 > 0 THEN 100 + i END", "100 + i");
        let scene = Move::own(&ddl, &streams, &source).await;
        let report = scene.backfill(0, &["--chunk-records", "4"]);
        assert_eq!(report.six("scene"), [30, 0, 0, 0, 0, 0], "{constraint}");
        assert_eq!(report.six("artifact"), [30, 0, 0, 0, 0, 0], "{constraint}");
        assert_eq!(report.six("image"), [30, 0, 0, 0, 0, 0], "{constraint}");
        assert_eq!(scene.count("scene WHERE chosen = 100 + id").await, 30);
        assert_eq!(scene.count("artifact WHERE before = id + 1").await, 14);
        settled(&scene, 0, &[("scene", 30), ("artifact", 30), ("image", 30)]);
    }
}

#[tokio::test]
async fn in_a_circle_only_rows_that_lead_nowhere_are_refused_and_what_hangs_on_them() {
    let (ddl, streams) = circle("", "", "reject");
    let orphans = "UPDATE scene SET chosen = 999 WHERE id = 5;
        UPDATE artifact SET before = NULL WHERE id IN (104, 105);";
    let scene = Move::own(&ddl, &streams, &format!("{CIRCLE}{orphans}")).await;
    let report = scene.backfill(1, &["--chunk-records", "4"]);
    // Scene 5 leads nowhere; its artifact 105 and that one's image go with it.
    assert_eq!(report.six("scene"), [29, 0, 0, 0, 0, 1]);
    assert_eq!(report.six("artifact"), [29, 0, 0, 0, 0, 1]);
    assert_eq!(report.six("image"), [29, 0, 0, 0, 0, 1]);
    settled(&scene, 1, &[("scene", 29), ("artifact", 29), ("image", 29)]);
}

#[tokio::test]
async fn by_policy_an_orphan_is_stored_as_null_with_its_original_in_the_ledger() {
    let (ddl, streams) = circle("", "", "null");
    let orphans = "UPDATE scene SET chosen = 999 WHERE id = 5;";
    let scene = Move::own(&ddl, &streams, &format!("{CIRCLE}{orphans}")).await;
    let report = scene.backfill(0, &["--chunk-records", "4"]);
    assert_eq!(report.six("scene"), [30, 0, 0, 0, 0, 0]);
    assert_eq!(report.six("artifact"), [30, 0, 0, 0, 0, 0]);
    let ledger = "SELECT column_name || ' ' || rule || ' ' || convert_from(original, 'UTF8') \
                  FROM toolkit.ledger WHERE locator = 'rowid 5'";
    assert_eq!(scene.text(ledger).await, "chosen orphan 999");
    settled(&scene, 0, &[("scene", 30)]);
    // A NULL that nobody recorded is a difference.
    scene.execute("UPDATE scene SET chosen = NULL WHERE id = 7").await;
    assert_eq!(scene.parity(), 1);
    scene.backfill(0, &[]);
    // The parent comes after all: the value is stored, and the entry is history.
    scene.sqlite().execute("INSERT INTO artifact VALUES (999, 5, NULL)", []).unwrap();
    scene.backfill(0, &[]);
    assert_eq!(scene.text("SELECT chosen::text FROM scene WHERE id = 5").await, "999");
    assert_eq!(scene.text(ledger).await, "chosen orphan_found 999");
    scene.is_clean();
}

#[tokio::test]
async fn the_policy_orphan_is_refused_where_it_cannot_work() {
    for (policy, column, says) in [
        ("replace", "chosen", "orphan allows reject and null only"),
        ("null", "body", "for nullable columns of a foreign key"),
        ("null", "id", "needs a nullable column"),
    ] {
        let (ddl, _) = circle("", "", "reject");
        let mut columns = "[stream.columns]\n".to_owned();
        for name in ["id", "body", "chosen"] {
            let on = if name == column {
                format!(", on = {{ orphan = \"{policy}\" }}")
            } else {
                String::new()
            };
            columns.push_str(&format!("{name} = {{ from = \"{name}\"{on} }}\n"));
        }
        let scene = Move::own(&ddl, &(stream("scene", "id", "") + &columns), CIRCLE).await;
        let output = scene.run(&[]);
        assert_eq!(output.status.code(), Some(2));
        let text = crate::support::stderr(&output);
        assert!(text.contains(says), "{text}");
    }
}

#[tokio::test]
async fn rows_that_refer_forward_do_not_hold_back_what_refers_to_them() {
    let (ddl, _) = circle("", "", "reject");
    let names = ["scene", "artifact", "image"];
    let streams: String = names.iter().map(|name| stream(name, "id", "")).collect();
    let source = format!("{CIRCLE} UPDATE artifact SET before = NULL;");
    let scene = Move::own(&ddl, &streams, &source).await;
    let report = scene.backfill(0, &["--chunk-records", "4"]);
    assert_eq!(report.six("artifact"), [30, 0, 0, 0, 0, 0]);
    // Ever held were the 20 scenes that have chosen, and nothing else.
    assert_eq!(scene.text("SELECT last_value::text FROM toolkit.held_row_id_seq").await, "20");
    settled(&scene, 0, &[("scene", 30), ("artifact", 30), ("image", 30)]);
}

/// Rows of a random circle of tables, and which of them can stand: the greatest set in which every
/// reference leads to one of its rows.
struct RandomCircle {
    scenes: Vec<Option<u32>>,
    artifacts: Vec<(u32, Option<u32>)>,
    images: Vec<u32>,
}

impl RandomCircle {
    fn new(seed: u64) -> Self {
        use rand::{Rng as _, SeedableRng as _};
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let count = rng.random_range(1..60_u32);
        // A reference leads one too far once in a while.
        let dirt = rng.random_range(0..4);
        let mut lead = |share: u32| {
            (rng.random_range(0..100) < share).then(|| rng.random_range(0..count + dirt))
        };
        let scenes = (0..count).map(|_| lead(70)).collect();
        let artifacts = (0..count).map(|_| (lead(100).unwrap_or(0), lead(30))).collect();
        let images = (0..count).map(|_| lead(100).unwrap_or(0)).collect();
        Self { scenes, artifacts, images }
    }

    fn sql(&self) -> String {
        let spelt = |id: Option<u32>| id.map_or("NULL".to_owned(), |id| id.to_string());
        let mut sql = "CREATE TABLE scene (id INTEGER PRIMARY KEY, chosen INTEGER, body TEXT);
            CREATE TABLE artifact (id INTEGER PRIMARY KEY, scene INTEGER, before INTEGER);
            CREATE TABLE image (id INTEGER PRIMARY KEY, artifact INTEGER);"
            .to_owned();
        for (id, chosen) in self.scenes.iter().enumerate() {
            sql += &format!("INSERT INTO scene VALUES ({id}, {}, 'x');", spelt(*chosen));
        }
        for (id, (scene, before)) in self.artifacts.iter().enumerate() {
            sql += &format!("INSERT INTO artifact VALUES ({id}, {scene}, {});", spelt(*before));
        }
        for (id, artifact) in self.images.iter().enumerate() {
            sql += &format!("INSERT INTO image VALUES ({id}, {artifact});");
        }
        sql
    }

    /// Which scenes, artifacts and images stand.
    fn standing(&self) -> [Vec<bool>; 3] {
        let mut scenes = vec![true; self.scenes.len()];
        let mut artifacts = vec![true; self.artifacts.len()];
        let stands = |rows: &[bool], id: u32| rows.get(id as usize).copied().unwrap_or(false);
        loop {
            let before = (scenes.clone(), artifacts.clone());
            for (at, chosen) in self.scenes.iter().enumerate() {
                scenes[at] &= chosen.is_none_or(|id| stands(&artifacts, id));
            }
            for (at, (scene, earlier)) in self.artifacts.iter().enumerate() {
                let has_earlier = earlier.is_none_or(|id| stands(&before.1, id));
                artifacts[at] &= stands(&scenes, *scene) && has_earlier;
            }
            if before == (scenes.clone(), artifacts.clone()) {
                let images = self.images.iter().map(|id| stands(&artifacts, *id)).collect();
                return [scenes, artifacts, images];
            }
        }
    }
}

#[tokio::test]
async fn of_any_circle_all_rows_that_can_stand_are_stored_and_every_other_one_is_refused() {
    let constraints = ["", "DEFERRABLE", "DEFERRABLE INITIALLY DEFERRED"].into_iter().cycle();
    for (seed, constraint) in (0..12).zip(constraints) {
        let circles = RandomCircle::new(seed);
        let (ddl, _) = circle(constraint, "", "reject");
        let names = ["scene", "artifact", "image"];
        let streams: String = names.iter().map(|name| stream(name, "id", "")).collect();
        let scene = Move::own(&ddl, &streams, &circles.sql()).await;
        let standing = circles.standing();
        let lost: usize = standing.iter().flatten().filter(|stands| !**stands).count();
        let report = scene.backfill(i32::from(lost > 0), &["--chunk-records", "7"]);
        for (name, rows) in names.iter().zip(&standing) {
            let stored = rows.iter().filter(|stands| **stands).count() as u64;
            let refused = rows.len() as u64 - stored;
            assert_eq!(report.six(name), [stored, 0, 0, 0, 0, refused], "seed {seed}, {name}");
            let ids: Vec<String> =
                (0..rows.len()).filter(|at| rows[*at]).map(|at| at.to_string()).collect();
            let held =
                format!("SELECT coalesce(string_agg(id::text, ' ' ORDER BY id), '') FROM {name}");
            assert_eq!(scene.text(&held).await, ids.join(" "), "seed {seed}, {name}");
        }
        assert_eq!(scene.count("toolkit.held_row").await, 0);
        assert_eq!(scene.count("toolkit.reject WHERE reason <> 'orphan'").await, 0);
        scene.is_clean();
    }
}

#[tokio::test]
async fn a_circle_that_no_order_can_open_is_refused_with_the_reason() {
    let (ddl, streams) = circle("", "NOT NULL", "reject");
    let source = "CREATE TABLE scene (id INTEGER PRIMARY KEY, chosen INTEGER, body TEXT);
        CREATE TABLE artifact (id INTEGER PRIMARY KEY, scene INTEGER, before INTEGER);
        CREATE TABLE image (id INTEGER PRIMARY KEY, artifact INTEGER);
        INSERT INTO scene VALUES (1, 2, 'x'); INSERT INTO artifact VALUES (2, 1, NULL)";
    let scene = Move::own(&ddl, &streams, source).await;
    let report = scene.backfill(1, &[]);
    assert_eq!(report.six("scene"), [0, 0, 0, 0, 0, 1]);
    assert_eq!(report.six("artifact"), [0, 0, 0, 0, 0, 1]);
    let why = "SELECT string_agg(detail, ';') FROM toolkit.reject";
    assert!(scene.text(why).await.contains("not DEFERRABLE"), "{}", scene.text(why).await);
    scene.is_clean();
}

#[tokio::test]
async fn a_row_that_fits_nowhere_does_not_keep_its_circle_out() {
    let (ddl, streams) = circle("", "", "reject");
    let ddl = ddl.replace("body text", "body text CHECK (body <> 's7')");
    let scene = Move::own(&ddl, &streams, CIRCLE).await;
    let report = scene.backfill(1, &["--chunk-records", "4"]);
    let refused = |name: &str| report.records(name, "rejected");
    // Scene 7, its artifact 107, 106 that comes before it, and what hangs on them.
    assert_eq!(refused("scene"), 1);
    assert!(refused("artifact") >= 2, "{:?}", report.six("artifact"));
    assert_eq!(scene.count("toolkit.held_row").await, 0);
    scene.is_clean();
}

#[tokio::test]
async fn killed_among_waiting_rows_it_goes_on_and_ends_as_if_nothing_had_been() {
    let (ddl, streams) = circle("", "", "null");
    let orphans = "UPDATE scene SET chosen = 999 WHERE id % 5 = 0;
        WITH RECURSIVE n (i) AS (SELECT 1000 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
        INSERT INTO artifact SELECT i, 1 + i % 30, CASE WHEN i < 3000 THEN i + 1 END FROM n;";
    let source = format!("{CIRCLE}{orphans}");
    let scene = Move::own(&ddl, &streams, &source).await;
    let arguments = ["--chunk-records", "20"];
    for held in [1, 40, 0] {
        let mut child = scene
            .backfill_command(&arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while child.try_wait().unwrap().is_none() {
            let rows = scene.count("toolkit.held_row").await;
            let done = scene.count("toolkit.stream_state WHERE state = 'done'").await;
            if rows > held && (held > 0 || done == 3) {
                child.kill().unwrap();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let report = scene.backfill(0, &arguments);
    assert_eq!(report.six("scene"), [30, 0, 0, 0, 0, 0]);
    assert_eq!(report.six("artifact"), [2031, 0, 0, 0, 0, 0]);
    assert_eq!(scene.count("toolkit.held_row").await, 0);
    assert_eq!(scene.count("toolkit.ledger WHERE rule = 'orphan'").await, 6);
    settled(&scene, 0, &[("scene", 30), ("artifact", 2031)]);
}

#[tokio::test]
async fn preflight_foresees_which_references_lead_nowhere_and_what_becomes_of_them() {
    let orphans = "UPDATE scene SET chosen = 999 WHERE id IN (5, 7);
        UPDATE artifact SET before = NULL WHERE id < 130; INSERT INTO image VALUES (1, 888);";
    for (policy, rejects, ledgered) in [("reject", [2, 0, 1], 0), ("null", [0, 0, 1], 2)] {
        let (ddl, streams) = circle("", "", policy);
        let scene = Move::own(&ddl, &streams, &format!("{CIRCLE}{orphans}")).await;
        let output = scene.run(&["--preflight"]);
        let census: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        for (name, rejected) in
            [("scene", rejects[0]), ("artifact", rejects[1]), ("image", rejects[2])]
        {
            let streams = census["streams"].as_array().unwrap();
            let stream = streams.iter().find(|stream| stream["stream"] == name).unwrap();
            assert_eq!(stream["predicted"]["records"]["rejected"], rejected, "{policy} {name}");
            if name == "scene" {
                assert_eq!(stream["predicted"]["ledgered"], ledgered, "{policy}");
            }
        }
    }
}

/// The real application's file, where the machine has it: every foreign key of its schema enforced
/// and none deferrable, the tables in the order of their names.
#[tokio::test]
async fn the_real_webtoon_file_is_stored_with_all_its_foreign_keys() {
    use std::fmt::Write as _;
    let file =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/webtoon/webtoon.db");
    if !file.is_file() {
        println!("skipped: {} is not there", file.display());
        return;
    }
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let db = rusqlite::Connection::open_with_flags(&file, flags).unwrap();
    let texts = |query: &str| -> Vec<Vec<String>> {
        let mut statement = db.prepare(query).unwrap();
        let width = statement.column_count();
        let rows = statement.query_map([], |row| (0..width).map(|at| row.get(at)).collect());
        rows.unwrap().collect::<Result<_, _>>().unwrap()
    };
    let (mut ddl, mut foreign, mut streams) = (String::new(), String::new(), String::new());
    let tables = texts("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name");
    for table in tables.iter().map(|row| &row[0]) {
        let keys = texts(&format!(
            "SELECT \"from\", \"table\", \"to\", on_delete FROM pragma_foreign_key_list('{table}')"
        ));
        let columns = texts(&format!(
            "SELECT name, CAST(\"notnull\" AS TEXT), CAST(pk AS TEXT) FROM pragma_table_info('{table}')"
        ));
        let mut fields: Vec<String> = Vec::new();
        let mut primary: Vec<&str> = Vec::new();
        let mut mapping = String::new();
        for column in &columns {
            fields.push(format!(
                "{} text{}",
                column[0],
                if column[1] == "1" { " NOT NULL" } else { "" }
            ));
            if column[2] != "0" {
                primary.push(&column[0]);
            }
            let is_loose = keys.iter().any(|key| key[0] == column[0] && key[3] == "SET NULL");
            let on = if is_loose { ", on = { orphan = \"null\" }" } else { "" };
            writeln!(mapping, "{0} = {{ from = \"{0}\", cast = \"text\"{on} }}", column[0])
                .unwrap();
        }
        write!(
            ddl,
            "CREATE TABLE {table} ({}, PRIMARY KEY ({}));",
            fields.join(", "),
            primary.join(", ")
        )
        .unwrap();
        for key in &keys {
            write!(
                foreign,
                "ALTER TABLE {table} ADD FOREIGN KEY ({}) REFERENCES {} ({});",
                key[0], key[1], key[2]
            )
            .unwrap();
        }
        let primary: Vec<String> = primary.iter().map(|name| format!("\"{name}\"")).collect();
        write!(
            streams,
            "[[stream]]\nname = \"{table}\"\ntarget = \"public.{table}\"\nkey = [{}]\n\
             source = {{ sqlite = \"webtoon.db\", table = \"{table}\" }}\n[stream.columns]\n{mapping}",
            primary.join(", ")
        )
        .unwrap();
    }
    let scene = Move::own(&(ddl + &foreign), &streams, "").await;
    std::fs::copy(&file, scene.source.join("webtoon.db")).unwrap();
    let output = scene.run(&["--chunk-records", "500"]);
    let report = crate::support::backfill::Report::of(&output);
    scene.is_clean();
    let (mut read, mut rejected) = (0, 0);
    for name in report.streams() {
        read += report.read(&name);
        rejected += report.records(&name, "rejected");
        assert_eq!(
            report.records(&name, "inserted") + report.records(&name, "rejected"),
            report.read(&name),
            "{name}"
        );
    }
    let ledgered = scene.count("toolkit.ledger WHERE rule = 'orphan'").await;
    println!("{read} records, {rejected} refused, {ledgered} references stored as NULL");
    assert!(scene.count("scenes WHERE selected_render_artifact_id IS NOT NULL").await > 0);
    assert_eq!(scene.count("toolkit.held_row").await, 0);
}
