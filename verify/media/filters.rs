//! Smart lists: refused alike by import, library and schema, and evaluated to what they say.

use std::path::Path;

use serde_json::{Value, json};
use toolkit::media::filter;
use toolkit::query::{self, Limits};

use crate::support::world::World;

fn condition(field: &str, op: &str, value: &Value) -> Value {
    json!({"all": [{"field": field, "op": op, "value": value}]})
}

fn nested(depth: usize) -> Value {
    let innermost = json!({"field": "title", "op": "eq", "value": "x"});
    (0..depth).fold(innermost, |inner, _| json!({"any": [inner]}))
}

#[tokio::test]
async fn the_library_and_the_schema_refuse_the_same_definitions() {
    let world = World::builtin("media", Path::new("nowhere")).await;
    let sound = [
        condition("title", "contains", &json!("x")),
        condition("title", "in", &json!(["x", "y"])),
        condition("media_class", "descendant_of", &json!("media.anime")),
        condition("creators", "contains", &json!("x")),
        condition("release_date", "ge", &json!("2020-02-29")),
        condition("attributes.page count", "lt", &json!(1.5)),
        condition("attributes.a", "eq", &json!(true)),
        condition("status", "ne", &json!("dropped")),
        condition("rating", "in", &json!([9, 10])),
        nested(16),
    ];
    let unsound = [
        json!({}),
        json!([]),
        json!(null),
        json!({"all": []}),
        json!({"all": {}}),
        json!({"all": [1]}),
        json!({"some": [condition("title", "eq", &json!("x"))]}),
        json!({"all": [condition("title", "eq", &json!("x"))], "any": []}),
        json!({"field": "title", "op": "eq", "value": "x"}),
        json!({"all": [{"field": "title", "op": "eq"}]}),
        json!({"all": [{"field": "title", "op": "eq", "value": "x", "more": 1}]}),
        json!({"all": [{"field": 1, "op": "eq", "value": "x"}]}),
        condition("password_hash", "eq", &json!("x")),
        condition("attributes.", "eq", &json!("x")),
        condition("title", "like", &json!("x")),
        condition("title", "descendant_of", &json!("x")),
        condition("title", "eq", &json!(1)),
        condition("title", "in", &json!("x")),
        condition("title", "in", &json!([])),
        condition("title", "in", &json!(["x", 1])),
        condition("media_class", "eq", &json!("a b")),
        condition("media_class", "eq", &json!("")),
        condition("media_class", "lt", &json!("a")),
        condition("creators", "eq", &json!("x")),
        condition("release_date", "eq", &json!("2021-02-29")),
        condition("release_date", "eq", &json!("yesterday")),
        condition("release_date", "contains", &json!("2020-01-01")),
        condition("rating", "eq", &json!("9")),
        condition("rating", "contains", &json!(9)),
        condition("status", "lt", &json!("x")),
        condition("attributes.a", "eq", &json!(null)),
        condition("attributes.a", "eq", &json!([1])),
        condition("attributes.a", "lt", &json!(true)),
        nested(18),
    ];
    for (definitions, is_sound) in [(&sound[..], true), (&unsound[..], false)] {
        for definition in definitions {
            let parsed = toolkit::json::parse(definition.to_string().as_bytes()).unwrap();
            assert_eq!(filter::parse(&parsed).is_ok(), is_sound, "{definition}");
            let fault: Option<String> =
                sqlx::query_scalar("SELECT interaction.filter_fault($1::text::jsonb)")
                    .bind(definition.to_string())
                    .fetch_one(world.postgres.pool())
                    .await
                    .unwrap();
            assert_eq!(fault.is_none(), is_sound, "{definition}: {fault:?}");
        }
    }
}

const MEDIA: &str = "INSERT INTO users.users (id, email) VALUES
    ('00000000-0000-0000-0000-0000000000aa', 'a@x'), ('00000000-0000-0000-0000-0000000000bb', 'b@x');
    INSERT INTO media.media (id, external_id, media_type, media_class, title, release_date,
        country_of_origin, creators, attributes) VALUES
    ('00000000-0000-0000-0000-000000000001', 'anime:a:2020', 'anime', 'media.anime.tv', 'Alpha',
     '2020-01-01', 'Japan', '{Mio,Studio}', '{\"genres\": [\"Drama\"], \"episode_count\": 12}'),
    ('00000000-0000-0000-0000-000000000002', 'book:b:2021', 'book', 'media.book', 'Beta 100%',
     '2021-06-01', NULL, NULL, '{\"page_count\": 300, \"label\": \"abc\", \"done\": true}'),
    ('00000000-0000-0000-0000-000000000003', 'game:c:2022', 'game', 'media.game', 'Gamma', NULL,
     'USA', '{Mio}', '{\"page_count\": \"300\", \"genres\": [\"Drama\", \"Comedy\"]}');
    INSERT INTO interaction.user_media (user_id, media_id, status, rating) VALUES
    ('00000000-0000-0000-0000-0000000000aa', '00000000-0000-0000-0000-000000000001', 'completed', 9),
    ('00000000-0000-0000-0000-0000000000aa', '00000000-0000-0000-0000-000000000002', 'dropped', NULL),
    ('00000000-0000-0000-0000-0000000000bb', '00000000-0000-0000-0000-000000000003', 'completed', 10)";

