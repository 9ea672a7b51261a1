//! Near-duplicate characters.

use serde_json::{Value, json};
use toolkit::anime::dedup::{ByName, candidates, merge, propose, undo};
use toolkit::anime::parity::{Options, verify};
use toolkit::interrupt::Stop;
use toolkit::manners::Manners;
use toolkit::pack::Pack;
use toolkit::parity::Level;
use uuid::Uuid;

use super::world::{World, entry};
use crate::support::{stderr, stdout};

fn id(number: u32) -> Uuid {
    Uuid::parse_str(&format!("11111111-0000-4000-8000-{number:012}")).unwrap()
}

fn person(number: u32, name: &str, native: &str, more: Value) -> Value {
    let mut person = json!({ "id": id(number).to_string(), "name": name, "name_native": native,
                             "role": "Main", "description": format!("told as {number}") });
    if let Value::Object(more) = more {
        for (key, value) in more {
            person[key] = value;
        }
    }
    person
}

/// 1 and 2 are one, and so are 3 and 4; 5 has a namesake's name, 6 is another person.
fn scene() -> Vec<Value> {
    vec![
        entry(
            1,
            json!({ "characters": [
                person(1, "Yūko Satou", "佐藤優子", json!({ "nicknames": ["Yu"] })),
                person(2, "Sato Yuko", "佐藤 優子", json!({ "nicknames": ["Yuyu"], "role": "Supporting",
                    "voice_actors": [{ "name": "V" }] })),
                person(6, "Ken Mori", "森健", json!({})),
            ] }),
        ),
        entry(2, json!({ "characters": [person(2, "Sato Yuko", "佐藤 優子", json!({}))] })),
        entry(
            3,
            json!({ "characters": [
                person(3, "Shinobu Oshino", "忍野忍", json!({ "gender": "Female" })),
                person(4, "Shinobu Oshimo", "忍野忍", json!({ "gender": "Female" })),
            ] }),
        ),
        entry(
            4,
            json!({ "characters": [person(5, "Yuko Sato", "左藤夕子", json!({ "gender": "Male" }))] }),
        ),
    ]
}

async fn proposed(world: &World) -> Vec<(String, String)> {
    let mut conn = world.postgres.dedicated().await.unwrap();
    propose(&mut conn, &ByName::default(), 0.6, false, &Stop::new()).await.unwrap();
    let found = candidates(&mut conn, Some("open"), None, 100).await.unwrap();
    let mut pairs: Vec<(String, String)> =
        found.candidates.into_iter().map(|one| (one.one.name, one.other.name)).collect();
    pairs.sort();
    pairs
}

