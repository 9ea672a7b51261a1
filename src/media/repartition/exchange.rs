//! New partitions beside the old one, the triggers that keep them, and the exchange.

use std::time::Duration;

use rand::Rng as _;
use sqlx::{Connection as _, PgConnection, Row as _};

use super::catalog::{NAME, PartitionSplit, SCHEMA, columns};
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::store::{quote_ident, quote_literal, quote_qualified, sql};

/// A lock that is asked for keeps others waiting behind it: not longer than this.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '500ms'";

/// Tries for a lock.
const TRIES_MAX: u32 = 120;

/// The trigger on the old partition, and the end of its function's name.
const TRIGGER: &str = "toolkit_split";

/// Runs `work` in a transaction that waits half a second for a lock, as often as it takes.
pub(super) async fn locked<T>(
    conn: &mut PgConnection,
    split: &PartitionSplit,
    stop: &Stop,
    work: impl AsyncFn(&mut PgConnection) -> Result<T>,
) -> Result<T> {
    let mut tries = 0;
    loop {
        let mut transaction = conn.begin().await?;
        let tried = async {
            sqlx::raw_sql(LOCK_TIMEOUT).execute(&mut *transaction).await?;
            work(&mut transaction).await
        };
        let error = match tried.await {
            Ok(done) => {
                transaction.commit().await?;
                return Ok(done);
            }
            Err(error) => error,
        };
        transaction.rollback().await?;
        tries += 1;
        if error.kind() != ErrorKind::StoreConflict || tries >= TRIES_MAX {
            return Err(error.context(&split.partition));
        }
        let pause_ms = rand::rng().random_range(50..400);
        stop.unless(async {
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            Ok(())
        })
        .await?;
    }
}

async fn execute(conn: &mut PgConnection, statement: String) -> Result<()> {
    sqlx::raw_sql(sql(statement)).execute(conn).await?;
    Ok(())
}

/// Removes what an earlier try left beside the partition. Tables that are attached are none of it.
pub(super) async fn clear(
    conn: &mut PgConnection,
    split: &PartitionSplit,
    stop: &Stop,
) -> Result<()> {
    let function = quote_qualified(SCHEMA, &format!("{}_{TRIGGER}", split.staging()));
    locked(conn, split, stop, async |transaction| {
        let is_there: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
            .bind(split.quoted())
            .fetch_one(&mut *transaction)
            .await?;
        if is_there {
            for trigger in [TRIGGER.to_owned(), format!("{TRIGGER}_truncate")] {
                let trigger = quote_ident(&trigger);
                let statement = format!("DROP TRIGGER IF EXISTS {trigger} ON {}", split.quoted());
                execute(transaction, statement).await?;
            }
        }
        execute(transaction, format!("DROP FUNCTION IF EXISTS {function}()")).await?;
        execute(transaction, format!("DROP TABLE IF EXISTS {}", split.quoted_staging())).await
    })
    .await
}

/// Makes the new partitions below a table of their own, and has every write to the old partition
/// repeated there. The lock of CREATE TRIGGER waits for writers that began before.
pub(super) async fn prepare(
    conn: &mut PgConnection,
    split: &PartitionSplit,
    stop: &Stop,
) -> Result<()> {
    let (columns, others) = columns(conn).await?;
    locked(conn, split, stop, async |transaction| {
        let staging = split.quoted_staging();
        let parent = quote_qualified(SCHEMA, NAME);
        execute(
            transaction,
            format!(
                "CREATE TABLE {staging} (LIKE {parent} INCLUDING DEFAULTS, \
                 PRIMARY KEY (user_id, media_id)) PARTITION BY HASH (user_id)"
            ),
        )
        .await?;
        for remainder in &split.remainders {
            let leaf = split.quoted_leaf(*remainder);
            execute(
                transaction,
                format!(
                    "CREATE TABLE {leaf} (LIKE {parent} INCLUDING ALL); \
                     ALTER TABLE {staging} ATTACH PARTITION {leaf} \
                     FOR VALUES WITH (MODULUS {}, REMAINDER {remainder})",
                    split.new_modulus
                ),
            )
            .await?;
        }
        execute(transaction, mirror(split, &columns, &others)?).await
    })
    .await
}

