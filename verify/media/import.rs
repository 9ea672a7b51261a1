//! What the import makes of the files.

use std::path::Path;

use serde_json::{Value, json};
use sqlx::Connection as _;

use crate::support::world::World;
use crate::support::{stderr, stdout};

/// A world over files of the test's own.
pub(super) async fn world(files: &[(&str, &str)]) -> World {
    let world = World::builtin("media", Path::new("nowhere")).await;
    let source = world.database.folder().join("app");
    for (name, text) in files {
        std::fs::write(source.join(name), text).unwrap();
    }
    World { source, ..world }
}

fn item(external_id: &str, creators: &[&str], attributes: &Value) -> Value {
    json!({"external_id": external_id, "media_type": external_id.split(':').next(), "title": "T",
           "creators": creators, "attributes": attributes})
}

/// `(stream, output, reason)` of the open rejects.
async fn rejects(world: &World) -> Vec<(String, String)> {
    sqlx::query_as(
        "SELECT stream || '.' || output, reason FROM toolkit.reject ORDER BY 1, locator, 2",
    )
    .fetch_all(world.postgres.pool())
    .await
    .unwrap()
}

#[tokio::test]
async fn the_real_files_go_in_whole_with_full_parity_and_a_second_run_changes_nothing() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/media");
    if !folder.is_dir() {
        println!("skipped: there is no {}", folder.display());
        return;
    }
    let world = World::builtin("media", &folder).await;
    let first = world.backfill().await;
    let read: u64 = first.streams.iter().map(|stream| stream.counts.read).sum();
    let stored: u64 = first.streams.iter().map(|stream| stream.counts.records.inserted).sum();
    assert_eq!(stored, read);
    let mut items = 0;
    for file in std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()) {
        if file.extension().is_some_and(|extension| extension == "json") {
            let text = std::fs::read(file).unwrap();
            let document: serde_json::Map<String, Value> = serde_json::from_slice(&text).unwrap();
            items += document.values().map(|list| list.as_array().unwrap().len()).sum::<usize>();
        }
    }
    assert_eq!(world.text("SELECT count(*)::text FROM media.media").await, items.to_string());
    world.assert_clean().await;
    assert_eq!(world.text("SELECT count(*)::text FROM media.typed_attribute_drift").await, "0");
    // Every genre and platform that the files spell as a text is a list beside it.
    let unlisted = "SELECT count(*)::text FROM media.media WHERE (attributes ? 'genre' AND \
        attributes -> 'genres' IS DISTINCT FROM to_jsonb(string_to_array(attributes ->> 'genre', ', '))) \
        OR (attributes ? 'platform' AND attributes -> 'platforms' IS DISTINCT FROM \
            to_jsonb(string_to_array(attributes ->> 'platform', ', ')))";
    assert_eq!(world.text(unlisted).await, "0");
    let second = world.backfill().await;
    let unchanged: u64 = second.streams.iter().map(|stream| stream.counts.records.unchanged).sum();
    assert_eq!(unchanged, read);
}