#[tokio::test]
async fn a_smart_list_holds_what_its_definition_matches_and_what_its_owner_says_counts() {
    let world = World::builtin("media", Path::new("nowhere")).await;
    world.sql(MEDIA).await;
    let list = "00000000-0000-0000-0000-0000000000cc";
    let question = query::find("media", "smart-list").unwrap();
    let mut connection = world.postgres.dedicated().await.unwrap();
    let cases = [
        (condition("title", "eq", &json!("Alpha")), "A"),
        (condition("title", "contains", &json!("100%")), "B"),
        (condition("title", "gt", &json!("Alpha")), "BG"),
        (condition("title", "in", &json!(["Alpha", "Gamma", "x"])), "AG"),
        (condition("country_of_origin", "ne", &json!("USA")), "AB"),
        (condition("media_class", "descendant_of", &json!("media.anime")), "A"),
        (condition("media_class", "eq", &json!("media.anime")), ""),
        (condition("creators", "contains", &json!("Mio")), "AG"),
        (condition("creators", "in", &json!(["Studio", "x"])), "A"),
        (condition("release_date", "lt", &json!("2021-06-01")), "A"),
        (condition("attributes.genres", "contains", &json!("Comedy")), "G"),
        (condition("attributes.page_count", "ge", &json!(300)), "B"),
        (condition("attributes.page_count", "eq", &json!("300")), "G"),
        (condition("attributes.page_count", "ne", &json!(300)), "AG"),
        (condition("attributes.label", "contains", &json!("B")), "B"),
        (condition("attributes.label", "lt", &json!("b")), "B"),
        (condition("attributes.done", "eq", &json!(true)), "B"),
        (condition("attributes.episode_count", "in", &json!([11, 12])), "A"),
        (condition("status", "eq", &json!("completed")), "A"),
        (condition("status", "ne", &json!("completed")), "BG"),
        (condition("rating", "ge", &json!(8.5)), "A"),
        (
            json!({"any": [{"field": "title", "op": "eq", "value": "Gamma"},
                           {"all": [{"field": "rating", "op": "gt", "value": 1},
                                    {"field": "media_type", "op": "eq", "value": "anime"}]}]}),
            "AG",
        ),
        (condition("title", "eq", &json!("'; DROP TABLE media.media; --")), ""),
    ];
    for (definition, expected) in cases {
        let statement = "INSERT INTO interaction.user_lists (id, user_id, name, list_type, \
             filter_definition) VALUES ($1::uuid, '00000000-0000-0000-0000-0000000000aa', 'l', 'smart', \
             $2::text::jsonb) ON CONFLICT (id) DO UPDATE SET filter_definition = EXCLUDED.filter_definition";
        sqlx::query(statement)
            .bind(list)
            .bind(definition.to_string())
            .execute(world.postgres.pool())
            .await
            .unwrap();
        let answer =
            query::ask(&mut connection, question, &[list.to_owned()], Limits::default()).await;
        let titles: String = answer
            .unwrap_or_else(|error| panic!("{definition}: {error}"))
            .rows
            .iter()
            .map(|row| row["title"].as_str().unwrap().chars().next().unwrap())
            .collect();
        assert_eq!(titles, expected, "{definition}");
    }
    let done = world.run(&["query", "media", "smart-list", list]);
    assert_eq!(done.status.code(), Some(0));
    let unknown =
        world.run(&["query", "media", "smart-list", "00000000-0000-0000-0000-000000000000"]);
    assert_eq!(unknown.status.code(), Some(2));
    let refused = "INSERT INTO interaction.user_lists (user_id, name, list_type) VALUES \
                   ('00000000-0000-0000-0000-0000000000aa', 'n', 'smart')";
    assert!(sqlx::query(refused).execute(world.postgres.pool()).await.is_err());
}
