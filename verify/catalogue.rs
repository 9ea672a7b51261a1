//! What the documents of all packs promise of keys, indexes, references and checks, one line each in
//! `catalogue/promises.txt`, held against a migrated database; and that questions about one user read
//! one partition.

use std::path::Path;

use sqlx::Connection as _;
use toolkit::migrate::{self, Options};
use toolkit::query;
use toolkit::store::Postgres;

use crate::support::TestDatabase;
use crate::support::world::World;

/// `pack | schema.table | what`, as the server prints it.
const PROMISES: &str = include_str!("catalogue/promises.txt");

const CONSTRAINTS: &str = "SELECT n.nspname || '.' || c.relname || ' | ' || pg_get_constraintdef(k.oid) \
    FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid \
    JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE k.convalidated";

const INDEXES: &str = "SELECT n.nspname || '.' || c.relname || ' | ' \
    || CASE WHEN i.indisunique THEN 'UNIQUE INDEX ' ELSE 'INDEX ' END \
    || regexp_replace(pg_get_indexdef(i.indexrelid), '^.* USING ', '') \
    FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid \
    JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE i.indisvalid";

#[tokio::test]
async fn every_key_index_reference_and_check_of_the_documents_is_in_the_migrated_database() {
    let database = TestDatabase::create().await;
    let postgres = Postgres::connect(&database.settings()).await.unwrap();
    let mut conn = postgres.dedicated().await.unwrap();
    let packs = ["anime", "media", "unified", "webtoon"];
    migrate::up(&mut conn, &packs, &Options::default()).await.unwrap();
    let mut live: Vec<String> = sqlx::query_scalar(CONSTRAINTS).fetch_all(&mut conn).await.unwrap();
    live.extend(sqlx::query_scalar::<_, String>(INDEXES).fetch_all(&mut conn).await.unwrap());
    conn.close().await.unwrap();
    let promised: Vec<&str> = PROMISES.lines().filter(|line| !line.starts_with('#')).collect();
    let missing: Vec<&&str> = promised
        .iter()
        .filter(|line| {
            let (_, what) = line.split_once(" | ").expect("pack | table | what");
            !live.iter().any(|found| found == what)
        })
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
    for pack in packs {
        let count = promised.iter().filter(|line| line.starts_with(&format!("{pack} | "))).count();
        assert!(count > 40, "{pack}: {count}");
    }
}

/// Indexes that the media tracker's document gives by name.
const NAMED: &[&str] = &[
    "media.idx_media_title",
    "media.idx_media_external_id_unique",
    "media.idx_media_attributes",
    "media.idx_media_attr_isbn",
    "media.idx_media_attr_runtime_minutes",
    "media.idx_media_attr_platforms",
    "media.idx_media_attr_genres",
    "media.idx_external_links_media_id",
    "media.idx_relationships_media_id",
    "media.idx_relationships_related_id",
    "media.idx_relationships_type",
    "interaction.idx_user_media_user_id",
    "interaction.idx_user_media_user_status",
    "interaction.idx_user_media_media_id",
    "interaction.idx_user_media_status",
];

#[tokio::test]
async fn indexes_that_a_document_names_bear_that_name() {
    let world = World::builtin("media", Path::new("nowhere")).await;
    let mut conn = world.postgres.dedicated().await.unwrap();
    for name in NAMED {
        let found: Option<String> = sqlx::query_scalar("SELECT to_regclass($1)::text")
            .bind(name)
            .fetch_one(&mut conn)
            .await
            .unwrap();
        assert_eq!(found.as_deref(), Some(*name));
    }
}

