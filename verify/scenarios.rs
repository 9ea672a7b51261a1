//! The same way through every pack, from one table of cases: preflight, backfill, again, parity, a
//! tampering found and made good, rejects, ledger, and changes that follow while the application runs.
//!
//! The pack `anime` is no table of casts: its documents are compared, rescanned and repaired by none
//! of these commands, and `anime` has tests of its own.

use std::path::Path;

use serde_json::Value;
use toolkit::demo::generate::{MediaShape, Shape, generate, media, webtoon};

use crate::support::backfill::Move;
use crate::support::{stderr, stdout};

struct Case {
    pack: &'static str,
    /// Whether it reads SQLite files, whose changes are captured.
    has_sqlite: bool,
    /// Fills the source folder, anomalies included.
    make: fn(&Path),
    /// Reasons of rejects that there are, among others.
    rejects: &'static [&'static str],
    /// Rules of ledger entries that there are, among others.
    ledger: &'static [&'static str],
    /// Changes rows of the target behind everybody's back.
    tamper: &'static str,
    /// How many rows that makes differ.
    tampered: u64,
    /// What the application does while it is followed.
    change: fn(&Path),
    /// What the target then says: a query and its answer.
    followed: (&'static str, &'static str),
}

const CASES: &[Case] = &[
    Case {
        pack: "unified",
        has_sqlite: true,
        make: |folder| drop(generate(folder, 3, &Shape::tiny()).unwrap()),
        rejects: &["invalid_json"],
        ledger: &["redact_url_password"],
        tamper: "UPDATE retrieval.query_cache SET answer = answer || '!' WHERE cache_key = \
                 (SELECT min(cache_key) FROM retrieval.query_cache); \
                 DELETE FROM ingestion.run_documents WHERE ctid = \
                 (SELECT min(ctid) FROM ingestion.run_documents)",
        tampered: 2,
        change: |folder| {
            sqlite(folder, "ragonometrics_query_cache.sqlite", |file| {
                file.execute_batch("UPDATE query_cache SET answer = 'followed' WHERE rowid = 1")
                    .unwrap();
            });
        },
        followed: (
            "SELECT count(*)::text FROM retrieval.query_cache WHERE answer = 'followed'",
            "1",
        ),
    },
    Case {
        pack: "webtoon",
        has_sqlite: true,
        make: |folder| {
            webtoon(folder, 3, 60).unwrap();
            sqlite(folder, "webtoon.db", |file| {
                file.execute_batch(
                    "PRAGMA foreign_keys = OFF;
                     UPDATE images SET created_at = 'yesterday' WHERE rowid = 1;
                     UPDATE exports SET scene_id = 'ffffffffffffffffffffffffffffffff' WHERE rowid = 1;
                     UPDATE stories SET generation_error = 'postgres://u:secret@h/db' WHERE rowid = 1",
                )
                .unwrap();
            });
        },
        rejects: &["invalid_timestamp", "orphan"],
        ledger: &["redact_url_password"],
        tamper: "UPDATE webtoon.projects SET name = name || '!'; \
                 DELETE FROM webtoon.audit_logs WHERE ctid = (SELECT min(ctid) FROM webtoon.audit_logs)",
        tampered: 2,
        change: |folder| {
            sqlite(folder, "webtoon.db", |file| {
                // A row that refers to nothing keeps the cutover waiting until it is corrected.
                file.execute_batch(
                    "PRAGMA foreign_keys = OFF;
                     UPDATE projects SET name = 'followed' WHERE rowid = 1;
                     UPDATE exports SET scene_id = NULL WHERE rowid = 1",
                )
                .unwrap();
            });
        },
        followed: ("SELECT count(*)::text FROM webtoon.projects WHERE name = 'followed'", "1"),
    },
    Case {
        pack: "media",
        has_sqlite: false,
        make: |folder| {
            media(folder, 3, MediaShape { items: 80, users: 6, tracked: 60 }).unwrap();
            let more = r#"{"Light Novel": [
                {"external_id": "lightnovel:other:2020", "media_type": "lightnovel", "title": "O"},
                {"external_id": "nothing", "title": "N"}]}"#;
            std::fs::write(folder.join("more.json"), more).unwrap();
            let more = "user_email,media_external_id,status\nx@y,anime:gone:1,planned\n\
                        x@y,anime:title-0:1960,paused\n";
            std::fs::write(folder.join("user_media_more.csv"), more).unwrap();
        },
        rejects: &["invalid_natural_key", "orphan", "check"],
        ledger: &["computed"],
        tamper: "UPDATE interaction.user_media SET progress = -1 WHERE (user_id, media_id) = \
                 (SELECT user_id, media_id FROM interaction.user_media ORDER BY 1, 2 LIMIT 1); \
                 DELETE FROM media.external_links WHERE external_key = '0'",
        tampered: 2,
        change: |folder| {
            let path = folder.join("external_links.csv");
            let links = std::fs::read_to_string(&path).unwrap();
            std::fs::write(&path, format!("{links}book:title-1:1961,followed,1\n")).unwrap();
        },
        followed: (
            "SELECT count(*)::text FROM media.external_links WHERE source_name = 'followed'",
            "1",
        ),
    },
];

fn sqlite(folder: &Path, name: &str, act: impl FnOnce(&rusqlite::Connection)) {
    let file = walkdir::WalkDir::new(folder)
        .into_iter()
        .map(|entry| entry.unwrap().into_path())
        .find(|path| path.ends_with(name))
        .expect(name);
    act(&rusqlite::Connection::open(file).unwrap());
}

