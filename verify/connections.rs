//! Sessions are what the toolkit's promises rest on.

use sqlx::{Connection, Executor, PgConnection};
use toolkit::store::{Postgres, VERSION_NUM_MIN, quote_ident, quote_qualified, sql};

use crate::support::TestDatabase;

#[tokio::test]
async fn sessions_are_pinned_whatever_the_database_would_have_them_be() {
    let database = TestDatabase::create().await;
    let pool = database.pool().await;
    let name: String =
        sqlx::query_scalar("SELECT current_database()").fetch_one(&pool).await.unwrap();
    for setting in [
        "timezone TO 'Asia/Tokyo'",
        "search_path TO 'evil'",
        "extra_float_digits TO -15",
        "datestyle TO 'SQL, DMY'",
        "bytea_output TO 'escape'",
        "statement_timeout TO '1min'",
        "row_security TO on",
        "idle_in_transaction_session_timeout TO '10s'",
        "default_transaction_isolation TO 'serializable'",
        "transform_null_equals TO on",
    ] {
        let statement = format!("ALTER DATABASE {} SET {setting}", quote_ident(&name));
        pool.execute(sql(statement)).await.unwrap();
    }
    pool.close().await;

    let mut settings = database.settings();
    settings.lock_timeout_ms = 1_234;
    let postgres = Postgres::connect(&settings).await.unwrap();
    assert!(postgres.server_version_num() >= VERSION_NUM_MIN);
    let mut dedicated = postgres.dedicated().await.unwrap();
    let mut pooled = postgres.pool().acquire().await.unwrap();
    for connection in [&mut *pooled, &mut dedicated] {
        for (setting, value) in [
            ("application_name", "toolkit"),
            ("client_encoding", "UTF8"),
            ("TimeZone", "UTC"),
            ("DateStyle", "ISO, MDY"),
            ("extra_float_digits", "1"),
            ("bytea_output", "hex"),
            ("search_path", "public, pg_temp"),
            ("row_security", "off"),
            ("statement_timeout", "0"),
            ("lock_timeout", "1234ms"),
            ("standard_conforming_strings", "on"),
            ("idle_in_transaction_session_timeout", "0"),
            ("default_transaction_isolation", "read committed"),
            ("transform_null_equals", "off"),
        ] {
            assert_eq!(show(connection, setting).await, value, "{setting}");
        }
        if postgres.server_version_num() >= 140_000 {
            assert_eq!(show(connection, "idle_session_timeout").await, "0");
            let noticed = show(connection, "client_connection_check_interval").await;
            let is_linux = show_version(connection).await.contains("linux");
            assert_eq!(noticed == "1s", is_linux, "a killed client is not noticed: {noticed}");
        }
    }
    let mut listener = postgres.connector().listen("any").await.unwrap();
    for (setting, value) in
        [("application_name", "toolkit"), ("statement_timeout", "0"), ("lock_timeout", "1234ms")]
    {
        let found: String = sqlx::query_scalar("SELECT current_setting($1)")
            .bind(setting)
            .fetch_one(&mut listener)
            .await
            .unwrap();
        assert_eq!(found, value, "{setting} of a session that listens");
    }
    drop(listener);
    drop(pooled);
    dedicated.close().await.unwrap();
    postgres.close().await.unwrap();
}

#[test]
fn sessions_are_made_in_one_place_that_sets_their_limits_and_their_name() {
    let mut folders = vec![std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !path.ends_with("store/postgres.rs")
            {
                let text = std::fs::read_to_string(&path).unwrap();
                for way in ["PgPoolOptions", "PgConnection::connect", "PgPool::connect"] {
                    assert!(!text.contains(way), "{}: {way}", path.display());
                }
                files += 1;
            }
        }
    }
    assert!(files > 100);
}

async fn show(connection: &mut PgConnection, setting: &str) -> String {
    sqlx::query_scalar("SELECT current_setting($1)")
        .bind(setting)
        .fetch_one(connection)
        .await
        .unwrap()
}

async fn show_version(connection: &mut PgConnection) -> String {
    sqlx::query_scalar("SELECT version()").fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn quoted_names_come_back_from_the_server_as_they_went_in() {
    let database = TestDatabase::create().await;
    let pool = database.pool().await;
    for name in ["plain", "Upper Case", "a\"b", "\"\"", "select", "x;--", "é\u{1F600}", "$1", "\\"]
    {
        let create = format!("CREATE TABLE {} ()", quote_qualified("public", name));
        pool.execute(sql(create)).await.unwrap();
        let found: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = 'public' AND tablename = $1)",
        )
        .bind(name)
        .fetch_one(&pool)
        .await
        .unwrap();
        assert!(found, "{name}");
    }
    let refused = format!("CREATE TABLE {} ()", quote_ident("a\0b"));
    let error = pool.execute(sql(refused)).await.unwrap_err();
    assert!(error.to_string().contains("zero-length delimited identifier"), "{error}");
}
