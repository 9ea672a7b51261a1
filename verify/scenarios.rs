//! The same way through every pack, from one table of cases: preflight, backfill, again, parity, a
//! tampering found and made good, rejects, ledger, and changes that follow while the application runs.
//!
//! Where a step is none of a pack's, the table says why, and the command has to say so too.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use toolkit::demo::generate::anime::enriched_artifact;
use toolkit::demo::generate::{MediaShape, Shape, generate, media, webtoon};

use crate::support::backfill::{Dump, Move, assert_same};
use crate::support::{stderr, stdout};

/// A step of the way.
enum Step<T> {
    /// It is one of the pack's.
    Taken(T),
    /// It is none, and the command says so.
    Refused { why: &'static str, says: &'static str },
}

/// How tampered rows are made good.
#[derive(PartialEq)]
enum Mend {
    /// `repair plan` and `repair apply`.
    Repair,
    /// `backfill --again` and `review accept`, because a policy decides which side is right.
    Again,
}

struct Followed {
    /// Whether it reads SQLite files, whose changes are captured.
    has_sqlite: bool,
    /// What the application does while it is followed.
    change: fn(&Path),
    /// What the target then says: a query and its answer.
    answer: (&'static str, &'static str),
}

struct Case {
    pack: &'static str,
    preflight: Step<()>,
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
    mend: Mend,
    /// Tables about runs, to which each run adds.
    of_runs: &'static [&'static str],
    followed: Step<Followed>,
}

const CASES: &[Case] = &[
    Case {
        pack: "anime",
        preflight: Step::Refused {
            why: "an entry is matched and merged with what is stored, which no cast foretells; \
                  `--dry-run` says what would be read",
            says: "--preflight does not apply to the pack anime",
        },
        make: |folder| {
            let path = folder.join("anime_database.json");
            enriched_artifact(&path, 3, 40).unwrap();
            let mut artifact: Value =
                serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            artifact["data"][3]["anime"]["title"] = Value::Null;
            artifact["data"][5]["anime"]["trailer"] = "https://u:secret@host/".into();
            std::fs::write(path, artifact.to_string()).unwrap();
        },
        rejects: &["null_not_allowed"],
        ledger: &["redact_url_password"],
        tamper: "UPDATE anime SET title = title || '!' WHERE id = (SELECT min(id::text)::uuid FROM anime); \
                 DELETE FROM anime_company WHERE (anime_id, company_id, role) = (SELECT anime_id, \
                 company_id, role FROM anime_company ORDER BY 1, 2, 3 LIMIT 1)",
        tampered: 2,
        mend: Mend::Again,
        of_runs: &["ingestion_runs", "anime_ingestion_state"],
        followed: Step::Refused {
            why: "an artifact is written whole by its ingestion and is its own snapshot; a newer \
                  one is ingested over the older under the update policy",
            says: "holds documents",
        },
    },
    Case {
        pack: "unified",
        preflight: Step::Taken(()),
        make: |folder| drop(generate(folder, 3, &Shape::tiny()).unwrap()),
        rejects: &["invalid_json"],
        ledger: &["redact_url_password"],
        tamper: "UPDATE retrieval.query_cache SET answer = answer || '!' WHERE cache_key = \
                 (SELECT min(cache_key) FROM retrieval.query_cache); \
                 DELETE FROM ingestion.run_documents WHERE ctid = \
                 (SELECT min(ctid) FROM ingestion.run_documents)",
        tampered: 2,
        mend: Mend::Repair,
        of_runs: &[],
        followed: Step::Taken(Followed {
            has_sqlite: true,
            change: |folder| {
                sqlite(folder, "ragonometrics_query_cache.sqlite", |file| {
                    file.execute_batch(
                        "UPDATE query_cache SET answer = 'followed' WHERE rowid = 1",
                    )
                    .unwrap();
                });
            },
            answer: (
                "SELECT count(*)::text FROM retrieval.query_cache WHERE answer = 'followed'",
                "1",
            ),
        }),
    },
    Case {
        pack: "webtoon",
        preflight: Step::Taken(()),
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
        mend: Mend::Repair,
        of_runs: &[],
        followed: Step::Taken(Followed {
            has_sqlite: true,
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
            answer: ("SELECT count(*)::text FROM webtoon.projects WHERE name = 'followed'", "1"),
        }),
    },
    Case {
        pack: "media",
        preflight: Step::Taken(()),
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
        mend: Mend::Repair,
        of_runs: &[],
        followed: Step::Taken(Followed {
            has_sqlite: false,
            change: |folder| {
                let path = folder.join("external_links.csv");
                let links = std::fs::read_to_string(&path).unwrap();
                std::fs::write(&path, format!("{links}book:title-1:1961,followed,1\n")).unwrap();
            },
            answer: (
                "SELECT count(*)::text FROM media.external_links WHERE source_name = 'followed'",
                "1",
            ),
        }),
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

/// Whether a step is taken; one that is not is refused with its reason.
fn taken<'s, T>(scene: &Move, step: &'s Step<T>, command: &[&str]) -> Option<&'s T> {
    let (why, says) = match step {
        Step::Taken(step) => return Some(step),
        Step::Refused { why, says } => (why, says),
    };
    let (code, said) = run(scene, command, &[]);
    assert!(code == 2 && said.contains(says), "{}: {why}: {code}: {said}", scene.pack);
    None
}