#[tokio::test]
async fn every_foreign_key_of_a_pack_has_an_index_that_begins_with_it() {
    let database = TestDatabase::create().await;
    let postgres = Postgres::connect(&database.settings()).await.unwrap();
    let mut conn = postgres.dedicated().await.unwrap();
    migrate::up(&mut conn, &["media", "unified", "webtoon"], &Options::default()).await.unwrap();
    let bare: Vec<String> = sqlx::query_scalar(
        "SELECT k.conrelid::regclass || ' ' || k.conname FROM pg_constraint AS k \
         JOIN pg_class AS c ON c.oid = k.conrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace \
         WHERE k.contype = 'f' AND n.nspname <> 'toolkit' AND NOT EXISTS (SELECT FROM pg_index AS i \
           WHERE i.indrelid = k.conrelid AND (i.indkey::smallint[])[0:cardinality(k.conkey) - 1] @> k.conkey)",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    assert_eq!(bare, Vec::<String>::new());
}

/// Every question about one user, as the application asks it by id and as readers do by email.
const USER_SCOPED: &[&str] = &[
    "SELECT * FROM interaction.user_media WHERE user_id = md5('u7')::uuid",
    "SELECT * FROM interaction.user_media WHERE user_id = md5('u7')::uuid AND status = 'planned'",
    "SELECT * FROM interaction.user_media WHERE user_id = md5('u7')::uuid AND media_id = md5('m3')::uuid",
    "SELECT count(*), avg(rating) FROM interaction.user_media WHERE user_id = md5('u7')::uuid",
    "UPDATE interaction.user_media SET progress = 1 WHERE user_id = md5('u7')::uuid AND media_id = md5('m3')::uuid",
    "DELETE FROM interaction.user_media WHERE user_id = md5('u7')::uuid",
    "SELECT u.* FROM interaction.user_media u JOIN interaction.list_items i ON i.media_id = u.media_id \
     JOIN interaction.user_lists l ON l.id = i.list_id AND l.user_id = u.user_id \
     WHERE u.user_id = md5('u7')::uuid",
];

#[tokio::test]
async fn every_question_about_one_user_reads_one_partition() {
    let world = World::builtin("media", Path::new("nowhere")).await;
    world
        .sql(
            "INSERT INTO users.users (id, email) SELECT md5('u' || n)::uuid, 'u' || n || '@x' \
                 FROM generate_series(1, 60) AS n; \
             INSERT INTO media.media (id, media_type, media_class, title) \
                 SELECT md5('m' || n)::uuid, 'anime', 'media.anime', 't' FROM generate_series(1, 20) AS n; \
             INSERT INTO interaction.user_media (user_id, media_id) SELECT u.id, m.id \
                 FROM users.users u, media.media m; ANALYZE interaction.user_media; ANALYZE users.users",
        )
        .await;
    let mut conn = world.postgres.dedicated().await.unwrap();
    for statement in USER_SCOPED {
        let plan = explain(&mut conn, "COSTS off", statement, &[]).await;
        assert_eq!(partitions(&plan).len(), 1, "{statement}\n{plan}");
    }
    let smart = "INSERT INTO interaction.user_lists (id, user_id, name, list_type, filter_definition) \
        VALUES (md5('l')::uuid, md5('u7')::uuid, 'l', 'smart', \
        '{\"all\": [{\"field\": \"status\", \"op\": \"eq\", \"value\": \"planned\"}]}')";
    world.sql(smart).await;
    let filter =
        toolkit::json::parse(br#"{"all":[{"field":"status","op":"eq","value":"planned"}]}"#);
    let clause = toolkit::media::filter::parse(&filter.unwrap()).unwrap().clause(2);
    let list = format!(
        "SELECT m.id FROM media.media m LEFT JOIN interaction.user_media tracked \
         ON tracked.media_id = m.id AND tracked.user_id = $1::text::uuid WHERE {}",
        clause.sql
    );
    let owner = world.text("SELECT md5('u7')::uuid::text").await;
    let plan = explain(&mut conn, EXECUTED, &list, &[&owner, "planned"]).await;
    assert_eq!(partitions(&plan).len(), 1, "{plan}");
    // By email the partition is known only when the statement runs: the others are never executed.
    let mut asked = 0;
    for question in query::questions("media") {
        if question.arguments.first().map(|argument| argument.name) != Some("email") {
            continue;
        }
        asked += 1;
        let values: Vec<&str> = ["u7@x", "planned"][..question.arguments.len()].to_vec();
        let plan = explain(&mut conn, EXECUTED, question.sql, &values).await;
        assert!(partitions(&plan).len() <= 1, "{}\n{plan}", question.name);
    }
    assert!(asked >= 3);
}

const EXECUTED: &str = "ANALYZE, COSTS off, TIMING off, SUMMARY off";

/// The plan; what was never executed is left out.
async fn explain(
    conn: &mut sqlx::PgConnection,
    how: &str,
    statement: &str,
    values: &[&str],
) -> String {
    let mut transaction = conn.begin().await.unwrap();
    let explain = format!("EXPLAIN ({how}) {statement}");
    let mut query = sqlx::query_scalar::<_, String>(toolkit::store::sql(explain));
    for value in values {
        query = query.bind((*value).to_owned());
    }
    let lines = query.fetch_all(&mut *transaction).await;
    transaction.rollback().await.unwrap();
    let lines = lines.unwrap_or_else(|error| panic!("{statement}: {error}"));
    let executed: Vec<String> =
        lines.into_iter().filter(|line| !line.contains("never executed")).collect();
    executed.join("\n")
}

/// Partitions of what users track that a plan reads.
fn partitions(plan: &str) -> std::collections::BTreeSet<String> {
    let names = plan.lines().filter(|line| line.contains(" on user_media_p"));
    names
        .map(|line| {
            let name = line.split(" on ").nth(1).unwrap_or_default();
            name.split_whitespace().next().unwrap_or_default().to_owned()
        })
        .collect()
}
