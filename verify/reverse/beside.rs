//! A verification beside changes that are captured in Postgres and not written back yet.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use tokio::sync::Mutex;
use toolkit::ErrorKind;
use toolkit::capture::reverse::{self, BATCH_CHANGES, Reverse};
use toolkit::interrupt::Stop;
use toolkit::pack::OpenedPack;
use toolkit::parity::{self, Answer, Follower, KeysBySlice, Lag, Options, Report, Settle};

use super::Back;
use crate::support::world::{World, lines};

/// `SQLite`, which follows when it is asked how far it is, or never.
struct Behind {
    reverse: Option<Mutex<Reverse>>,
}

impl std::fmt::Debug for Behind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Behind").finish_non_exhaustive()
    }
}

impl Follower for Behind {
    fn is_source(&self) -> bool {
        true
    }

    fn caught_up<'f>(&'f self, conn: &'f mut PgConnection) -> Answer<'f, Lag> {
        Box::pin(async {
            if let Some(reverse) = &self.reverse {
                reverse.lock().await.catch_up(&Stop::new()).await?;
            }
            let query = "SELECT count(*) FROM toolkit.reverse_log";
            let behind: i64 = sqlx::query_scalar(query).fetch_one(conn).await?;
            let behind = u64::try_from(behind).unwrap();
            Ok(Lag { behind, has_moved: false, is_applied: self.reverse.is_some() })
        })
    }

    fn waiting<'f>(
        &'f self,
        conn: &'f mut PgConnection,
        opened: &'f OpenedPack,
        keys: &'f KeysBySlice,
    ) -> Answer<'f, KeysBySlice> {
        Box::pin(reverse::waiting(conn, &opened.plan, keys))
    }

    fn command(&self) -> String {
        "toolkit dual-write reverse run".to_owned()
    }
}

/// Names a single row, so that what is on its way must not take the place of what differs.
async fn verified(back: &Back, reverse: Option<Reverse>) -> toolkit::Result<Report> {
    let behind = Arc::new(Behind { reverse: reverse.map(Mutex::new) });
    let settle = Settle::Following(behind);
    let options = Options { settle, differences_max: 1, ..Options::default() };
    let opened = back.world.open().await.unwrap();
    parity::verify(&back.world.postgres, opened, &options, &Stop::new()).await
}

const CHANGES: &str = "UPDATE owners SET name = 'Ada L' WHERE id = 1; \
    INSERT INTO owners (id, name, prefs) VALUES (9, 'new', '{}'); \
    DELETE FROM things WHERE code = 'y'; UPDATE things SET code = 'moved' WHERE owner = 2";

#[tokio::test]
async fn changes_that_are_written_back_meanwhile_settle_and_a_real_difference_stays() {
    let back = Back::new().await;
    back.world.sql(CHANGES).await;
    // Nobody captures that.
    back.world.sqlite("UPDATE owners SET name = 'Edsger, here alone' WHERE id = 3");
    let reverse = back.open(BATCH_CHANGES).await.unwrap();
    let report = verified(&back, Some(reverse)).await.unwrap();
    let settling = report.settling.unwrap();
    assert_eq!((settling.differed, settling.settled, settling.waiting), (6, 5, 0), "{settling:?}");
    let found = lines(&report.differences);
    assert_eq!(
        found,
        ["changed public.owners id=3 name: 'Edsger, here alone' -> 'Edsger'"],
        "{report:#?}"
    );
    assert_eq!(report.differing_rows, 1);
    back.world.sqlite("UPDATE owners SET name = 'Edsger' WHERE id = 3");
    back.world.assert_clean().await;
}

