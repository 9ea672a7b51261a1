//! The page on what behaves differently: each example says what both engines answer.

use rusqlite::types::ValueRef;
use sqlx::{Connection as _, Executor as _, Row as _, ValueRef as _};
use toolkit::store::sql;

use crate::support::TestDatabase;

const PAGE: &str = include_str!("../../docs/sqlite-and-postgres.md");

/// A statement, and what SQLite and Postgres answer where the page says so.
type Example = (&'static str, Option<(&'static str, &'static str)>);

/// The statements of each block, with what both answer where the page says so.
fn blocks() -> Vec<Vec<Example>> {
    let mut blocks = Vec::new();
    for block in PAGE.split("```sql\n").skip(1) {
        let block = block.split("```").next().unwrap();
        let mut statements: Vec<Example> = Vec::new();
        for line in block.lines() {
            match line.strip_prefix("-- SQLite: ") {
                Some(answers) => {
                    let (one, other) = answers.split_once(" | Postgres: ").expect(line);
                    statements.last_mut().expect(line).1 = Some((one, other));
                }
                None => statements.push((line, None)),
            }
        }
        blocks.push(statements);
    }
    blocks
}

fn in_sqlite(connection: &rusqlite::Connection, statement: &str) -> String {
    let first = || -> rusqlite::Result<Option<String>> {
        let mut statement = connection.prepare(statement)?;
        let mut rows = statement.query([])?;
        let text = match rows.next()? {
            None => None,
            Some(row) => Some(match row.get_ref(0)? {
                ValueRef::Null => "NULL".to_owned(),
                ValueRef::Integer(number) => number.to_string(),
                ValueRef::Real(number) => number.to_string(),
                ValueRef::Text(text) | ValueRef::Blob(text) => {
                    String::from_utf8_lossy(text).into_owned()
                }
            }),
        };
        // A statement that returns a row has its effect once it is read to its end.
        while rows.next()?.is_some() {}
        Ok(text)
    };
    first().map_or_else(|_| "error".to_owned(), |text| text.unwrap_or_else(|| "no row".to_owned()))
}

async fn in_postgres(connection: &mut sqlx::PgConnection, statement: &str) -> String {
    let Ok(rows) = connection.fetch_all(sqlx::raw_sql(sql(statement.to_owned()))).await else {
        return "error".to_owned();
    };
    let Some(row) = rows.first() else { return "no row".to_owned() };
    let value = row.try_get_raw(0).unwrap();
    if value.is_null() {
        return "NULL".to_owned();
    }
    match value.as_str().unwrap() {
        "t" => "true".to_owned(),
        "f" => "false".to_owned(),
        text => text.to_owned(),
    }
}

#[tokio::test]
async fn every_example_of_the_page_is_answered_as_it_says() {
    let database = TestDatabase::create().await;
    let mut connection = sqlx::PgConnection::connect(database.url()).await.unwrap();
    let mut tried = 0;
    for block in blocks() {
        let sqlite = rusqlite::Connection::open_in_memory().unwrap();
        for (statement, answers) in block {
            let found =
                [in_sqlite(&sqlite, statement), in_postgres(&mut connection, statement).await];
            if let Some((one, other)) = answers {
                assert_eq!(found, [one, other], "{statement}");
                tried += 1;
            } else {
                assert!(!found.contains(&"error".to_owned()), "{statement}: {found:?}");
            }
        }
        connection.execute("DROP TABLE IF EXISTS t").await.unwrap();
    }
    assert!(tried > 40, "{tried} examples");
}