/// The function and the triggers that repeat a write. They fire in every session, replication's too.
fn mirror(split: &PartitionSplit, columns: &[String], others: &[String]) -> Result<String> {
    let staging = split.quoted_staging();
    let function = quote_qualified(SCHEMA, &format!("{}_{TRIGGER}", split.staging()));
    let set: Vec<String> =
        others.iter().map(|column| format!("{column} = EXCLUDED.{column}")).collect();
    let new: Vec<String> = columns.iter().map(|column| format!("NEW.{column}")).collect();
    let body = format!(
        "BEGIN
             IF TG_OP = 'TRUNCATE' THEN
                 TRUNCATE {staging};
                 RETURN NULL;
             END IF;
             IF TG_OP <> 'INSERT' THEN
                 DELETE FROM {staging} WHERE user_id = OLD.user_id AND media_id = OLD.media_id
                    AND (TG_OP = 'DELETE' OR (OLD.user_id, OLD.media_id)
                                             IS DISTINCT FROM (NEW.user_id, NEW.media_id));
             END IF;
             IF TG_OP <> 'DELETE' THEN
                 INSERT INTO {staging} ({columns}) VALUES ({new})
                     ON CONFLICT (user_id, media_id) DO UPDATE SET {set};
             END IF;
             RETURN NULL;
         END",
        columns = columns.join(", "),
        new = new.join(", "),
        set = set.join(", "),
    );
    let (table, row, truncate) =
        (split.quoted(), quote_ident(TRIGGER), quote_ident(&format!("{TRIGGER}_truncate")));
    Ok(format!(
        "CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
             SET search_path = pg_catalog AS {body};
         CREATE TRIGGER {row} AFTER INSERT OR UPDATE OR DELETE ON {table}
             FOR EACH ROW EXECUTE FUNCTION {function}();
         CREATE TRIGGER {truncate} AFTER TRUNCATE ON {table}
             FOR EACH STATEMENT EXECUTE FUNCTION {function}();
         ALTER TABLE {table} ENABLE ALWAYS TRIGGER {row};
         ALTER TABLE {table} ENABLE ALWAYS TRIGGER {truncate}",
        body = quote_literal(&body)?,
    ))
}

/// Foreign keys and statistics, while nobody waits: ATTACH takes over keys that are there and valid.
/// They come after the copy, whose row locks and theirs could wait for each other.
pub(super) async fn constrain(
    conn: &mut PgConnection,
    split: &PartitionSplit,
    stop: &Stop,
) -> Result<()> {
    let keys = sqlx::query(
        "SELECT conname::text, pg_get_constraintdef(oid) FROM pg_constraint \
         WHERE conrelid = ($1 || '.' || $2)::regclass AND contype = 'f' ORDER BY conname",
    )
    .bind(quote_ident(SCHEMA))
    .bind(quote_ident(NAME))
    .fetch_all(&mut *conn)
    .await?;
    for remainder in &split.remainders {
        let leaf = split.quoted_leaf(*remainder);
        for key in &keys {
            let (name, definition): (String, String) = (key.try_get(0)?, key.try_get(1)?);
            let name = quote_ident(&name);
            locked(conn, split, stop, async |transaction| {
                let add =
                    format!("ALTER TABLE {leaf} ADD CONSTRAINT {name} {definition} NOT VALID");
                execute(transaction, add).await
            })
            .await?;
            execute(conn, format!("ALTER TABLE {leaf} VALIDATE CONSTRAINT {name}")).await?;
        }
        execute(conn, format!("ANALYZE {leaf}")).await?;
    }
    Ok(())
}

/// Puts the new partitions in the old one's place.
pub(super) async fn swap(
    conn: &mut PgConnection,
    split: &PartitionSplit,
    stop: &Stop,
) -> Result<()> {
    let parent = quote_qualified(SCHEMA, NAME);
    let (old, staging) = (split.quoted(), split.quoted_staging());
    let function = quote_qualified(SCHEMA, &format!("{}_{TRIGGER}", split.staging()));
    locked(conn, split, stop, async |transaction| {
        execute(
            transaction,
            format!("LOCK TABLE ONLY {parent}, ONLY {old} IN ACCESS EXCLUSIVE MODE"),
        )
        .await?;
        let (before, after): (i64, i64) = {
            let counts = format!(
                "SELECT (SELECT count(*) FROM ONLY {old}), (SELECT count(*) FROM {staging})"
            );
            let row = sqlx::query(sql(counts)).fetch_one(&mut *transaction).await?;
            (row.try_get(0)?, row.try_get(1)?)
        };
        if before != after {
            let detail = format!("{} has {before} rows, its copy {after}", split.partition);
            return Err(Error::new(ErrorKind::StoreFailed, detail)
                .advice("nothing was exchanged; run the command again"));
        }
        for remainder in &split.remainders {
            let leaf = split.quoted_leaf(*remainder);
            execute(transaction, format!("ALTER TABLE {staging} DETACH PARTITION {leaf}")).await?;
        }
        execute(transaction, format!("ALTER TABLE {parent} DETACH PARTITION {old}")).await?;
        execute(transaction, format!("DROP TABLE {old}; DROP TABLE {staging}")).await?;
        execute(transaction, format!("DROP FUNCTION {function}()")).await?;
        for remainder in &split.remainders {
            let leaf = split.quoted_leaf(*remainder);
            let name = quote_ident(&format!("{NAME}_p{remainder}"));
            execute(
                transaction,
                format!(
                    "ALTER TABLE {leaf} RENAME TO {name}; \
                     ALTER TABLE {parent} ATTACH PARTITION {} \
                     FOR VALUES WITH (MODULUS {}, REMAINDER {remainder})",
                    quote_qualified(SCHEMA, &format!("{NAME}_p{remainder}")),
                    split.new_modulus
                ),
            )
            .await?;
        }
        Ok(())
    })
    .await
}
