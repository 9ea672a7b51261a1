//! Artifacts that are not what they should be, and runs that are disturbed.

use serde_json::{Value, json};
use toolkit::anime::ingest::{self, Options};
use toolkit::demo::generate::anime::enriched_artifact;
use toolkit::interrupt::Stop;
use toolkit::pack::Pack;

use super::world::{World, entry};
use crate::support::{TestDatabase, stderr, stdout, toolkit};

/// Bytes of an artifact, how many entries it stores, how many it refuses.
fn texts() -> Vec<(&'static str, Vec<u8>, u64, u64)> {
    let good = entry(1, json!({})).to_string();
    let other = entry(2, json!({})).to_string();
    let data = |entries: &str| format!("{{\"data\": [{entries}]}}").into_bytes();
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    vec![
        ("no entries", data(""), 0, 0),
        ("an empty list", b"[]".to_vec(), 0, 0),
        ("a bare list", format!("[{good},{other}]").into_bytes(), 2, 0),
        ("a byte order mark", [b"\xef\xbb\xbf".to_vec(), data(&good)].concat(), 1, 0),
        ("cut off in an entry", data(&format!("{good},{other}"))[..good.len() + 40].to_vec(), 1, 1),
        ("cut off after an entry", format!("{{\"data\": [{good},").into_bytes(), 1, 1),
        ("cut off behind the last entry", format!("{{\"data\": [{good}]").into_bytes(), 1, 1),
        (
            "cut off in what follows the entries",
            format!("{{\"data\": [{good}], \"lastUp").into_bytes(),
            1,
            1,
        ),
        ("a bracket too many", format!("{{\"data\": [{good}], {other}]}}").into_bytes(), 1, 1),
        ("rubbish behind", [data(&good), b" rubbish".to_vec()].concat(), 1, 1),
        ("a raw NUL", data(&good.replace("Anime 1", "An\u{0}ime")), 0, 1),
        ("an escaped NUL", data(&good.replace("Anime 1", "An\\u0000ime")), 0, 1),
        ("a lone surrogate", data(&good.replace("Anime 1", "\\ud83d")), 0, 1),
        ("a lone surrogate in a key", data(&good.replace("\"title\"", "\"\\ud83d\"")), 0, 1),
        (
            "not UTF-8",
            data(&good).iter().map(|b| if *b == b'A' { 0xff } else { *b }).collect(),
            0,
            1,
        ),
        (
            "a key twice",
            data(&good.replace("\"type\":\"TV\"", "\"type\":\"TV\",\"type\":\"OVA\"")),
            1,
            0,
        ),
        ("a number that is none", data(&good.replace(":12", ":NaN")), 0, 1),
        ("a giant number", data(&good.replace(":12", ":1e999999")), 0, 1),
        ("a number too large for its column", data(&good.replace(":12", ":99999999999")), 1, 0),
        ("nested too deep", data(&good.replace(":12", &format!(":{deep}"))), 0, 1),
        ("an id that is none", data(&good.replace("00000000-0000", "xxxxxxxx-0000")), 0, 1),
        ("the same entry twice", data(&format!("{good},{good}")), 1, 0),
        ("one id, two titles", data(&format!("{good},{}", good.replace("Anime 1", "Other"))), 1, 0),
        ("null among entries", data(&format!("null,{good},17,\"x\",[]")), 1, 4),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn dirt_of_every_kind_is_a_reject_of_its_own_and_takes_no_neighbour_along() {
    let mut wrong = Vec::new();
    let world = World::new().await;
    for (what, bytes, stored, refused) in texts() {
        world.sql("DELETE FROM anime; DELETE FROM toolkit.reject; DELETE FROM review_queue").await;
        let path = world.path("anime_database.json");
        std::fs::write(&path, bytes).unwrap();
        let report = match world.try_ingest(&path, Options::default()).await {
            Ok(report) => report,
            Err(error) => {
                wrong.push(format!("{what}: {error}"));
                continue;
            }
        };
        let anime = world.text("SELECT count(*)::text FROM anime").await;
        let rejects = report.total.counts.rejects();
        if (anime.as_str(), rejects) != (stored.to_string().as_str(), refused) {
            let reasons = world.texts("SELECT reason || ': ' || detail FROM toolkit.reject").await;
            wrong.push(format!("{what}: {anime} stored, {rejects} refused, {reasons:?}"));
        }
        if !report.total.counts.is_balanced() {
            wrong.push(format!("{what}: {report:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every member of an entry in turn is a value of another type.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_type_anywhere_is_kept_or_refused_and_stops_nothing() {
    fn places(value: &Value, path: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                for (key, value) in members {
                    found.push(format!("{path}/{key}"));
                    places(value, &format!("{path}/{key}"), found);
                }
            }
            Value::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    found.push(format!("{path}/{at}"));
                    places(item, &format!("{path}/{at}"), found);
                }
            }
            _ => {}
        }
    }
    let world = World::new().await;
    let mut whole = toolkit::demo::generate::anime::enriched_entry(3, 3, 9);
    // Ids of episodes are of one anime.
    for episode in whole["episodes"].as_array_mut().unwrap() {
        episode.as_object_mut().unwrap().remove("id");
    }
    let mut found = Vec::new();
    places(&whole, "", &mut found);
    let others = [
        json!(null),
        json!(true),
        json!(-7),
        json!("text"),
        json!(["x", 1]),
        json!({ "k": "v" }),
        json!(""),
    ];
    let mut entries = Vec::new();
    for path in &found {
        for other in &others {
            let mut spoilt = whole.clone();
            *spoilt.pointer_mut(path).unwrap() = other.clone();
            // Each its own anime.
            let number = entries.len();
            if let Some(id) = spoilt.pointer_mut("/anime/id").filter(|id| id.is_string()) {
                *id = json!(
                    uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, &number.to_be_bytes())
                        .to_string()
                );
            }
            let text = spoilt.to_string().replace("://", &format!("://n{number}."));
            entries.push(serde_json::from_str(&text).unwrap());
        }
    }
    let report = world.say("", &entries).await;
    assert!(report.total.counts.is_balanced());
    let reasons = world.texts("SELECT DISTINCT reason FROM toolkit.reject ORDER BY 1").await;
    // Another episode of another anime with the same id is Postgres's to refuse.
    for reason in &reasons {
        assert!(
            ["invalid_uuid", "no_identity", "null_not_allowed", "unique_violation", "wrong_type"]
                .contains(&reason.as_str()),
            "{reasons:?}"
        );
    }
    let stored = report.total.counts.records.inserted;
    assert!(stored * 10 > entries.len() as u64 * 8, "{stored} of {}", entries.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn giant_texts_are_stored_where_they_fit_and_kept_whole_where_they_do_not() {
    let world = World::new().await;
    // Incompressible, so that an index row could not hold it.
    let giant: String = (0_u64..400_000)
        .map(|n| char::from(33 + u8::try_from(n.wrapping_mul(2_654_435_761) >> 7 & 63).unwrap()))
        .collect();
    let giant = giant.replace('\\', "/").replace('"', "'");
    let url = format!("https://example.org/{giant}");
    let entries = [
        entry(1, json!({ "synopsis": giant, "synonyms": [giant] })),
        entry(2, json!({ "characters": [{ "name": giant, "nicknames": [giant] }] })),
        entry(3, json!({ "staff_data": { "studios": [{ "name": giant }] } })),
        entry(
            4,
            json!({ "related_anime": [{ "title": giant, "relation_type": giant, "url": url }] }),
        ),
        entry(5, json!({ "sources": [url, "https://myanimelist.net/anime/5"] })),
        entry(6, json!({})),
    ];
    let report = world.say("", &entries).await;
    assert_eq!(
        report.total.counts.rejects(),
        0,
        "{:?}",
        world.texts("SELECT detail FROM toolkit.reject").await
    );
    let kept =
        "SELECT count(*)::text FROM anime WHERE synopsis IS NOT NULL AND length(synopsis) = 400000";
    assert_eq!(world.text(kept).await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_artifact_that_is_not_there_or_no_artifact_is_exit_two() {
    let world = World::new().await;
    std::fs::write(world.path("anime_database.empty.json"), "").unwrap();
    std::fs::write(world.path("word.json"), "hello").unwrap();
    std::fs::create_dir(world.path("folder")).unwrap();
    for (name, code) in
        [("nowhere.json", 2), ("folder", 2), ("anime_database.empty.json", 1), ("word.json", 1)]
    {
        let path = world.path(name);
        let out = world.run(&["backfill", "--pack", "anime", "--source", path.to_str().unwrap()]);
        assert_eq!(out.status.code(), Some(code), "{name}: {} {}", stdout(&out), stderr(&out));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_ingestions_at_once_one_is_refused_and_the_other_is_whole() {
    let world = World::new().await;
    let path = world.path("anime_database.json");
    enriched_artifact(&path, 2, 400).unwrap();
    let source = path.to_str().unwrap();
    let start = || {
        crate::support::toolkit()
            .args(["--database-url", world.database.url(), "--state-dir"])
            .arg(world.path("state"))
            .args(["backfill", "--pack", "anime", "--source", source, "--chunk-records", "10"])
            .stderr(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    };
    let (one, other) = (start(), start());
    let outputs = [one.wait_with_output().unwrap(), other.wait_with_output().unwrap()];
    let codes: Vec<_> = outputs.iter().map(|out| out.status.code().unwrap()).collect();
    assert!(codes.contains(&0), "{codes:?} {}", stderr(&outputs[0]));
    for out in outputs.iter().filter(|out| out.status.code() != Some(0)) {
        assert_eq!(out.status.code(), Some(2));
        assert!(stderr(out).contains("is running"), "{}", stderr(out));
    }
    assert_eq!(world.text("SELECT count(*)::text FROM anime").await, "400");
    let parity = world.run(&["verify-parity", "--pack", "anime", "--source", source]);
    assert_eq!(parity.status.code(), Some(0), "{}", stdout(&parity));
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_keeps_whole_groups_and_the_same_command_goes_on() {
    let world = World::new().await;
    let path = world.path("anime_database.json");
    enriched_artifact(&path, 4, 60).unwrap();
    let (settings, pack) = (world.database.settings(), Pack::find("anime").unwrap());
    let stop = Stop::new();
    let options = Options { entries_max: 10, ..Options::default() };
    let roots = [path.clone()];
    let ready =
        ingest::prepare(&settings, &world.postgres, &pack, &roots, options.clone()).await.unwrap();
    let seen = std::sync::atomic::AtomicUsize::new(0);
    let on_event = |event: toolkit::backfill::Event| {
        if matches!(event, toolkit::backfill::Event::Chunk { .. })
            && seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 2
        {
            stop.request();
        }
    };
    let stopped = ingest::run(&world.postgres, &ready, &stop, &on_event).await.unwrap_err();
    assert_eq!(stopped.kind(), toolkit::ErrorKind::Interrupted);
    assert_eq!(world.text("SELECT count(*)::text FROM anime").await, "30");
    let report = world.try_ingest(&path, options).await.unwrap();
    assert!(report.resumed);
    assert_eq!(report.total.counts.records.inserted, 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_artifact_that_changes_between_or_during_runs_is_noticed() {
    let world = World::new().await;
    let path = world.path("anime_database.json");
    enriched_artifact(&path, 4, 60).unwrap();
    let (settings, pack) = (world.database.settings(), Pack::find("anime").unwrap());
    let options = Options { entries_max: 10, ..Options::default() };
    let roots = [path.clone()];
    let ready =
        ingest::prepare(&settings, &world.postgres, &pack, &roots, options.clone()).await.unwrap();
    // Replaced after it was found, before it was read.
    enriched_artifact(&path, 5, 60).unwrap();
    let error = ingest::run(&world.postgres, &ready, &Stop::new(), &|_| ()).await.unwrap_err();
    assert_eq!(error.kind(), toolkit::ErrorKind::SourceChanged, "{error}");
    assert_eq!(world.text("SELECT count(*)::text FROM anime").await, "0");
    let restarted = Options { restart: true, ..options };
    let report = world.try_ingest(&path, restarted).await.unwrap();
    assert_eq!(report.total.counts.rejects(), 0, "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_artifact_that_is_overwritten_while_it_is_read_does_not_pass_for_a_whole_one() {
    let world = World::new().await;
    let path = world.path("anime_database.json");
    enriched_artifact(&path, 4, 900).unwrap();
    let (settings, pack) = (world.database.settings(), Pack::find("anime").unwrap());
    let options = Options { entries_max: 10, ..Options::default() };
    let roots = [path.clone()];
    let ready =
        ingest::prepare(&settings, &world.postgres, &pack, &roots, options.clone()).await.unwrap();
    let is_first = std::sync::atomic::AtomicBool::new(true);
    let on_event = |event: toolkit::backfill::Event| {
        if matches!(event, toolkit::backfill::Event::Chunk { .. })
            && is_first.swap(false, std::sync::atomic::Ordering::Relaxed)
        {
            enriched_artifact(&path, 5, 900).unwrap();
        }
    };
    let done = ingest::run(&world.postgres, &ready, &Stop::new(), &on_event).await;
    let error = done.unwrap_err();
    assert_eq!(error.kind(), toolkit::ErrorKind::SourceChanged, "{error}");
    let completed = "SELECT count(*)::text FROM ingestion_runs WHERE status = 'completed'";
    assert_eq!(world.text(completed).await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_entries_are_exported_corrected_and_stored_and_stay_so() {
    let world = World::new().await;
    let mut untitled = entry(2, json!({ "rating": "G" }));
    untitled["anime"]["title"] = json!(null);
    let entries =
        [entry(1, json!({})), untitled, entry(3, json!({ "synopsis": "nul \u{0} inside" }))];
    let path = world.artifact("anime_database.json", "", &entries);
    let source = path.to_str().unwrap();
    assert_eq!(world.ingest(&path).await.total.counts.rejects(), 2);
    let listed = world.run(&["rejects", "list", "--pack", "anime"]);
    assert!(stdout(&listed).contains("null_not_allowed"), "{}", stdout(&listed));
    let out = world.run(&["rejects", "export", "--pack", "anime", "--out", "rejects.jsonl"]);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let as_kept = world.run(&["rejects", "retry", "--pack", "anime"]);
    assert_eq!(as_kept.status.code(), Some(1), "{}", stdout(&as_kept));
    let text = std::fs::read_to_string(world.path("rejects.jsonl")).unwrap();
    let corrected = text
        .replace("\"title\":null", "\"title\":\"Found\"")
        .replace("\\u0000", "")
        .replace('\u{0}', "");
    std::fs::write(world.path("corrected.jsonl"), corrected).unwrap();
    let arguments = ["rejects", "retry", "--pack", "anime", "--file", "corrected.jsonl"];
    let dry = world.run(&[&arguments[..], &["--dry-run"]].concat());
    assert_eq!(dry.status.code(), Some(0), "{}{}", stdout(&dry), stderr(&dry));
    assert_eq!(world.text("SELECT count(*)::text FROM anime").await, "1");
    let retried = world.run(&arguments);
    assert_eq!(retried.status.code(), Some(0), "{}{}", stdout(&retried), stderr(&retried));
    assert_eq!(world.text("SELECT title FROM anime WHERE rating = 'G'").await, "Found");
    assert_eq!(world.texts("SELECT DISTINCT state FROM toolkit.reject").await, ["retried"]);
    // The artifact still has them; that is known, to a backfill and to parity.
    let again = world.run(&["backfill", "--pack", "anime", "--source", source]);
    assert_eq!(again.status.code(), Some(0), "{}{}", stdout(&again), stderr(&again));
    assert_eq!(world.texts("SELECT DISTINCT state FROM toolkit.reject").await, ["retried"]);
    let parity = world.run(&["verify-parity", "--pack", "anime", "--source", source]);
    assert_eq!(parity.status.code(), Some(0), "{}", stdout(&parity));
    let unknown = world.run(&["rejects", "retry", "--pack", "anime", "--id", "99"]);
    assert_eq!(unknown.status.code(), Some(2), "{}", stdout(&unknown));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_json_is_named_for_what_it_is_before_anything_is_begun() {
    let world = World::new().await;
    let utf16: Vec<u8> =
        "\u{feff}{\"data\": []}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (bytes, what, advice) in [
        (b"\x1f\x8b\x08\0".to_vec(), "compressed by gzip", "gunzip"),
        (b"PK\x03\x04".to_vec(), "a zip archive", "unzip"),
        (utf16, "UTF-16", "iconv -f UTF-16 -t UTF-8"),
        (b"SQLite format 3\0".to_vec(), "a SQLite database", "toolkit copy"),
        (b"<!DOCTYPE html>".to_vec(), "HTML", "download"),
    ] {
        let path = world.path("anime_database.json");
        std::fs::write(&path, bytes).unwrap();
        let error = world.try_ingest(&path, Options::default()).await.unwrap_err();
        assert_eq!(error.kind(), toolkit::ErrorKind::SourceUnreadable, "{error}");
        assert!(error.detail().contains(what), "{error}");
        assert!(error.advice_text().unwrap().contains(advice), "{error}");
        assert_eq!(world.text("SELECT count(*)::text FROM ingestion_runs").await, "0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_did_not_migrate_is_told_the_command_that_does_all_of_it() {
    let database = TestDatabase::create().await;
    let path = database.folder().join("anime_database.json");
    enriched_artifact(&path, 4, 1).unwrap();
    let out = toolkit()
        .args(["--database-url", database.url(), "backfill", "--pack", "anime", "--source"])
        .arg(&path)
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("`toolkit migrate up --pack anime`"), "{}", stderr(&out));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_entries_of_one_stored_anime_are_heard_one_after_the_other() {
    let world = World::new().await;
    let urls = ["https://myanimelist.net/anime/1", "https://anilist.co/anime/2"];
    let offline = |sources: &[&str], title: &str| {
        json!({ "sources": sources, "title": title, "type": "TV", "status": "ONGOING", "episodes": 3,
                "animeSeason": { "season": "FALL", "year": 2000 }, "synonyms": [title] })
    };
    world.say("2026-01-01", &[offline(&urls, "One")]).await;
    // The platforms have parted: neither names what the other does.
    let parted = [offline(&urls[..1], "One"), offline(&urls[1..], "Other")];
    let report = world.say("2026-02-01", &parted).await;
    assert_eq!(report.total.counts.read, 2);
    assert_eq!(report.total.counts.rejects(), 0, "{report:#?}");
    assert_eq!(world.text("SELECT count(*)::text FROM anime").await, "1");
}
