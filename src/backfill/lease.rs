//! Leases: which worker has which chunk, by the server's clock and its list of sessions.
//!
//! A lease says who reads a chunk; it does not guard the commit. The chunk's own transaction
//! does: it locks the chunk and writes only if the chunk is still its worker's.

use std::time::Duration;

use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use crate::backfill::pack_lock::lock_shared;
use crate::error::{Error, ErrorKind, Result};
use crate::source::Position;
use crate::store::Connector;

/// How long a chunk stays with a worker that says nothing, if its session lives that long.
pub(super) const LEASE_SECONDS: i32 = 60;

/// How often a worker that waits for a long chunk says that it is still there.
pub(super) const RENEW_EVERY: Duration = Duration::from_secs(15);

/// A worker: its name, and the connection that proves it alive.
pub(super) struct Worker {
    pub(super) name: String,
    pub(super) conn: PgConnection,
}

impl Worker {
    /// A worker with a session of its own in the pack's backfill.
    pub(super) async fn start(connector: &Connector, pack: &str) -> Result<Self> {
        let name = format!("{}/{}", std::process::id(), uuid::Uuid::new_v4());
        Ok(Self { conn: session(connector, pack, &name).await?, name })
    }

    /// Replaces a lost connection. The name stays, so that what was leased is leased still,
    /// unless somebody was quicker.
    pub(super) async fn reconnect(&mut self, connector: &Connector, pack: &str) -> Result<()> {
        self.conn = session(connector, pack, &self.name).await?;
        Ok(())
    }
}

async fn session(connector: &Connector, pack: &str, name: &str) -> Result<PgConnection> {
    let mut conn = connector.dedicated().await?;
    if !lock_shared(&mut conn, pack).await? {
        return Err(Error::new(
            ErrorKind::Busy,
            format!("another backfill of the pack {pack} has begun"),
        ));
    }
    sqlx::query("SELECT pg_advisory_lock_shared(hashtextextended('toolkit.worker.' || $1, 0))")
        .bind(name)
        .execute(&mut conn)
        .await?;
    Ok(conn)
}

/// Where a worker looks for chunks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) run_id: &'a str,
    pub(super) stream: &'a str,
    pub(super) source: &'a str,
}

/// A chunk a worker has.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    pub(super) span: i32,
    pub(super) chunk_no: i64,
    pub(super) from: Option<Position>,
    pub(super) to: Option<Position>,
}

/// What a worker that asks for a chunk is told.
pub(super) enum Taken {
    /// It has one now.
    Lease(Lease),
    /// All that are left are others'.
    Nothing,
    /// None is left.
    Done,
}

/// Takes a chunk that nobody has.
pub(super) async fn take(worker: &mut Worker, field: Field<'_>) -> Result<Taken> {
    let row = sqlx::query(include_str!("../sql/backfill/lease_chunk.sql"))
        .bind(field.run_id)
        .bind(field.stream)
        .bind(field.source)
        .bind(&worker.name)
        .bind(LEASE_SECONDS)
        .fetch_optional(&mut worker.conn)
        .await?;
    let Some(row) = row else { return none_free(&mut worker.conn, field).await };
    let lease = Lease {
        span: row.try_get("span")?,
        chunk_no: row.try_get("chunk_no")?,
        from: position(row.try_get("range_from")?)?,
        to: position(row.try_get("range_to")?)?,
    };
    if row.try_get::<bool, _>("was_anothers")? {
        tracing::info!(
            stream = field.stream,
            "took over chunk {} of span {} from a worker that is gone",
            lease.chunk_no,
            lease.span
        );
    }
    Ok(Taken::Lease(lease))
}

async fn none_free(conn: &mut PgConnection, field: Field<'_>) -> Result<Taken> {
    let row = sqlx::query(
        "SELECT r.status, EXISTS (SELECT 1 FROM toolkit.chunk c WHERE c.run_id = r.run_id \
         AND c.stream = $2 AND c.source = $3 AND c.status = 'pending') AS pending \
         FROM toolkit.run r WHERE r.run_id = $1::uuid",
    )
    .bind(field.run_id)
    .bind(field.stream)
    .bind(field.source)
    .fetch_one(&mut *conn)
    .await?;
    if !row.try_get::<bool, _>("pending")? {
        return Ok(Taken::Done);
    }
    let status: String = row.try_get("status")?;
    if status != "running" {
        return Err(Error::new(
            ErrorKind::Busy,
            format!("run {} was ended ({status}) by another process", field.run_id),
        )
        .advice("run the same command again to go on"));
    }
    sqlx::query(include_str!("../sql/backfill/end_hung_worker.sql"))
        .bind(field.run_id)
        .bind(field.stream)
        .bind(field.source)
        .bind(format!("{}/%", std::process::id()))
        .execute(conn)
        .await?;
    Ok(Taken::Nothing)
}

/// Keeps a chunk; false: it is no longer this worker's.
pub(super) async fn renew(worker: &mut Worker, field: Field<'_>, lease: &Lease) -> Result<bool> {
    let done = sqlx::query(include_str!("../sql/backfill/renew_lease.sql"))
        .bind(field.run_id)
        .bind(field.stream)
        .bind(field.source)
        .bind(lease.span)
        .bind(lease.chunk_no)
        .bind(&worker.name)
        .bind(LEASE_SECONDS)
        .execute(&mut worker.conn)
        .await?;
    Ok(done.rows_affected() == 1)
}

fn position(text: Option<String>) -> Result<Option<Position>> {
    text.map(|text| {
        serde_json::from_str(&text).map_err(|error| {
            Error::new(ErrorKind::RunMismatch, "a stored position cannot be read")
                .advice("start over with --restart")
                .because(error)
        })
    })
    .transpose()
}
