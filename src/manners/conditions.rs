//! Conditions that a run waits for, each asked with little cost and a short limit.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use sqlx::TypeInfo as _;
use sqlx::postgres::PgConnection;
use sqlx::{
    Column as _, Connection as _, Executor as _, Row as _, SqlSafeStr as _, Statement as _,
};

use super::Manners;
use super::lag::Lag;
use crate::error::{Error, ErrorKind, Result};
use crate::store::sql;

/// How long a condition's query may take.
const ANSWER_MS_MAX: u32 = 2_000;

/// Why a run waits.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cause {
    /// `toolkit run pause`.
    Asked { by: String, at: String, run: String },
    /// The file is there.
    File(PathBuf),
    /// Too many others work.
    Load { active: i64, most: u32 },
    /// A replica is too far behind.
    Lag { replica: String, behind: Duration, most: Duration },
    /// The query said true.
    While,
    /// It could not be found out, so it waits.
    Unknown { option: &'static str, why: String },
}

impl Cause {
    /// What stays the same while numbers change.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Asked { .. } => "run pause",
            Self::File(_) => "--pause-file",
            Self::Load { .. } => "--max-load",
            Self::Lag { .. } => "--max-lag",
            Self::While => "--pause-while",
            Self::Unknown { .. } => "unknown",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked { by, at, run } => {
                write!(f, "asked for by {by} at {at}; `toolkit run resume {run}` lets it go on")
            }
            Self::File(path) => write!(f, "--pause-file {} is there", path.display()),
            Self::Load { active, most } => {
                let plural = if *active == 1 { "" } else { "s" };
                write!(f, "{active} active backend{plural}, --max-load {most}")
            }
            Self::Lag { replica, behind, most } => {
                let (behind, most) = (behind.as_secs_f64(), most.as_secs_f64());
                write!(f, "replica {replica} is {behind:.1} s behind, --max-lag {most} s")
            }
            Self::While => f.write_str("--pause-while says true"),
            Self::Unknown { option, why } => write!(f, "{option} could not be answered: {why}"),
        }
    }
}

impl Manners {
    /// Refuses what cannot be asked: a query that fails or says no boolean, a role that does not
    /// see what others do. Changes nothing.
    pub async fn check(&self, conn: &mut PgConnection) -> Result<()> {
        let option = match (&self.max_load, &self.max_lag) {
            (Some(_), _) => Some("--max-load"),
            (_, Some(_)) => Some("--max-lag"),
            _ => None,
        };
        if let Some(option) = option {
            require_sight(conn, option).await?;
        }
        if let Some(query) = &self.pause_while {
            ask(conn, query).await.map_err(|error| refused(query, error))?;
        }
        Ok(())
    }

    /// Why to wait now; nothing: go on.
    pub(super) async fn causes(
        &self,
        conn: &mut PgConnection,
        lag: &mut Lag,
    ) -> Result<Vec<Cause>> {
        let mut causes = Vec::new();
        if let Some(path) = &self.pause_file {
            match path.try_exists() {
                Ok(true) => causes.push(Cause::File(path.clone())),
                Ok(false) => {}
                Err(error) => {
                    causes.push(Cause::Unknown { option: "--pause-file", why: error.to_string() });
                }
            }
        }
        if let Some(most) = self.max_load {
            let active = active_backends(conn).await?;
            if active > i64::from(most) {
                causes.push(Cause::Load { active, most });
            }
        }
        if let Some(most) = self.max_lag
            && let Some((replica, behind)) = lag.largest(conn).await?
            && behind > most
        {
            causes.push(Cause::Lag { replica, behind, most });
        }
        if let Some(query) = &self.pause_while {
            match ask(conn, query).await {
                Ok(true) => causes.push(Cause::While),
                Ok(false) => {}
                Err(error) if error.kind().is_transient() => return Err(error),
                Err(error) => causes.push(Cause::Unknown {
                    option: "--pause-while",
                    why: error.detail().to_owned(),
                }),
            }
        }
        Ok(causes)
    }
}

/// Other people's sessions show what they do only to some.
async fn require_sight(conn: &mut PgConnection, option: &str) -> Result<()> {
    let (sees, role): (bool, String) = sqlx::query_as(
        "SELECT pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'), \
         current_user::text",
    )
    .fetch_one(conn)
    .await?;
    if sees {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::StoreDenied,
        format!("{option}: the role {role} does not see what other sessions do"),
    )
    .advice(format!("GRANT pg_read_all_stats TO {}", crate::store::quote_ident(&role))))
}

/// Sessions of the whole server that work at this moment, but for the toolkit's own.
async fn active_backends(conn: &mut PgConnection) -> Result<i64> {
    Ok(sqlx::query_scalar(include_str!("../sql/manners/active_backends.sql"))
        .fetch_one(conn)
        .await?)
}

/// Asks a query of one boolean, in a transaction that can change nothing. NULL and no row: false.
async fn ask(conn: &mut PgConnection, query: &str) -> Result<bool> {
    let mut transaction = conn.begin().await?;
    let limit = format!("SET LOCAL statement_timeout = {ANSWER_MS_MAX}");
    sqlx::raw_sql(sql(limit)).execute(&mut *transaction).await?;
    sqlx::raw_sql("SET TRANSACTION READ ONLY").execute(&mut *transaction).await?;
    let said = answer(&mut transaction, query).await;
    // Where the session is lost, the next question finds out.
    let _ = transaction.rollback().await;
    said
}

async fn answer(conn: &mut PgConnection, query: &str) -> Result<bool> {
    let statement = (&mut *conn).prepare(sql(query.to_owned()).into_sql_str()).await?;
    let types: Vec<&str> =
        statement.columns().iter().map(|column| column.type_info().name()).collect();
    if types != ["BOOL"] {
        let found = if types.is_empty() { "nothing".to_owned() } else { types.join(", ") };
        return Err(Error::new(ErrorKind::Usage, format!("it returns {found}, not one boolean")));
    }
    let rows = statement.query().fetch_all(conn).await?;
    match rows.as_slice() {
        [] => Ok(false),
        [row] => Ok(row.try_get::<Option<bool>, _>(0)?.unwrap_or(false)),
        _ => Err(Error::new(ErrorKind::Usage, format!("it returns {} rows, not one", rows.len()))),
    }
}

fn refused(query: &str, error: Error) -> Error {
    if error.kind().is_transient() {
        return error;
    }
    Error::new(ErrorKind::Usage, format!("--pause-while `{query}`: {}", error.detail())).advice(
        "give one query that returns one boolean within 2 s and changes nothing, with names that \
         have their schema: SELECT EXISTS (SELECT FROM public.jobs WHERE state = 'running')",
    )
}
