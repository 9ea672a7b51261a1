use super::world::{World, entry};
use serde_json::json;

async fn refusal(world: &World, statement: &str) -> String {
    let mut conn = world.postgres.dedicated().await.unwrap();
    let done = sqlx::raw_sql(toolkit::store::sql(statement.to_owned())).execute(&mut conn).await;
    done.expect_err(statement).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_of_characters_form_no_circle_and_lead_to_their_end() {
    let world = World::new().await;
    let id = |n: u32| format!("11111111-0000-4000-8000-{n:012}");
    let add = |from: u32, to: u32| {
        format!(
            "INSERT INTO character_redirect (from_id, to_id) VALUES ('{}', '{}')",
            id(from),
            id(to)
        )
    };
    for n in 1..=4 {
        world.sql(&format!("INSERT INTO character (id, name) VALUES ('{}', 'c')", id(n))).await;
    }
    for (from, to) in [(1, 2), (2, 3), (3, 4)] {
        world.sql(&add(from, to)).await;
    }
    assert!(refusal(&world, &add(4, 1)).await.contains("redirects to itself"));
    assert!(refusal(&world, &add(4, 4)).await.contains("redirect"));
    let update =
        format!("UPDATE character_redirect SET to_id = '{}' WHERE from_id = '{}'", id(1), id(3));
    assert!(refusal(&world, &update).await.contains("redirects to itself"));
    let end = format!("SELECT canonical_character('{}')::text", id(1));
    assert_eq!(world.text(&end).await, id(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_refuses_what_its_vocabularies_do_not_know() {
    let world = World::new().await;
    world.say("", &[entry(1, json!({}))]).await;
    for (statement, name) in [
        ("UPDATE anime SET type = 'VINYL'", "anime_type_check"),
        ("UPDATE anime SET status = 'Finished'", "anime_status_check"),
        (
            "INSERT INTO anime_relation (from_anime_id, relation_type) SELECT id, 'COUSIN' FROM anime",
            "relation_type_check",
        ),
        (
            "INSERT INTO anime_relation (from_anime_id, relation_type, to_anime_id) SELECT id, 'OTHER', id FROM anime",
            "anime_relation_self_check",
        ),
        ("TRUNCATE anime CASCADE", "would leave its points"),
    ] {
        assert!(refusal(&world, statement).await.contains(name), "{statement}");
    }
    // An appearance keeps its character from being deleted.
    world.sql("INSERT INTO character (id, name) VALUES ('11111111-0000-4000-8000-000000000001', 'c'); \
               INSERT INTO anime_character (anime_id, character_id) SELECT a.id, c.id FROM anime a, character c").await;
    assert!(
        refusal(&world, "DELETE FROM character")
            .await
            .contains("anime_character_character_id_fkey")
    );
}