#[tokio::test]
async fn two_spellings_of_one_key_are_one_item_and_the_later_is_rejected() {
    let both = json!({"Light Novel": [
        item("light_novel:stone:2021", &["Mio Yume"], &json!({})),
        item("lightnovel:stone:2021:mio-yume", &["Mio Yume"], &json!({})),
        item("lightnovel:stone:2021", &["Mio Yume"], &json!({"other": 1})),
        item("lightnovel:leaf:2020:b", &["B"], &json!({})),
        item("light_novel:stone:2021:someone-else", &["Someone Else"], &json!({})),
    ]});
    let tracked = "user_email,media_external_id,status\n\
                   a@x,lightnovel:stone:2021,planned\na@x,Light Novel:leaf:2020:b,In Progress\n";
    let world = world(&[("ln.json", &both.to_string()), ("user_media.csv", tracked)]).await;
    world.backfill().await;
    let found = rejects(&world).await;
    let reasons: Vec<&str> = found.iter().map(|(_, reason)| reason.as_str()).collect();
    assert_eq!(reasons, ["unique_collision", "duplicate_key"], "{found:?}");
    let keys = "SELECT string_agg(external_id || ' ' || media_type, ', ' ORDER BY external_id) \
                FROM media.media";
    assert_eq!(
        world.text(keys).await,
        "light_novel:leaf:2020:b light_novel, light_novel:stone:2021 light_novel, \
         light_novel:stone:2021:someone-else light_novel"
    );
    let tracked = "SELECT string_agg(m.external_id || ' ' || u.status, ', ' ORDER BY 1) \
                   FROM interaction.user_media u JOIN media.media m ON m.id = u.media_id";
    let tracked = world.text(tracked).await;
    assert!(tracked.contains("leaf:2020:b in-progress") && tracked.contains("stone:2021 planned"));
    // What the file has where another spelling is stored.
    let kept = "SELECT string_agg(column_name || ' ' || rule || ' ' || convert_from(original, 'UTF8'), \
                ', ' ORDER BY column_name) FROM toolkit.ledger";
    assert_eq!(
        world.text(kept).await,
        "external_id computed lightnovel:leaf:2020:b, media_type computed lightnovel, \
         status computed In Progress"
    );
    world.assert_clean().await;
}