/// A command of the pack over its source; its exit code and what it said.
fn run(scene: &Move, what: &[&str], more: &[&str]) -> (i32, String) {
    let mut command = scene.command(&["--format", "json"]);
    command.args(what).args(["--pack", &scene.pack]).arg("--source").arg(&scene.source);
    let output = command.args(more).output().unwrap();
    (output.status.code().unwrap(), format!("{}{}", stdout(&output), stderr(&output)))
}

fn totals(report: &Value) -> std::collections::BTreeMap<String, u64> {
    let mut totals = std::collections::BTreeMap::new();
    for stream in report["streams"].as_array().unwrap() {
        let counts = &stream["counts"];
        *totals.entry("read".to_owned()).or_default() += counts["read"].as_u64().unwrap();
        for (name, count) in counts["records"].as_object().unwrap() {
            *totals.entry(name.clone()).or_default() += count.as_u64().unwrap_or(0);
        }
    }
    totals
}

fn sum(totals: &std::collections::BTreeMap<String, u64>) -> u64 {
    let classes = ["inserted", "updated", "unchanged", "superseded", "skipped", "rejected"];
    classes.iter().map(|class| totals.get(*class).copied().unwrap_or(0)).sum()
}

async fn history(case: &Case) {
    let scene = Move::builtin(case.pack, case.make).await;
    let (code, census) = run(&scene, &["backfill", "--preflight"], &[]);
    assert!(code == 0 || code == 1, "{census}");
    let nothing = scene.text("SELECT count(*)::text FROM toolkit.reject").await;
    assert_eq!(nothing, "0", "{}: a preflight changes nothing", case.pack);

    let first = totals(&scene.backfill(1, &[]).0);
    assert_eq!(sum(&first), first["read"], "{}: {first:?}", case.pack);
    for reason in case.rejects {
        let query = format!("SELECT count(*) > 0 FROM toolkit.reject WHERE reason = '{reason}'");
        assert_eq!(scene.text(&format!("SELECT ({query})::text")).await, "true", "{reason}");
        assert!(census.contains(reason) || *reason == "check", "{}: {reason}: {census}", case.pack);
    }
    for rule in case.ledger {
        let query =
            format!("SELECT (count(*) > 0)::text FROM toolkit.ledger WHERE rule = '{rule}'");
        assert_eq!(scene.text(&query).await, "true", "{}: {rule}", case.pack);
    }
    scene.is_clean();

    let before = scene.dump().await;
    let second = totals(&scene.backfill(1, &[]).0);
    assert_eq!((second["inserted"], second["updated"]), (0, 0), "{}: {second:?}", case.pack);
    assert_eq!(second["rejected"], first["rejected"], "{}", case.pack);
    crate::support::backfill::assert_same(&before, &scene.dump().await);

    scene.execute(case.tamper).await;
    let (code, said) = run(&scene, &["verify-parity"], &["--level", "full"]);
    assert_eq!(code, 1, "{}: {said}", case.pack);
    let report: Value =
        serde_json::Deserializer::from_str(&said).into_iter().next().unwrap().unwrap();
    assert_eq!(report["differing_rows"], case.tampered, "{}: {said}", case.pack);
    let plan = scene.database.folder().join("repair.json");
    let plan = plan.to_str().unwrap();
    scene.succeeds(&["repair", "plan", "--run", "latest", "--out", plan]);
    let (code, said) = run(&scene, &["repair", "apply", plan], &[]);
    assert_eq!(code, 0, "{}: {said}", case.pack);
    scene.is_clean();
    crate::support::backfill::assert_same(&before, &scene.dump().await);

    scene.succeeds(&["rejects", "list", "--pack", case.pack]);
    scene.succeeds(&["ledger", "list", "--pack", case.pack]);
}

async fn followed(case: &Case) {
    let scene = Move::builtin(case.pack, case.make).await;
    let (code, said) = run(&scene, &["phase", "advance"], &[]);
    assert_eq!(code, 0, "{}: {said}", case.pack);
    // Files need no capture: they are rescanned by their hashes.
    if case.has_sqlite {
        let (code, said) = run(&scene, &["dual-write", "enable"], &[]);
        assert_eq!(code, 0, "{}: {said}", case.pack);
    }
    run(&scene, &["dual-write", "run"], &["--until-caught-up"]);
    let (code, said) = run(&scene, &["phase", "advance"], &[]);
    assert_eq!(code, 0, "{}: {said}", case.pack);
    scene.backfill(1, &[]);
    (case.change)(&scene.source);
    run(&scene, &["dual-write", "run"], &["--until-caught-up"]);
    let (query, answer) = case.followed;
    assert_eq!(scene.text(query).await, answer, "{}", case.pack);
    scene.execute("UPDATE toolkit.reject SET state = 'acknowledged' WHERE state = 'open'").await;
    for _ in 0..3 {
        scene.is_clean();
    }
    let more = ["--acknowledge-none", "--freeze-max", "120000"];
    let (code, said) = run(&scene, &["phase", "advance"], &more);
    assert_eq!(code, 0, "{}: {said}", case.pack);
    let place = "SELECT phase || ' ' || reads FROM toolkit.phase";
    assert_eq!(scene.text(place).await, "3 postgres", "{}", case.pack);
}

macro_rules! cases {
    ($($pack:ident)+) => { $(
        mod $pack {
            fn case() -> &'static super::Case {
                super::CASES.iter().find(|case| case.pack == stringify!($pack)).unwrap()
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn goes_in_stays_equal_and_is_made_good_where_somebody_tampered() {
                Box::pin(super::history(case())).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn is_followed_while_the_application_writes() {
                Box::pin(super::followed(case())).await;
            }
        }
    )+ };
}

cases! { media unified webtoon }
