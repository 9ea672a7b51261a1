//! Migrations that cannot run in a transaction: one statement at a time, each marked before and
//! after, so that an interrupted one is found and mended.

use std::time::Duration;

use sha2::{Digest, Sha256};
use sqlx::PgConnection;

use super::lexer::{Statement, Token};
use super::set::Migration;
use crate::store::{quote_ident, quote_qualified, sql};
use crate::{Error, ErrorKind, Result};

/// Bound on the lock waits of a `CONCURRENTLY` statement. It waits for older transactions, which
/// blocks nobody, so it may take longer than other statements.
const CONCURRENT_LOCK_TIMEOUT: Duration = Duration::from_mins(10);

/// Runs the statements of `migration` that are not done yet.
pub(super) async fn run(
    connection: &mut PgConnection,
    pack: &str,
    migration: &Migration,
    lock_timeout: Duration,
) -> Result<()> {
    for (index, statement) in migration.statements().iter().enumerate() {
        let number = i32::try_from(index + 1).unwrap_or(i32::MAX);
        let step = Step { pack, migration, number, statement };
        step.run(connection, lock_timeout).await?;
    }
    Ok(())
}

struct Step<'a> {
    pack: &'a str,
    migration: &'a Migration,
    number: i32,
    statement: &'a Statement,
}

impl Step<'_> {
    async fn run(&self, connection: &mut PgConnection, lock_timeout: Duration) -> Result<()> {
        let index = ConcurrentIndex::parse(self)?;
        let mark = self.mark(connection).await?;
        if mark == Mark::Done {
            return Ok(());
        }
        if let Some(index) = &index {
            let is_complete = index.recover(connection, self, mark != Mark::None).await?;
            if is_complete && mark == (Mark::Pending { same_text: true }) {
                return self.mark_done(connection).await;
            }
        }
        self.mark_pending(connection).await?;
        let is_concurrent = self.statement.tokens.iter().any(|token| token.is("concurrently"));
        let limit = if is_concurrent { CONCURRENT_LOCK_TIMEOUT } else { lock_timeout };
        let before = set_lock_timeout(connection, &limit.as_millis().to_string()).await?;
        let outcome = execute(connection, self.statement.text.clone()).await;
        // Also when it failed: the caller's connection keeps no limit of ours.
        let reset = set_lock_timeout(connection, &before).await;
        outcome.map_err(|error| self.failure(error, mark != Mark::None))?;
        reset?;
        self.mark_done(connection).await
    }

    fn digest(&self) -> Vec<u8> {
        Sha256::digest(self.statement.text.as_bytes()).to_vec()
    }

    fn place(&self) -> String {
        format!("pack {}: {}, statement {}", self.pack, self.migration.file_name, self.number)
    }

    /// What an earlier run left of this step.
    async fn mark(&self, connection: &mut PgConnection) -> Result<Mark> {
        let row: Option<(bool, Vec<u8>)> = sqlx::query_as(
            "SELECT state = 'done', statement_sha256 FROM toolkit.migration_step \
             WHERE pack = $1 AND version = $2 AND step = $3",
        )
        .bind(self.pack)
        .bind(self.migration.version())
        .bind(self.number)
        .fetch_optional(connection)
        .await?;
        match row {
            None => Ok(Mark::None),
            Some((false, digest)) => Ok(Mark::Pending { same_text: digest == self.digest() }),
            Some((true, digest)) if digest == self.digest() => Ok(Mark::Done),
            Some((true, _)) => Err(Error::new(
                ErrorKind::Migration,
                format!("{}: it was run with another text than it has now", self.place()),
            )
            .advice("restore the statement as it was run; put changes after the ones that ran")),
        }
    }

    async fn mark_pending(&self, connection: &mut PgConnection) -> Result<()> {
        sqlx::query(
            "INSERT INTO toolkit.migration_step (pack, version, step, statement_sha256, state) \
             VALUES ($1, $2, $3, $4, 'pending') \
             ON CONFLICT (pack, version, step) DO UPDATE \
             SET statement_sha256 = excluded.statement_sha256, started_at = now()",
        )
        .bind(self.pack)
        .bind(self.migration.version())
        .bind(self.number)
        .bind(self.digest())
        .execute(connection)
        .await?;
        Ok(())
    }

    async fn mark_done(&self, connection: &mut PgConnection) -> Result<()> {
        sqlx::query(
            "UPDATE toolkit.migration_step SET state = 'done', finished_at = now() \
             WHERE pack = $1 AND version = $2 AND step = $3",
        )
        .bind(self.pack)
        .bind(self.migration.version())
        .bind(self.number)
        .execute(connection)
        .await?;
        Ok(())
    }

    /// Names the statement; the kind stays, since it decides whether it is tried again.
    fn failure(&self, error: sqlx::Error, begun_before: bool) -> Error {
        let is_refusal = matches!(error, sqlx::Error::Database(_));
        let mut error = Error::from(error);
        if error.kind() == ErrorKind::StoreFailed && is_refusal {
            error = Error::new(ErrorKind::Migration, error.detail()).because(error);
        }
        let advice = if begun_before {
            "an earlier run began this statement and may have finished it: make it bear being run \
             twice (IF [NOT] EXISTS)"
        } else {
            "earlier statements of this file stay; mend this one and run the command again"
        };
        error.context(self.place()).advice(advice)
    }
}

