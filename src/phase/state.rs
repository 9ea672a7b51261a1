//! `toolkit.phase` and `toolkit.phase_transition`: reading them, and the one way to change them.

use std::fmt;

use serde::Serialize;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection as _, Row as _};

use crate::error::{Error, ErrorKind, Result};
use crate::operator::user_at_host;

/// Every change of phase or route sends a notification there, with the pack's name.
pub const CHANNEL: &str = "toolkit_phase";

/// Where a pack stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// 0: the target's schema is being made.
    Bootstrap,
    /// 1: changes in `SQLite` are captured and applied to Postgres.
    DualWrite,
    /// 2: history is copied and compared.
    Backfill,
    /// 3: Postgres is primary; what is written there is applied back to `SQLite`.
    Cutover,
    /// 4: `SQLite` is sealed.
    Decommissioned,
}

impl Phase {
    /// Every phase, in order.
    pub const ALL: [Self; 5] =
        [Self::Bootstrap, Self::DualWrite, Self::Backfill, Self::Cutover, Self::Decommissioned];

    /// As stored: 0 to 4.
    #[must_use]
    pub fn number(self) -> i16 {
        match self {
            Self::Bootstrap => 0,
            Self::DualWrite => 1,
            Self::Backfill => 2,
            Self::Cutover => 3,
            Self::Decommissioned => 4,
        }
    }

    /// The phase of that number.
    pub fn of_number(number: i16) -> Result<Self> {
        usize::try_from(number).ok().and_then(|at| Self::ALL.get(at).copied()).ok_or_else(|| {
            Error::new(ErrorKind::Bug, format!("toolkit.phase holds the phase {number}"))
        })
    }

    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bootstrap => "bootstrap",
            Self::DualWrite => "dual-write",
            Self::Backfill => "backfill",
            Self::Cutover => "read cutover",
            Self::Decommissioned => "decommission",
        }
    }

    /// The store that is primary in it.
    #[must_use]
    pub fn route(self) -> Route {
        if self >= Self::Cutover { Route::Postgres } else { Route::Sqlite }
    }

    /// The phase after it.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| *phase > self)
    }

    /// The phase before it.
    #[must_use]
    pub fn previous(self) -> Option<Self> {
        Self::ALL.into_iter().rev().find(|phase| *phase < self)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number(), self.name())
    }
}

/// Which store is primary: the one applications read and write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// `SQLite`, with Postgres following.
    Sqlite,
    /// Postgres, with `SQLite` following.
    Postgres,
}

impl Route {
    /// As stored.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}

/// A pack's phase and route.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct State {
    /// The phase.
    pub phase: Phase,
    /// The primary store.
    pub reads: Route,
    /// Rises with every change of phase or route.
    pub generation: i64,
    /// Since when, RFC 3339 in UTC; None where the pack has never changed its phase.
    pub entered_at: Option<String>,
    /// How long ago by the server's clock, in seconds.
    pub seconds_in_phase: Option<f64>,
}

impl State {
    /// A pack's beginning.
    fn initial() -> Self {
        Self {
            phase: Phase::Bootstrap,
            reads: Route::Sqlite,
            generation: 1,
            entered_at: None,
            seconds_in_phase: None,
        }
    }

    fn of_row(row: &PgRow) -> Result<Self> {
        let reads: String = row.try_get("reads")?;
        Ok(Self {
            phase: Phase::of_number(row.try_get("phase")?)?,
            reads: if reads == Route::Postgres.name() { Route::Postgres } else { Route::Sqlite },
            generation: row.try_get("generation")?,
            entered_at: row.try_get("entered_at")?,
            seconds_in_phase: row.try_get("seconds_in_phase")?,
        })
    }
}

/// Whether the database has the table of phases. Before its migration V8 that was another one, and
/// whoever migrated may have been killed there.
pub(crate) const IS_KNOWN: &str = "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_attribute \
     WHERE attrelid = to_regclass('toolkit.phase') AND attname = 'reads')";

/// A pack's phase and route at this moment; phase 0 where the database knows nothing of it.
pub async fn current(conn: &mut PgConnection, pack: &str) -> Result<State> {
    let known: bool = sqlx::query_scalar(IS_KNOWN).fetch_one(&mut *conn).await?;
    if !known {
        return Ok(State::initial());
    }
    let row = sqlx::query(include_str!("../sql/phase/current.sql"))
        .bind(pack)
        .fetch_optional(conn)
        .await?;
    row.as_ref().map_or_else(|| Ok(State::initial()), State::of_row)
}

/// What a change of phase was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TransitionKind {
    /// Its gate was open.
    Advance,
    /// Back by one.
    Rollback,
    /// Its gate was not open, and somebody said why it goes on all the same.
    Force,
    /// The phase stayed as it was; what a crash left half done was undone or completed.
    Recover,
}

impl TransitionKind {
    /// As stored.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Advance => "advance",
            Self::Rollback => "rollback",
            Self::Force => "force",
            Self::Recover => "recover",
        }
    }
}