/// What was counted of all streams, or of all artifacts.
fn totals(report: &Value) -> BTreeMap<String, u64> {
    let all = match report["streams"].as_array() {
        Some(streams) => streams.iter().map(|stream| &stream["counts"]).collect(),
        None => vec![&report["total"]],
    };
    let mut totals = BTreeMap::new();
    for counts in all {
        *totals.entry("read".to_owned()).or_default() += counts["read"].as_u64().unwrap();
        for (name, count) in counts["records"].as_object().unwrap() {
            *totals.entry(name.clone()).or_default() += count.as_u64().unwrap_or(0);
        }
    }
    totals
}

fn sum(totals: &BTreeMap<String, u64>) -> u64 {
    let classes = ["inserted", "updated", "unchanged", "superseded", "skipped", "rejected"];
    classes.iter().map(|class| totals.get(*class).copied().unwrap_or(0)).sum()
}

async fn content(scene: &Move, case: &Case) -> Dump {
    let mut dump = scene.dump().await;
    dump.retain(|table, _| !case.of_runs.iter().any(|name| table.ends_with(&format!(".{name}"))));
    dump
}

async fn history(case: &Case) {
    let scene = Move::builtin(case.pack, case.make).await;
    let preflight = ["backfill", "--preflight"];
    let census = taken(&scene, &case.preflight, &preflight).map(|()| run(&scene, &preflight, &[]));
    assert!(census.as_ref().is_none_or(|(code, _)| [0, 1].contains(code)), "{census:?}");
    let nothing = scene.text("SELECT count(*)::text FROM toolkit.reject").await;
    assert_eq!(nothing, "0", "{}: a preflight changes nothing", case.pack);

    let first = totals(&scene.backfill(1, &[]).0);
    assert_eq!(sum(&first), first["read"], "{}: {first:?}", case.pack);
    for reason in case.rejects {
        let query = format!("SELECT count(*) > 0 FROM toolkit.reject WHERE reason = '{reason}'");
        assert_eq!(scene.text(&format!("SELECT ({query})::text")).await, "true", "{reason}");
        let is_foretold = census.as_ref().is_none_or(|(_, said)| said.contains(reason));
        assert!(is_foretold || *reason == "check", "{}: {reason}: {census:?}", case.pack);
    }
    for rule in case.ledger {
        let query =
            format!("SELECT (count(*) > 0)::text FROM toolkit.ledger WHERE rule = '{rule}'");
        assert_eq!(scene.text(&query).await, "true", "{}: {rule}", case.pack);
    }
    scene.is_clean();

    let before = content(&scene, case).await;
    let second = totals(&scene.backfill(1, &[]).0);
    assert_eq!((second["inserted"], second["updated"]), (0, 0), "{}: {second:?}", case.pack);
    assert_eq!(second["rejected"], first["rejected"], "{}", case.pack);
    assert_same(&before, &content(&scene, case).await);

    scene.execute(case.tamper).await;
    let (code, said) = run(&scene, &["verify-parity"], &["--level", "full"]);
    assert_eq!(code, 1, "{}: {said}", case.pack);
    let report: Value =
        serde_json::Deserializer::from_str(&said).into_iter().next().unwrap().unwrap();
    assert_eq!(report["differing_rows"], case.tampered, "{}: {said}", case.pack);
    if case.mend == Mend::Again {
        scene.backfill(1, &["--again"]);
        scene.succeeds(&["review", "accept", "--all"]);
        scene.is_clean();
    } else {
        let plan = scene.database.folder().join("repair.json");
        let plan = plan.to_str().unwrap();
        scene.succeeds(&["repair", "plan", "--run", "latest", "--out", plan]);
        let (code, said) = run(&scene, &["repair", "apply", plan], &[]);
        assert_eq!(code, 0, "{}: {said}", case.pack);
        scene.is_clean();
        assert_same(&before, &content(&scene, case).await);
    }

    scene.succeeds(&["rejects", "list", "--pack", case.pack]);
    scene.succeeds(&["ledger", "list", "--pack", case.pack]);
}

async fn followed(case: &Case) {
    let scene = Move::builtin(case.pack, case.make).await;
    let Some(followed) = taken(&scene, &case.followed, &["dual-write", "run"]) else { return };
    let (code, said) = run(&scene, &["phase", "advance"], &[]);
    assert_eq!(code, 0, "{}: {said}", case.pack);
    // Files need no capture: they are rescanned by their hashes.
    if followed.has_sqlite {
        let (code, said) = run(&scene, &["dual-write", "enable"], &[]);
        assert_eq!(code, 0, "{}: {said}", case.pack);
    }
    run(&scene, &["dual-write", "run"], &["--until-caught-up"]);
    let (code, said) = run(&scene, &["phase", "advance"], &[]);
    assert_eq!(code, 0, "{}: {said}", case.pack);
    scene.backfill(1, &[]);
    (followed.change)(&scene.source);
    run(&scene, &["dual-write", "run"], &["--until-caught-up"]);
    let (query, answer) = followed.answer;
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
            async fn is_followed_while_the_application_writes_or_says_why_not() {
                Box::pin(super::followed(case())).await;
            }
        }
    )+ };
}

cases! { anime media unified webtoon }