async fn execute(connection: &mut PgConnection, text: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(sql(text)).execute(connection).await.map(|_| ())
}

/// Sets the session's `lock_timeout`, returning what it was.
async fn set_lock_timeout(
    connection: &mut PgConnection,
    limit: &str,
) -> Result<String, sqlx::Error> {
    let before = sqlx::query_scalar("SELECT pg_catalog.current_setting('lock_timeout')")
        .fetch_one(&mut *connection)
        .await?;
    sqlx::query("SELECT pg_catalog.set_config('lock_timeout', $1, false)")
        .bind(limit)
        .execute(connection)
        .await?;
    Ok(before)
}

/// What `toolkit.migration_step` says of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    None,
    Pending { same_text: bool },
    Done,
}

/// The names in a `CREATE INDEX CONCURRENTLY`.
struct ConcurrentIndex {
    index: String,
    table: String,
}

impl ConcurrentIndex {
    fn parse(step: &Step<'_>) -> Result<Option<Self>> {
        let tokens: Vec<&Token> =
            step.statement.tokens.iter().filter(|token| !token.is("unique")).collect();
        let [create, index, concurrently, rest @ ..] = tokens.as_slice() else { return Ok(None) };
        if !(create.is("create") && index.is("index") && concurrently.is("concurrently")) {
            return Ok(None);
        }
        let rest = match rest {
            [i, n, e, rest @ ..] if i.is("if") && n.is("not") && e.is("exists") => rest,
            rest => rest,
        };
        let named = match rest {
            [name, on, rest @ ..] if !name.is("on") && on.is("on") => name_of(name).zip(Some(rest)),
            _ => None,
        };
        let Some((index, rest)) = named else {
            return Err(Error::new(
                ErrorKind::Migration,
                format!("{}: the index has no name", step.place()),
            )
            .advice("name it: an interrupted build is found again by its name"));
        };
        let rest =
            if rest.first().is_some_and(|token| token.is("only")) { &rest[1..] } else { rest };
        let table: Option<String> = match rest {
            [schema, Token::Symbol('.'), table, ..] => name_of(schema)
                .zip(name_of(table))
                .map(|(schema, table)| quote_qualified(&schema, &table)),
            [table, ..] => name_of(table).map(|table| quote_ident(&table)),
            [] => None,
        };
        // Without a table the server refuses the statement, with a better message than ours.
        Ok(table.map(|table| Self { index, table }))
    }

    /// Drops what an interrupted build left; true where the index is there and usable. `ours`: this
    /// migration began the build before.
    async fn recover(
        &self,
        connection: &mut PgConnection,
        step: &Step<'_>,
        ours: bool,
    ) -> Result<bool> {
        let state: Option<(String, bool)> =
            sqlx::query_as(include_str!("../sql/migration_index_state.sql"))
                .bind(&self.index)
                .bind(&self.table)
                .fetch_optional(&mut *connection)
                .await?;
        match state {
            None => Ok(false),
            Some((_, true)) => Ok(true),
            Some((name, false)) if ours => {
                tracing::warn!(
                    index = name,
                    "dropping the invalid index an interrupted build left"
                );
                let drop = format!("DROP INDEX CONCURRENTLY IF EXISTS {name}");
                execute(connection, drop).await?;
                Ok(false)
            }
            Some((name, false)) => Err(Error::new(
                ErrorKind::Migration,
                format!("{}: {name} exists, invalid, and not from this migration", step.place()),
            )
            .advice(format!(
                "if nobody is building it now, drop it: DROP INDEX CONCURRENTLY {name}"
            ))),
        }
    }
}

fn name_of(token: &Token) -> Option<String> {
    match token {
        Token::Word(name) | Token::Quoted(name) => Some(name.clone()),
        _ => None,
    }
}