/// One change of phase.
#[derive(Debug, Clone, Serialize)]
pub struct Transition {
    /// From.
    pub from: Phase,
    /// To.
    pub to: Phase,
    /// What for.
    pub kind: TransitionKind,
    /// What somebody said about it.
    pub reason: Option<String>,
    /// What was checked and found.
    pub evidence: serde_json::Value,
}

/// Reads a pack's row and keeps it from changing until the transaction ends; makes it where there
/// is none.
pub async fn lock_state(conn: &mut PgConnection, pack: &str) -> Result<State> {
    sqlx::query("INSERT INTO toolkit.phase (pack) VALUES ($1) ON CONFLICT (pack) DO NOTHING")
        .bind(pack)
        .execute(&mut *conn)
        .await?;
    let row = sqlx::query(concat!(include_str!("../sql/phase/current.sql"), " FOR UPDATE"))
        .bind(pack)
        .fetch_one(conn)
        .await?;
    State::of_row(&row)
}

/// Waits until no change of an application is on its way in Postgres (`toolkit.hold_route`), and
/// keeps new ones waiting until the transaction ends. Comes before every other lock: such a change
/// holds the route first and the rows it writes after it.
pub(super) async fn hold_changes(conn: &mut PgConnection, pack: &str) -> Result<()> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('toolkit.route.' || $1, 0))")
        .bind(pack)
        .execute(conn)
        .await?;
    Ok(())
}

/// Changes the phase, and with it the route, in one transaction: state, history, notification.
/// Its commit is the moment the other store becomes primary.
///
/// Refuses with [`ErrorKind::Busy`] where the pack is no longer in `transition.from`.
pub async fn transition(
    conn: &mut PgConnection,
    pack: &str,
    transition: &Transition,
) -> Result<State> {
    let mut transaction = conn.begin().await?;
    let after = transition_in(&mut transaction, pack, transition).await?;
    transaction.commit().await?;
    Ok(after)
}

/// As [`transition`], in a transaction that the caller commits.
pub(super) async fn transition_in(
    conn: &mut PgConnection,
    pack: &str,
    transition: &Transition,
) -> Result<State> {
    hold_changes(conn, pack).await?;
    let before = lock_state(conn, pack).await?;
    if before.phase != transition.from {
        return Err(Error::new(
            ErrorKind::Busy,
            format!(
                "pack {pack} is in phase {}, no longer in {}: somebody else changed it",
                before.phase, transition.from
            ),
        )
        .advice("see `toolkit phase history`, then run the command again"));
    }
    sqlx::query(include_str!("../sql/phase/change.sql"))
        .bind(pack)
        .bind(transition.to.number())
        .bind(transition.to.route().name())
        .bind(transition.from.number())
        .bind(transition.kind.name())
        .bind(user_at_host())
        .bind(&transition.reason)
        .bind(transition.evidence.to_string())
        .execute(&mut *conn)
        .await?;
    sqlx::query("SELECT pg_catalog.pg_notify($1, $2)")
        .bind(CHANNEL)
        .bind(pack)
        .execute(&mut *conn)
        .await?;
    lock_state(conn, pack).await
}

/// A line of a pack's history.
#[derive(Debug, Clone, Serialize)]
pub struct HistoryEntry {
    /// Its number.
    pub id: i64,
    /// From.
    pub from: Phase,
    /// To.
    pub to: Phase,
    /// `advance`, `rollback`, `force` or `recover`.
    pub kind: String,
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
    /// The generation it led to.
    pub generation: i64,
    /// On what evidence.
    pub evidence: serde_json::Value,
}

/// Every change of a pack's phase, oldest first.
pub async fn history(conn: &mut PgConnection, pack: &str) -> Result<Vec<HistoryEntry>> {
    let rows =
        sqlx::query(include_str!("../sql/phase/history.sql")).bind(pack).fetch_all(conn).await?;
    rows.iter()
        .map(|row| {
            let evidence: String = row.try_get("evidence")?;
            Ok(HistoryEntry {
                id: row.try_get("id")?,
                from: Phase::of_number(row.try_get("from_phase")?)?,
                to: Phase::of_number(row.try_get("to_phase")?)?,
                kind: row.try_get("kind")?,
                at: row.try_get("at")?,
                by: row.try_get("by")?,
                reason: row.try_get("reason")?,
                generation: row.try_get("generation")?,
                evidence: serde_json::from_str(&evidence).unwrap_or_default(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postgres_is_primary_from_cutover_on() {
        for phase in Phase::ALL {
            assert_eq!(phase.route() == Route::Postgres, phase.number() >= 3);
            assert_eq!(Phase::of_number(phase.number()).unwrap(), phase);
        }
        assert!(Phase::of_number(5).is_err());
        assert_eq!(Phase::Decommissioned.next(), None);
        assert_eq!(Phase::Bootstrap.previous(), None);
    }
}
