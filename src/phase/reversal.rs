//! Reverse capture as the phase machine uses it.

use std::sync::Arc;

use serde_json::{Value, json};
use sqlx::postgres::PgConnection;

use crate::error::Result;
use crate::interrupt::Stop;
use crate::pack::{OpenedPack, Pack};
use crate::store::Postgres;

/// A stream of which nothing, or not everything, goes back to `SQLite`, for the operator to
/// acknowledge.
pub(super) fn no_way_back(_opened: &OpenedPack) -> Vec<String> {
    Vec::new()
}

/// Changes in Postgres that are not applied back, and rows that cannot be.
pub(super) async fn lag(_conn: &mut PgConnection, _pack: &str) -> Result<(i64, i64)> {
    Ok((0, 0))
}

/// Takes its triggers out of the targets; whether there were any.
pub(super) async fn remove(_conn: &mut PgConnection, _pack: &Pack) -> Result<bool> {
    Ok(false)
}

/// As stored.
pub(super) fn facts(none: &[String]) -> Value {
    json!({ "streams": none })
}

/// What the last catch-up proved.
pub(super) struct Proof {
    /// Rows that `SQLite` does not have.
    pub(super) rejects: i64,
    /// As stored.
    pub(super) facts: Value,
}

/// The reverse apply.
pub(super) struct Engine;

impl Engine {
    pub(super) async fn open(_postgres: &Postgres, _opened: Arc<OpenedPack>) -> Result<Self> {
        Ok(Self)
    }

    pub(super) async fn catch_up(&mut self, _stop: &Stop) -> Result<()> {
        Ok(())
    }

    pub(super) async fn finish(&mut self, _tx: &mut PgConnection, _stop: &Stop) -> Result<Proof> {
        Ok(Proof { rejects: 0, facts: Value::Null })
    }
}
