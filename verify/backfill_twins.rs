//! Two different records under one key, without a rule that says which is right.

use std::fs;

use sqlx::Executor as _;

use crate::support::TestDatabase;
use crate::user_pack::run;

#[tokio::test]
async fn the_later_of_two_different_records_of_one_key_is_refused_whatever_the_chunks() {
    for records in ["1", "2", "1000"] {
        let database = TestDatabase::create().await;
        let pool = database.pool().await;
        pool.execute("CREATE TABLE public.note (id text PRIMARY KEY, body text)")
            .await
            .expect("table");
        let folder = database.folder().join("notes");
        fs::create_dir_all(&folder).expect("folder");
        let pack = "[pack]\nname = \"notes\"\nversion = 1\n[[stream]]\nname = \"notes\"\n\
                    source = { csv = \"notes.csv\" }\ntarget = \"note\"\nkey = [\"id\"]\n";
        fs::write(folder.join("pack.toml"), pack).expect("pack.toml");
        fs::write(folder.join("notes.csv"), "id,body\na,first\nb,other\nc,third\na,second\n")
            .expect("csv");
        let (pack, source) = (folder.to_str().expect("UTF-8"), folder.join("notes.csv"));
        let source = source.to_str().expect("UTF-8");
        run(&database, &["migrate", "up", "--pack", "unified"]);
        for round in ["first load", "second run"] {
            let arguments =
                ["backfill", "--pack", pack, "--source", source, "--chunk-records", records];
            let ran = run(&database, &arguments);
            assert_eq!(ran.status.code(), Some(1), "{round} by {records}: {ran:?}");
            let body: String = sqlx::query_scalar("SELECT body FROM public.note WHERE id = 'a'")
                .fetch_one(&pool)
                .await
                .expect("row");
            assert_eq!(body, "first", "{round} by {records}");
            let refused: Vec<(String, String)> = sqlx::query_as(
                "SELECT reason, locator FROM toolkit.reject WHERE pack = 'notes' AND state = 'open'",
            )
            .fetch_all(&pool)
            .await
            .expect("rejects");
            assert_eq!(refused, [("duplicate_key".to_owned(), "line 5".to_owned())], "{round}");
            let verified = run(&database, &["verify-parity", "--pack", pack, "--source", source]);
            assert_eq!(verified.status.code(), Some(0), "{round} by {records}: {verified:?}");
        }
    }
}
