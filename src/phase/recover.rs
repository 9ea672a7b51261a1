//! What a crash left half done: undone where the route says `SQLite`, completed where it says
//! Postgres.

use serde::Serialize;
use serde_json::json;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::files::{self, CapturedFile};
use super::state::{self, Phase, Route, State, Transition, TransitionKind};
use super::{decommission, lock, reversal};
use crate::capture::fence;
use crate::error::Result;
use crate::pack::{Pack, join_error};
use crate::store::Postgres;

/// What was found and made good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Recovered {
    /// Files whose fence was lifted, since `SQLite` is primary.
    pub lifted: Vec<String>,
    /// Files whose fence was raised, since Postgres is primary.
    pub raised: Vec<String>,
    /// Files that decommission had not sealed.
    pub sealed: Vec<String>,
    /// Whether reverse capture was taken out of the targets, since `SQLite` is primary.
    pub reverse_removed: bool,
}

impl Recovered {
    fn is_nothing(&self) -> bool {
        self.lifted.is_empty()
            && self.raised.is_empty()
            && self.sealed.is_empty()
            && !self.reverse_removed
    }

    /// A sentence for people.
    #[must_use]
    pub fn sentence(&self) -> String {
        let mut parts = Vec::new();
        let list = |files: &[String]| files.join(", ");
        if !self.lifted.is_empty() {
            parts.push(format!("the fence of {} was lifted", list(&self.lifted)));
        }
        if !self.raised.is_empty() {
            parts.push(format!("the fence of {} was raised", list(&self.raised)));
        }
        if !self.sealed.is_empty() {
            parts.push(format!("{} sealed", list(&self.sealed)));
        }
        if self.reverse_removed {
            parts.push("reverse capture was taken out".to_owned());
        }
        format!("an earlier command was cut off: {}", parts.join("; "))
    }
}

/// Makes good what a crash left; None: there was nothing, or another command is at work on the
/// pack's phase at this moment. For the start of whatever works with a pack.
pub async fn recover(postgres: &Postgres, pack: &Pack) -> Result<Option<Recovered>> {
    let mut conn = postgres.dedicated().await?;
    let is_known: bool =
        sqlx::query_scalar("SELECT to_regclass('toolkit.sealed_file') IS NOT NULL")
            .fetch_one(&mut conn)
            .await?;
    if !is_known || !lock::try_lock(&mut conn, pack.name()).await? {
        conn.close().await?;
        return Ok(None);
    }
    let recovered = recover_locked(postgres, &mut conn, pack).await;
    lock::unlock(&mut conn, pack.name()).await;
    conn.close().await?;
    recovered
}

/// As [`recover`], by whoever holds the phase lock on `conn`.
pub(super) async fn recover_locked(
    postgres: &Postgres,
    conn: &mut PgConnection,
    pack: &Pack,
) -> Result<Option<Recovered>> {
    let state = state::current(conn, pack.name()).await?;
    let captured = files::captured(conn, pack.name()).await?;
    let mut done = Recovered {
        lifted: Vec::new(),
        raised: Vec::new(),
        sealed: Vec::new(),
        reverse_removed: false,
    };
    match (state.reads, state.phase) {
        (Route::Sqlite, _) => {
            done.lifted = files::lift_all(&captured).await?;
            done.reverse_removed = reversal::remove(conn, pack.name()).await?;
        }
        (Route::Postgres, Phase::Decommissioned) => {
            done.sealed = decommission::complete(postgres, conn, pack).await?;
        }
        (Route::Postgres, _) => done.raised = raise(files::unfenced(&captured).await?).await?,
    }
    if done.is_nothing() {
        return Ok(None);
    }
    tracing::warn!(pack = pack.name(), "{}", done.sentence());
    note(conn, pack.name(), &state, &done).await?;
    Ok(Some(done))
}

async fn raise(open: Vec<CapturedFile>) -> Result<Vec<String>> {
    let mut raised = Vec::new();
    for file in open {
        let path = file.path;
        tokio::task::spawn_blocking(move || fence::raise(&path)).await.map_err(join_error)??;
        raised.push(file.source);
    }
    Ok(raised)
}

async fn note(conn: &mut PgConnection, pack: &str, state: &State, done: &Recovered) -> Result<()> {
    let transition = Transition {
        from: state.phase,
        to: state.phase,
        kind: TransitionKind::Recover,
        reason: Some(done.sentence()),
        evidence: json!(done),
    };
    state::transition(conn, pack, &transition).await.map(drop)
}