#[tokio::test]
async fn every_other_shape_goes_in_and_what_leads_nowhere_is_rejected_by_its_reason() {
    let items = json!([
        item("anime:a:2020", &["A"], &json!({"genre": "X, Y", "genres": ["X"]})),
        item("anime:b:2020", &["B"], &json!({"Genre": "X, Y", "isbn": "i"})),
        {"media_type": "liveEvent", "title": "The Show!", "release_date": 2019, "creators": "One",
         "venue": "Hall", "attributes": {"capacity": "1,500 Seats"}},
        {"external_id": "anime:c:2021", "media_type": "manga", "title": "T"},
        {"external_id": "nothing", "title": "T"},
        {"external_id": "anime:d:2021", "title": "T", "media_class": "no class!"},
        "text",
    ]);
    let relationships = json!({"relationships": [
        {"from": "anime:b:2020", "to": "live_event:the-show:2019", "type": "spinoff", "weight": 3},
        {"from_external_id": "anime:b:2020", "to_external_id": "anime:gone:1", "type": "sequel"},
        {"from": "anime:b:2020", "to": "anime:b:2020", "type": "cousin"},
        {"from": "anime:b:2020", "to": "live_event:the-show:2019", "type": "sequel", "weight": 70000},
        {"from": "anime:b:2020", "to": "live_event:the-show:2019", "type": "remake", "colour": "red"},
    ]});
    let links = "external_id,source_name,external_key\nanime:b:2020,mal,1\nanime:b:2020,mal,1\n\
                 live_event:the-show:2019,mal,1\nanime:b:2020,,2\n";
    let csv_lists = "user_email,list_name,list_type,filter_definition,items,is_public\n\
        b@x,Mine,static,,anime:b:2020;live_event:the-show:2019,true\n\
        b@x,Smart,,\"{\"\"any\"\":[{\"\"field\"\":\"\"title\"\",\"\"op\"\":\"\"contains\"\",\"\"value\"\":\"\"show\"\"}]}\",,\n\
        b@x,Bad,smart,{},,\nb@x,Other,odd,,,\n";
    let user_media = json!([
        {"email": "c@x", "external_id": "anime:b:2020", "status": "completed", "rating": 11},
        {"email": "c@x", "external_id": "live_event:the-show:2019", "status": "watching"},
        {"email": "d@x", "external_id": "live_event:the-show:2019", "rating": 7, "mood": "calm"},
        {"email": "d@x", "external_id": "anime:gone:1"},
        {"external_id": "anime:b:2020"},
    ]);
    let world = world(&[
        ("all.json", &items.to_string()),
        ("relationships.json", &relationships.to_string()),
        ("external_links.csv", links),
        ("lists.csv", csv_lists),
        ("user_media.json", &user_media.to_string()),
    ])
    .await;
    world.backfill().await;
    let found = rejects(&world).await;
    let of = |stream: &str| -> Vec<&str> {
        let of = found.iter().filter(|(place, _)| place.split('.').next() == Some(stream));
        of.map(|(_, reason)| reason.as_str()).collect()
    };
    assert_eq!(
        of("media"),
        [
            "attribute_collision",
            "type_conflict",
            "invalid_natural_key",
            "invalid_ltree",
            "wrong_type"
        ]
    );
    assert_eq!(of("relationships_json"), ["orphan", "unknown_label", "overflow", "unknown_field"]);
    assert_eq!(of("external_links_csv"), ["duplicate_key", "null_not_allowed"]);
    assert_eq!(of("lists_csv"), ["invalid_filter", "check"]);
    assert_eq!(of("user_media_json"), ["check", "check", "orphan", "null_not_allowed"]);
    let stored = "SELECT string_agg(external_id, ' ' ORDER BY external_id) FROM media.media";
    assert_eq!(world.text(stored).await, "anime:b:2020 live_event:the-show:2019");
    let typed =
        "SELECT concat_ws(' ', venue, capacity) FROM media.typed_media WHERE title = 'The Show!'";
    assert_eq!(world.text(typed).await, "Hall 1500");
    let listed = "SELECT string_agg(position || ' ' || external_id, ', ' ORDER BY position) \
                  FROM interaction.list_items JOIN media.media ON id = media_id";
    assert_eq!(world.text(listed).await, "1 anime:b:2020, 2 live_event:the-show:2019");
    let snapshot =
        "SELECT meta_snapshot::text || rating FROM interaction.user_media WHERE rating = 7";
    assert_eq!(world.text(snapshot).await, r#"{"mood": "calm"}7"#);
    let kind = "SELECT relation_type::text FROM media.relationships";
    assert_eq!(world.text(kind).await, "spin-off");
    // Users are named once, whatever becomes of the record, and cannot log in.
    let users = "SELECT string_agg(email || password_hash, ' ' ORDER BY email) FROM users.users";
    assert_eq!(world.text(users).await, "b@x! c@x! d@x!");
    world.assert_clean().await;
}

#[tokio::test]
async fn typed_attributes_are_those_of_the_json_before_between_and_after_the_migration() {
    let world = world(&[]).await;
    let id = |n: u32| format!("00000000-0000-0000-0000-{n:012}");
    world
        .sql(&format!(
            "INSERT INTO media.media (id, media_type, media_class, title, attributes) VALUES
             ('{}', 'book', 'media.book', 'b', '{{\"isbn\": \"1\", \"page_count\": 12}}'),
             ('{}', 'game', 'media.game', 'g', '{{\"platforms\": [\"PC\"], \"playtime_hours\": \"x\"}}'),
             ('{}', 'book', 'media.book', 'o', '{{\"page_count\": 1e30, \"publisher\": \"p\"}}');
             UPDATE media.media SET attributes = '{{\"isbn\": \"2\"}}' WHERE title = 'b';
             UPDATE media.media SET attributes = '{{}}' WHERE title = 'g'",
            id(1),
            id(2),
            id(3)
        ))
        .await;
    let typed = "SELECT string_agg(concat_ws(' ', title, isbn, publisher, page_count, platforms), ', ' \
                 ORDER BY title) FROM media.typed_media";
    assert_eq!(world.text(typed).await, "b 2, g, o p");
    let drift = "SELECT count(*)::text FROM media.typed_attribute_drift";
    assert_eq!(world.text(drift).await, "0");
    // Verify refuses what backfill did not bring over, and backfill brings it.
    world.sql("DELETE FROM media.book_attributes WHERE publisher = 'p'").await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/media");
    let step = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
    let verify =
        step("V6__typed_attributes_verify.sql").replace("CREATE VIEW", "CREATE OR REPLACE VIEW");
    let mut conn = world.postgres.dedicated().await.unwrap();
    let refused = sqlx::raw_sql(toolkit::store::sql(verify.clone())).execute(&mut conn).await;
    assert!(refused.unwrap_err().to_string().contains("typed attribute rows differ"));
    conn.ping().await.unwrap();
    world.sql(&step("V5__typed_attributes_backfill.sql")).await;
    world.sql(&verify).await;
    assert_eq!(world.text(typed).await, "b 2, g, o p");
}

#[tokio::test]
async fn the_records_of_a_file_are_those_of_whatever_array_it_has() {
    let of = |number: u32| item(&format!("anime:n{number}:2020"), &[], &json!({}));
    let files = [
        ("bare.json", json!([of(1), of(2)]).to_string()),
        ("one.json", json!({"version": {"of": [1]}, "Anime": [of(3)], "count": 1}).to_string()),
        (
            "two.json",
            json!({"Anime": [of(4)], "license": null, "More": [of(5), of(6)]}).to_string(),
        ),
        ("twice.json", format!("{{\"A\": [{}], \"A\": [{}]}}", of(7), of(8))),
        ("none.json", json!({"Anime": {"a": 1}}).to_string()),
        ("empty.json", String::new()),
        ("cut.json", format!("{{\"Anime\": [{}, {{\"external_id\"", of(9))),
    ];
    let files: Vec<(&str, &str)> =
        files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let world = world(&files).await;
    world.backfill().await;
    let stored =
        "SELECT string_agg(split_part(external_id, ':', 2), ' ' ORDER BY 1) FROM media.media";
    let stored = world.text(stored).await;
    let mut stored: Vec<&str> = stored.split(' ').collect();
    stored.sort_unstable();
    assert_eq!(stored, ["n1", "n2", "n3", "n4", "n5", "n6", "n7", "n8", "n9"]);
    let reasons =
        "SELECT string_agg(source || ' ' || reason, ', ' ORDER BY source) FROM toolkit.reject";
    assert_eq!(
        world.text(reasons).await,
        "cut.json invalid_json, empty.json invalid_json, none.json no_records"
    );
    world.assert_clean().await;
}

#[tokio::test]
async fn a_refused_item_goes_in_once_it_is_corrected() {
    let mut wrong = item("nothing", &["A"], &json!({"genre": "A, B"}));
    wrong["media_type"] = json!("anime");
    let wrong = json!([wrong]).to_string();
    let world = world(&[("all.json", &wrong)]).await;
    world.backfill().await;
    let file = world.database.folder().join("rejects.jsonl");
    let export = ["rejects", "export", "--pack", "media", "--out", file.to_str().unwrap()];
    assert_eq!(world.run(&export).status.code(), Some(0), "{}", stderr(&world.run(&export)));
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("nothing", "anime:found:2020")).unwrap();
    let retry = ["rejects", "retry", "--pack", "media", "--file", file.to_str().unwrap()];
    let done = world.run(&retry);
    assert_eq!(done.status.code(), Some(0), "{}", stdout(&done));
    let stored = "SELECT external_id || (attributes -> 'genres')::text FROM media.media";
    assert_eq!(world.text(stored).await, r#"anime:found:2020["A", "B"]"#);
    world.assert_clean().await;
}

#[tokio::test]
async fn what_a_user_tracks_and_lists_goes_in_once_it_is_corrected_or_its_item_is_there() {
    let items = json!([item("anime:a:2020", &["A"], &json!({}))]).to_string();
    let csv = "user_email,media_external_id,status,rating\n\
               a@x,anime:a:2020,paused,\nb@x,anime:a:2020,planned,11\nc@x,anime:later:2021,planned,\n";
    let lists = json!([{"user_email": "a@x", "list_name": "L", "list_type": "odd",
        "items": ["anime:a:2020"]}])
    .to_string();
    let files = [("all.json", &*items), ("user_media.csv", csv), ("lists.json", &*lists)];
    let world = world(&files).await;
    world.backfill().await;
    let file = world.database.folder().join("rejects.jsonl");
    let path = file.to_str().unwrap();
    let done = world.run(&["rejects", "export", "--pack", "media", "--out", path]);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    let text = std::fs::read_to_string(&file).unwrap();
    let corrected: Vec<String> = text
        .lines()
        .filter(|line| !line.contains("orphan"))
        .map(|line| line.replace("paused", "dropped").replace("\"11\"", "\"10\""))
        .map(|line| line.replace("\"odd\"", "\"static\""))
        .collect();
    assert_eq!(corrected.len(), 3, "{text}");
    std::fs::write(&file, corrected.join("\n")).unwrap();
    let done = world.run(&["rejects", "retry", "--pack", "media", "--file", path]);
    assert_eq!(done.status.code(), Some(0), "{}", stdout(&done));
    world.assert_clean().await;
    let later = json!([item("anime:later:2021", &["B"], &json!({}))]).to_string();
    std::fs::write(world.source.join("later.json"), later).unwrap();
    let stream =
        ["--format", "json", "backfill", "--pack", "media", "--stream", "media", "--source"];
    let done = world.run(&[&stream[..], &[world.source.to_str().unwrap()]].concat());
    assert_eq!(done.status.code(), Some(0), "{}{}", stdout(&done), stderr(&done));
    let done = world.run(&["rejects", "retry", "--pack", "media"]);
    assert_eq!(done.status.code(), Some(0), "{}", stdout(&done));
    let tracked = "SELECT string_agg(u.email || ' ' || m.title || ' ' || t.status || ' ' || \
        coalesce(t.rating, 0), ', ' ORDER BY u.email) FROM interaction.user_media t \
        JOIN users.users u ON u.id = t.user_id JOIN media.media m ON m.id = t.media_id";
    assert_eq!(world.text(tracked).await, "a@x T dropped 0, b@x T planned 10, c@x T planned 0");
    assert_eq!(world.text("SELECT count(*)::text FROM interaction.list_items").await, "1");
    world.assert_clean().await;
}

#[tokio::test]
async fn a_record_that_nests_too_deeply_or_is_not_utf8_takes_no_neighbour_along() {
    let deep = format!("{}\"]\\\"[\"{}", "[".repeat(600), "]".repeat(600));
    let one = |at: u32, more: &str| {
        format!(r#"{{"external_id": "anime:n{at}:2020", "media_type": "anime", {more}}}"#)
    };
    let all = [
        one(1, r#""title": "T""#),
        one(2, &format!(r#""title": "T", "attributes": {{"deep": {deep}}}"#)),
        one(3, r#""title": "\ud800""#),
        one(4, r#""title": 5"#),
        one(5, r#""title": "U""#),
    ];
    let world = world(&[("all.json", &format!("[{}]", all.join(",\n")))]).await;
    world.backfill().await;
    let reasons = "SELECT string_agg(locator || ' ' || reason, ', ' ORDER BY locator) \
                   FROM toolkit.reject";
    assert_eq!(
        world.text(reasons).await,
        "record 1 too_deep, record 2 invalid_utf8, record 3 wrong_type"
    );
    let stored = "SELECT string_agg(title, ' ' ORDER BY title) FROM media.media";
    assert_eq!(world.text(stored).await, "T U");
    world.assert_clean().await;
    let file = world.database.folder().join("rejects.jsonl");
    let path = file.to_str().unwrap();
    let ids: Vec<i64> = sqlx::query_scalar("SELECT id FROM toolkit.reject")
        .fetch_all(world.postgres.pool())
        .await
        .unwrap();
    let corrected = |id: &i64| {
        let record = item(&format!("anime:{id}:2020"), &["C"], &json!({}));
        json!({"id": id, "record": record}).to_string()
    };
    let lines: Vec<String> = ids.iter().map(corrected).collect();
    std::fs::write(&file, lines.join("\n")).unwrap();
    let done = world.run(&["rejects", "retry", "--pack", "media", "--file", path]);
    assert_eq!(done.status.code(), Some(0), "{}", stdout(&done));
    assert_eq!(world.text("SELECT count(*)::text FROM media.media").await, "5");
    world.assert_clean().await;
}
