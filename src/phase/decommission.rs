//! 3 to 4: `SQLite` is sealed.
//!
//! First the files are brought to a position at which they hold what Postgres holds
//! ([`super::position`]). The commit of phase 4 also writes down which files are to be sealed, so that a crash after it
//! is completed. A seal is triggers of its own that refuse writes, whoever makes them; then capture
//! is taken out, the journal is written into the file, the file loses its write permission, and
//! its SHA-256 is recorded.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use serde::Serialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};

use super::check::{Check, Gate};
use super::files;
use super::position::{self, Position};
use super::scene::Scene;
use super::state::{self, Phase, State, Transition, TransitionKind};
use super::{fault, reversal, target_fence};
use crate::capture::{self, DisableOptions};
use crate::count::counted;
use crate::error::{Error, ErrorKind, Result};
use crate::pack::{Pack, join_error};
use crate::source::SourceFile;
use crate::store::{Postgres, quote_ident};

/// What the names of seal triggers begin with.
const SEAL: &str = "toolkit_sealed_";

/// What a write to a sealed file gets; applications know the beginning from the fence.
const SEALED_MESSAGE: &str = "toolkit fence: this database was sealed, it lives in PostgreSQL";

/// A sealed file.
#[derive(Debug, Clone, Serialize)]
pub struct SealedFile {
    /// As checkpoints name it.
    pub source: String,
    /// Where it is.
    pub path: String,
    /// SHA-256 of its bytes, hexadecimal; None: it was gone.
    pub sha256: Option<String>,
    /// Whether its write permission could be taken away.
    pub read_only: bool,
    /// Position of Postgres's log at which it held what Postgres held; None: that was not so, or
    /// could not be found out, and the phase was forced.
    pub lsn: Option<String>,
    /// The full verification at that position.
    pub parity_run: Option<String>,
}

/// How entering phase 4 ended.
pub(super) enum Decommissioned {
    /// It was entered.
    Entered { state: State, files: Vec<SealedFile>, position: Option<Position> },
    /// The files do not hold what Postgres holds; nothing was sealed.
    NotExact(Check),
}

/// Enters phase 4 and seals every file. `conn` holds the phase lock.
pub(super) async fn run(
    scene: &Scene<'_>,
    conn: &mut PgConnection,
    gate: &Gate,
    kind: TransitionKind,
    reason: Option<&str>,
    hold_max: Duration,
) -> Result<Decommissioned> {
    // Whoever gives a reason accepts whatever is missing.
    let is_forced = reason.is_some();
    let captured = files::captured(conn, scene.name()).await?;
    let kept = match scene.open().await {
        Ok(opened) => Some(position::reach(scene, opened, hold_max).await?),
        // Whoever forces it may have lost the files.
        Err(error) if is_forced => {
            tracing::warn!(%error, "the files are sealed without a comparison");
            None
        }
        Err(error) => return Err(error),
    };
    let position = kept.as_ref().map(|kept| kept.position.clone());
    if let Some(found) = position.as_ref().filter(|found| !found.is_exact())
        && !is_forced
    {
        return Ok(Decommissioned::NotExact(not_exact(found)));
    }
    let exact = position.as_ref().filter(|found| found.is_exact());
    let kind = if exact.is_some() { kind } else { TransitionKind::Force };
    let change = Transition {
        from: Phase::Cutover,
        to: Phase::Decommissioned,
        kind,
        reason: reason.map(str::to_owned),
        evidence: json!({ "gate": gate.evidence(), "position": position }),
    };
    let mut transaction = conn.begin().await?;
    for file in &captured {
        sqlx::query(
            "INSERT INTO toolkit.sealed_file (pack, source, path, lsn, parity_run) \
             VALUES ($1, $2, $3, $4, $5::uuid) \
             ON CONFLICT (pack, source) DO UPDATE SET path = EXCLUDED.path, sha256 = NULL, \
             lsn = EXCLUDED.lsn, parity_run = EXCLUDED.parity_run",
        )
        .bind(scene.name())
        .bind(&file.source)
        .bind(file.path.display().to_string())
        .bind(exact.map(|found| &found.lsn))
        .bind(exact.map(|found| &found.parity_run))
        .execute(&mut *transaction)
        .await?;
    }
    let state = state::transition_in(&mut transaction, scene.name(), &change).await?;
    transaction.commit().await?;
    fault::point("decommission.entered")?;
    drop(kept);
    complete(scene.postgres, conn, scene.pack).await?;
    let files = sealed(conn, scene.name()).await?;
    Ok(Decommissioned::Entered { state, files, position })
}