#[tokio::test]
async fn changes_that_nobody_writes_back_are_no_differences_and_a_row_changed_in_the_file_is_one() {
    let back = Back::new().await;
    back.world.sql(CHANGES).await;
    let error = verified(&back, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    let said = error.detail();
    assert!(said.starts_with("5 rows are not in SQLite yet as Postgres has them"), "{said}");
    assert!(said.ends_with("nothing writes them back; no other row differs"), "{said}");
    assert!(error.advice_text().unwrap().contains("toolkit dual-write reverse run"), "{error:?}");
    back.world.sqlite("UPDATE owners SET name = 'Edsger, here alone' WHERE id = 3");
    // One that waits as well is on its way, whatever the file holds.
    back.world.sqlite("UPDATE owners SET name = 'Ada, here alone' WHERE id = 1");
    let report = verified(&back, None).await.unwrap();
    let settling = report.settling.unwrap();
    assert_eq!((settling.differed, settling.settled, settling.waiting), (6, 0, 5), "{settling:?}");
    let found = lines(&report.differences);
    let real = ["changed public.owners id=3 name: 'Edsger, here alone' -> 'Edsger'"];
    assert_eq!((found.as_slice(), report.differing_rows), (real.map(str::to_owned).as_slice(), 1));
    back.catch_up().await;
    let report = verified(&back, None).await.unwrap();
    assert_eq!(lines(&report.differences), real);
}

#[tokio::test]
async fn a_limit_of_time_settles_in_the_same_way() {
    let back = Back::new().await;
    back.world.sql(CHANGES).await;
    back.world.sqlite("UPDATE owners SET name = 'Edsger, here alone' WHERE id = 3");
    let behind = Arc::new(Behind { reverse: None });
    let settle = Settle::FollowingFor(behind, Duration::ZERO);
    let options = Options { settle, ..Options::default() };
    let report = back.world.verify_with(&options).await;
    let settling = report.settling.unwrap();
    assert_eq!((settling.waiting, report.differing_rows), (5, 1), "{settling:?}");
}

/// Keys of every type that rows are found by, and values that look like something else.
const ODD: (&str, &str, &str) = (
    "[pack]\nname = 'mine'\nversion = 1\n[[stream]]\nname = 'odd'\n\
     source = { sqlite = 'app.sqlite', table = 'odd' }\ntarget = 'public.odd'\n\
     key = ['t', 'n', 'u', 'b', 'raw']\n",
    "CREATE TABLE odd (t varchar(40), n int8, u uuid, b bool, raw bytea, note text, \
     PRIMARY KEY (t, n, u, b, raw))",
    "CREATE TABLE odd (t TEXT, n INTEGER, u TEXT, b INTEGER, raw BLOB, note TEXT, \
     PRIMARY KEY (t, n, u, b, raw)); \
     INSERT INTO odd VALUES \
     ('NULL', 9223372036854775807, '00000000-0000-0000-0000-00000000000a', 1, x'00ff', 'a'), \
     ('', -9223372036854775808, '00000000-0000-0000-0000-00000000000b', 0, x'', 'b'), \
     ('{\"a\\,'' b}', 0, '00000000-0000-0000-0000-00000000000c', 0, x'5c78', 'c'), \
     ('Same', 1, '00000000-0000-0000-0000-00000000000d', 0, x'01', 'd'), \
     ('same', 1, '00000000-0000-0000-0000-00000000000d', 0, x'01', 'e')",
);

#[tokio::test]
async fn odd_keys_wait_under_the_digests_that_verifications_know_them_by() {
    let back = Back::over(World::own(ODD.0, ODD.1, ODD.2).await).await;
    back.world
        .sql(
            "SET bytea_output = 'escape'; SET datestyle = 'SQL, DMY'; \
             UPDATE odd SET note = 'changed' WHERE note IN ('a', 'b', 'c'); \
             UPDATE odd SET raw = '\\x0102' WHERE note = 'd'; \
             DELETE FROM odd WHERE note = 'e'",
        )
        .await;
    let error = verified(&back, None).await.unwrap_err();
    assert!(error.detail().starts_with("6 rows are not in SQLite yet"), "{error}");
    let applied = back.catches_up_clean().await;
    assert_eq!((applied.updated, applied.deleted), (4, 1), "{applied:?}");
}