#[tokio::test(flavor = "multi_thread")]
async fn spellings_of_one_person_are_proposed_with_reasons_and_namesakes_are_not() {
    let world = World::new().await;
    world.say("", &scene()).await;
    let pairs = proposed(&world).await;
    let named = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(
        pairs,
        [named("Shinobu Oshino", "Shinobu Oshimo"), named("Yūko Satou", "Sato Yuko")]
    );
    let mut conn = world.postgres.dedicated().await.unwrap();
    let found = candidates(&mut conn, None, None, 10).await.unwrap();
    for candidate in &found.candidates {
        let sum: f64 = candidate.reasons.iter().map(|reason| reason.weight).sum();
        assert!((sum.min(1.0) - candidate.score).abs() < 1e-9, "{candidate:?}");
        assert!(candidate.reasons.iter().any(|reason| reason.what.contains("native")));
    }
    // A second search changes nothing; what a person has refused does not come back.
    let again = propose(&mut conn, &ByName::default(), 0.6, false, &Stop::new()).await.unwrap();
    assert_eq!((again.candidates, again.changed, again.withdrawn), (2, 0, 0), "{again:?}");
    let first = found.candidates[0].id.to_string();
    let refused = world.run(&["dedup", "review", "--reject", &first, "--by", "jane"]);
    assert_eq!(refused.status.code(), Some(0), "{}", stderr(&refused));
    assert_eq!(proposed(&world).await.len(), 1);
    let twice = world.run(&["dedup", "review", "--reject", &first]);
    assert_eq!(twice.status.code(), Some(1), "{}", stdout(&twice));
    // What they were called is withdrawn when it is true no more.
    world
        .sql("UPDATE character SET name = 'Else', name_native = NULL WHERE gender = 'Female'")
        .await;
    world
        .sql("UPDATE character SET name = 'Else', name_native = NULL WHERE name LIKE 'Sato%'")
        .await;
    assert_eq!(proposed(&world).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_moves_everything_and_its_undo_puts_every_row_back() {
    let world = World::new().await;
    let path = world.artifact("anime_database.json", "", &scene());
    world.ingest(&path).await;
    let before = world.content().await;
    let mut conn = world.postgres.dedicated().await.unwrap();
    let rehearsed = merge(&mut conn, (id(2), id(1)), None, "jane", true).await.unwrap();
    assert_eq!(rehearsed.merge, None);
    assert_eq!(world.content().await, before);
    let done = merge(&mut conn, (id(2), id(1)), None, "jane", false).await.unwrap();
    assert_eq!((done.moved, done.united), (1, 1), "{done:?}");
    let links = "SELECT character_id::text FROM anime_character WHERE character_id IN \
                 (SELECT id FROM character WHERE name_native LIKE '佐藤%') ORDER BY anime_id";
    assert_eq!(world.texts(links).await, [id(1).to_string(), id(1).to_string()]);
    let said = "SELECT meta #>> '{merged,0,meta,voice_actors,0,name}' FROM anime_character \
                WHERE meta ? 'merged'";
    assert_eq!(world.text(said).await, "V");
    let alias = format!(
        "SELECT string_agg(alias, ', ' ORDER BY alias) FROM character_alias WHERE character_id = '{}'",
        id(1)
    );
    assert_eq!(world.text(&alias).await, "Sato Yuko, Yu, Yuyu, 佐藤 優子");
    let stale = "SELECT count(*)::text FROM graph_edge WHERE to_id = ";
    assert_eq!(world.text(&format!("{stale}'{}'", id(2))).await, "0");
    // The old point's last word is that it is gone, the new one's that it changed.
    let last = |id: Uuid| {
        format!(
            "SELECT op FROM qdrant_outbox WHERE entity_id = '{id}' ORDER BY version DESC LIMIT 1"
        )
    };
    assert_eq!(world.text(&last(id(2))).await, "delete");
    assert_eq!(world.text(&last(id(1))).await, "upsert");
    // Nothing of the artifact is lost by it, and hearing it again follows the redirect.
    let options = Options { level: Level::Full, differences_max: 100, manners: Manners::default() };
    let (settings, pack) = (world.database.settings(), Pack::find("anime").unwrap());
    let roots = [path.clone()];
    let report = verify(&settings, &world.postgres, &pack, &roots, &options, &Stop::new(), &|_| ())
        .await
        .unwrap();
    assert!(report.differences.is_empty(), "{:#?}", report.differences);
    let merged = world.content().await;
    let error = merge(&mut conn, (id(2), id(1)), None, "jane", false).await.unwrap_err();
    assert!(error.to_string().contains("already"), "{error}");
    let undone = undo(&mut conn, done.merge.unwrap(), "joe", false, true).await.unwrap();
    assert!(undone.restored > 0 && undone.left.is_empty());
    assert_eq!(world.content().await, merged);
    undo(&mut conn, done.merge.unwrap(), "joe", false, false).await.unwrap();
    assert_eq!(world.content().await, before);
    assert_eq!(world.text(&last(id(2))).await, "upsert");
    let twice = undo(&mut conn, done.merge.unwrap(), "joe", false, false).await.unwrap_err();
    assert!(twice.to_string().contains("already"), "{twice}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lookups_follow_a_chain_of_merges_to_its_end_and_the_newest_is_taken_back_first() {
    let world = World::new().await;
    world.say("", &scene()).await;
    let before = world.content().await;
    let mut conn = world.postgres.dedicated().await.unwrap();
    let mut merges = Vec::new();
    // 1 into 2, 2 into 3, and 4 into 1, which by then is 3.
    for pair in [(1, 2), (2, 3), (4, 1)] {
        let done = merge(&mut conn, (id(pair.0), id(pair.1)), None, "j", false).await.unwrap();
        merges.push(done.merge.unwrap());
    }
    for number in [1, 2, 3, 4] {
        let end = format!("SELECT canonical_character('{}')::text", id(number));
        assert_eq!(world.text(&end).await, id(3).to_string());
    }
    let circle = merge(&mut conn, (id(3), id(1)), None, "j", false).await.unwrap_err();
    assert!(circle.to_string().contains("one character already"), "{circle}");
    // An artifact that still tells of the first is heard by the last.
    world.say("", &[entry(9, json!({ "characters": [person(1, "Yu", "佐", json!({}))] }))]).await;
    let heard = "SELECT character_id::text FROM anime_character l JOIN anime a ON a.id = l.anime_id \
                 WHERE a.title = 'Anime 9'";
    assert_eq!(world.text(heard).await, id(3).to_string());
    let early = undo(&mut conn, merges[0], "j", false, false).await.unwrap_err();
    assert!(early.to_string().contains("after it"), "{early}");
    world.sql("DELETE FROM anime WHERE title = 'Anime 9'; DELETE FROM character_alias WHERE alias IN ('Yu')").await;
    // One alias is gone meanwhile: said, and left only with force.
    let changed = undo(&mut conn, merges[2], "j", false, false).await;
    let alias_is_of_third = changed.is_ok();
    assert!(alias_is_of_third, "{changed:?}");
    let second = undo(&mut conn, merges[1], "j", false, false).await.unwrap_err();
    assert!(second.to_string().contains("changed since"), "{second}");
    let forced = world.run(&["dedup", "undo", &merges[1].to_string(), "--force"]);
    assert_eq!(forced.status.code(), Some(1), "{}", stderr(&forced));
    assert_ne!(before, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn merges_in_any_order_taken_back_from_the_newest_leave_every_table_as_it_was() {
    let world = World::new().await;
    for seed in 0..4_u64 {
        let mut state = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(11);
        let mut roll = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let entries: Vec<Value> = (0..6)
            .map(|at| {
                let mut people = Vec::new();
                for number in 0..8_u32 {
                    if roll(2) == 0 {
                        let names = json!({ "nicknames": [format!("n{}", roll(4))],
                                            "role": if roll(2) == 0 { Value::Null } else { json!("Main") } });
                        let name = format!("N{}", roll(5));
                        people.push(person(number + 1, &name, &format!("名{}", roll(4)), names));
                    }
                }
                entry(at + 1, json!({ "characters": people, "rating": seed.to_string() }))
            })
            .collect();
        world.say("", &entries).await;
        let before = world.content().await;
        let mut conn = world.postgres.dedicated().await.unwrap();
        let mut merges = Vec::new();
        for _ in 0..7 {
            let (from, into) =
                (id(u32::try_from(roll(8)).unwrap() + 1), id(u32::try_from(roll(8)).unwrap() + 1));
            if let Ok(done) = merge(&mut conn, (from, into), None, "j", false).await {
                merges.push(done.merge.unwrap());
            }
        }
        assert!(merges.len() > 1, "seed {seed}");
        let doubled = "SELECT count(*)::text FROM anime_character l JOIN character_redirect r \
                       ON r.from_id = l.character_id";
        assert_eq!(world.text(doubled).await, "0");
        for merge in merges.into_iter().rev() {
            undo(&mut conn, merge, "j", false, false).await.unwrap();
        }
        assert_eq!(world.content().await, before, "seed {seed}");
        let edges = "SELECT count(*)::text FROM (SELECT * FROM graph_edge EXCEPT \
                     SELECT * FROM graph_edge_expected) AS e";
        assert_eq!(world.text(edges).await, "0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_lists_merges_and_takes_back_and_refuses_what_is_not_there() {
    let world = World::new().await;
    world.say("", &scene()).await;
    let found = world.run(&["dedup", "propose"]);
    assert_eq!(found.status.code(), Some(0), "{}", stderr(&found));
    let listed = world.run(&["dedup", "review"]);
    let text = stdout(&listed);
    assert!(text.contains("Shinobu Oshimo") && text.contains("the same native name"), "{text}");
    let json = world.run(&["--format", "json", "dedup", "review"]);
    let list: Value = serde_json::from_slice(&json.stdout).unwrap();
    let id = list["candidates"][0]["id"].to_string();
    assert!(list["candidates"][0]["reasons"][0]["weight"].is_number(), "{list}");
    let merged = world.run(&["dedup", "merge", &id]);
    assert_eq!(merged.status.code(), Some(0), "{}", stderr(&merged));
    let again = world.run(&["dedup", "merge", &id]);
    assert_eq!(again.status.code(), Some(2), "{}", stdout(&again));
    let number = world.text("SELECT id::text FROM character_merge").await;
    let undone = world.run(&["dedup", "undo", &number]);
    assert_eq!(undone.status.code(), Some(0), "{}", stderr(&undone));
    assert_eq!(
        world.text("SELECT state FROM character_candidate ORDER BY score DESC LIMIT 1").await,
        "open"
    );
    for wrong in [
        &["dedup", "merge", "999"][..],
        &["dedup", "merge"],
        &["dedup", "undo", "999"],
        &["dedup", "merge", "--from", "nobody", "--into", "nobody"],
        &[
            "dedup",
            "merge",
            "--from",
            "11111111-0000-4000-8000-00000000dead",
            "--into",
            "11111111-0000-4000-8000-000000000001",
        ],
        &["dedup", "propose", "--min-score", "2"],
    ] {
        let refused = world.run(wrong);
        assert_eq!(refused.status.code(), Some(2), "{wrong:?}: {}", stdout(&refused));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_share_no_spelling_are_found_by_the_collections_search_and_without_it_it_is_said()
 {
    let world = World::new().await;
    let of = |number, name: &str| {
        let she =
            person(number, name, "", json!({ "gender": "Female", "description": "A pilot." }));
        entry(number, json!({ "characters": [she] }))
    };
    world.say("", &[of(1, "Minamoto Chisaki"), of(2, "Ninamoto Shisaki"), of(3, "Quark")]).await;
    let propose = |more: &[&str]| {
        let all = ["--format", "json", "dedup", "propose", "--min-score", "0.3"];
        let done = world.run(&[&all[..], more].concat());
        assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
        let found: Value = serde_json::from_str(&stdout(&done)).unwrap();
        let count = |name: &str| found[name].as_u64().unwrap();
        (stderr(&done), count("near"), count("candidates"), count("withdrawn"))
    };
    let (said, near, candidates, _) = propose(&[]);
    assert!(said.contains("by names alone") && said.contains("no collection"), "{said}");
    assert_eq!((near, candidates), (0, 0));
    // Nothing was made to look for it.
    assert!(!world.path("state").join("qdrant").exists());

    assert_eq!(world.run(&["outbox", "drain"]).status.code(), Some(0));
    let (said, near, candidates, _) = propose(&[]);
    assert!(!said.contains("by names alone"), "{said}");
    assert_eq!((near, candidates), (1, 1));
    let mut conn = world.postgres.dedicated().await.unwrap();
    let found = candidates_of(&mut conn).await;
    assert_eq!(found, ["their vectors are"]);

    // Somebody has it: what was found by vectors stays until they are searched again.
    let holder = toolkit::qdrant::Embedded::open(&world.path("state")).unwrap();
    let (said, near, _, withdrawn) = propose(&[]);
    assert!(said.contains("by names alone") && said.contains("open candidates stay"), "{said}");
    assert_eq!((near, withdrawn), (0, 0));
    drop(holder);
    let (_, _, candidates, withdrawn) = propose(&["--by", "names"]);
    assert_eq!((candidates, withdrawn), (0, 1));
}

/// The reasons of all candidates that are about vectors.
async fn candidates_of(conn: &mut sqlx::PgConnection) -> Vec<&'static str> {
    const ABOUT: &str = "their vectors are";
    let found = candidates(conn, Some("open"), None, 10).await.unwrap().candidates;
    let reasons = found.iter().flat_map(|one| &one.reasons);
    reasons.filter(|reason| reason.what.starts_with(ABOUT)).map(|_| ABOUT).collect()
}