fn not_exact(found: &Position) -> Check {
    let finding = if found.reverse.rejects > 0 {
        let rows = counted(found.reverse.rejects, "row");
        format!("{rows} could not be written back to SQLite")
    } else {
        let rows = counted(found.differing_rows, "row");
        format!("at {} {rows} of SQLite and Postgres differ", found.lsn)
    };
    let advice = format!(
        "`toolkit parity report --run {}` names them; `toolkit dual-write reverse rejects`",
        found.parity_run
    );
    Check::missing("position", finding, advice).with(json!(found))
}

/// Seals what is not sealed yet; the files that were.
pub(super) async fn complete(
    postgres: &Postgres,
    conn: &mut PgConnection,
    pack: &Pack,
) -> Result<Vec<String>> {
    let mut done = Vec::new();
    let rows = sqlx::query(
        "SELECT source, path FROM toolkit.sealed_file \
         WHERE pack = $1 AND sealed_at IS NULL ORDER BY source",
    )
    .bind(pack.name())
    .fetch_all(&mut *conn)
    .await?;
    for row in rows {
        let (source, path): (String, String) = (row.try_get("source")?, row.try_get("path")?);
        seal_one(postgres, conn, pack.name(), &source, PathBuf::from(path)).await?;
        fault::point("decommission.sealed_one")?;
        done.push(source);
    }
    if reversal::remove(conn, pack.name()).await? {
        tracing::info!(pack = pack.name(), "reverse capture was taken out of the targets");
    }
    target_fence::remove(conn, pack).await?;
    Ok(done)
}

async fn seal_one(
    postgres: &Postgres,
    conn: &mut PgConnection,
    pack: &str,
    source: &str,
    path: PathBuf,
) -> Result<()> {
    let place = path.clone();
    let is_there =
        tokio::task::spawn_blocking(move || put_seal(&place)).await.map_err(join_error)??;
    let mut file = None;
    if is_there {
        fault::point("decommission.seal_put")?;
        let captured = SourceFile {
            path: path.clone(),
            relative: source.to_owned(),
            sha256: String::new(),
            size_bytes: 0,
        };
        let options = DisableOptions { force: true, decommissioning: true, dry_run: false };
        capture::disable(postgres, pack, &[captured], &options).await?;
        fault::point("decommission.capture_removed")?;
        let closing = move || close_file(&path);
        file = Some(tokio::task::spawn_blocking(closing).await.map_err(join_error)??);
    }
    let (sha256, bytes, read_only) =
        file.map_or((None, None, None), |(sha, bytes, only)| (Some(sha), Some(bytes), Some(only)));
    sqlx::query(
        "UPDATE toolkit.sealed_file SET sha256 = $3, bytes = $4, read_only = $5, sealed_at = now() \
         WHERE pack = $1 AND source = $2",
    )
    .bind(pack)
    .bind(source)
    .bind(sha256)
    .bind(bytes)
    .bind(read_only)
    .execute(conn)
    .await?;
    Ok(())
}

/// Every sealed file of the pack.
pub(super) async fn sealed(conn: &mut PgConnection, pack: &str) -> Result<Vec<SealedFile>> {
    let rows = sqlx::query(
        "SELECT source, path, encode(sha256, 'hex') AS sha256, coalesce(read_only, false) AS only, \
         lsn, parity_run::text AS parity_run \
         FROM toolkit.sealed_file WHERE pack = $1 ORDER BY source",
    )
    .bind(pack)
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(SealedFile {
                source: row.try_get("source")?,
                path: row.try_get("path")?,
                sha256: row.try_get("sha256")?,
                read_only: row.try_get("only")?,
                lsn: row.try_get("lsn")?,
                parity_run: row.try_get("parity_run")?,
            })
        })
        .collect()
}

/// Makes every table refuse writes for good; false where there is no file any more. Blocking.
fn put_seal(path: &Path) -> Result<bool> {
    if !path.exists() {
        return Ok(false);
    }
    let mut permissions = std::fs::metadata(path)?.permissions();
    if permissions.readonly() {
        // Cut off after it was made read-only, before that was written down.
        permissions.set_mode(permissions.mode() | 0o200);
        std::fs::set_permissions(path, permissions)?;
    }
    let mut file = open_for_writing(path)?;
    let tx = file
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(|error| failed(path, error))?;
    let tables: Vec<String> = {
        let mut statement = tx
            .prepare(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql NOT LIKE \
                 'CREATE VIRTUAL%' AND substr(name, 1, 8) <> 'toolkit_' \
                 AND substr(name, 1, 7) <> 'sqlite_' ORDER BY name",
            )
            .map_err(|error| failed(path, error))?;
        let rows = statement.query_map([], |row| row.get(0)).map_err(|e| failed(path, e))?;
        rows.collect::<Result<_, _>>().map_err(|e| failed(path, e))?
    };
    for (number, table) in tables.iter().enumerate() {
        for event in ["INSERT", "UPDATE", "DELETE"] {
            let statement = format!(
                "CREATE TRIGGER IF NOT EXISTS {SEAL}{number}_{} BEFORE {event} ON {} \
                 BEGIN SELECT RAISE(ABORT, '{SEALED_MESSAGE}'); END",
                event.to_lowercase(),
                quote_ident(table)
            );
            tx.execute_batch(&statement).map_err(|error| failed(path, error))?;
        }
    }
    tx.commit().map_err(|error| failed(path, error))?;
    Ok(true)
}

/// Writes the journal into the file, takes its write permission away, and digests it: SHA-256,
/// bytes, whether it is read-only. Blocking.
fn close_file(path: &Path) -> Result<(Vec<u8>, i64, bool)> {
    let file = open_for_writing(path)?;
    // A file that an application still has open keeps its WAL: it is emptied all the same.
    let mode: rusqlite::Result<String> = file
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .and_then(|()| file.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get(0)));
    if let Err(error) = mode {
        tracing::warn!(file = %path.display(), %error, "it is still open elsewhere: its WAL stays");
    }
    drop(file);
    let mut permissions = std::fs::metadata(path)?.permissions();
    permissions.set_readonly(true);
    let read_only = std::fs::set_permissions(path, permissions).is_ok();
    let (sha256, bytes) = digest(path)?;
    Ok((sha256, bytes, read_only))
}

/// SHA-256 and size of a file.
fn digest(path: &Path) -> Result<(Vec<u8>, i64)> {
    let mut hash = Sha256::new();
    let mut reader = std::fs::File::open(path)?;
    let mut buffer = vec![0; 1 << 16];
    let mut bytes = 0_i64;
    loop {
        let read = reader.read(&mut buffer)?;
        if read == 0 {
            return Ok((hash.finalize().to_vec(), bytes));
        }
        hash.update(&buffer[..read]);
        bytes += i64::try_from(read).unwrap_or(i64::MAX);
    }
}

/// The sealed files that are there and not what was sealed. Blocking.
pub(super) fn changed(sealed: &[SealedFile]) -> Result<Vec<String>> {
    let mut changed = Vec::new();
    for file in sealed {
        let path = Path::new(&file.path);
        let Some(sha256) = file.sha256.as_ref().filter(|_| path.exists()) else { continue };
        if hex::encode(digest(path)?.0) != *sha256 {
            changed.push(file.source.clone());
        }
    }
    Ok(changed)
}

fn open_for_writing(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let file = Connection::open_with_flags(path, flags).map_err(|error| failed(path, error))?;
    file.busy_timeout(Duration::from_secs(10)).map_err(|error| failed(path, error))?;
    Ok(file)
}

fn failed(path: &Path, error: rusqlite::Error) -> Error {
    Error::new(ErrorKind::SourceUnreadable, format!("{}: {error}", path.display()))
        .advice("end what still has the file open, then run `toolkit phase status`, which goes on")
        .because(error)
}
