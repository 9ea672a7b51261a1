//! A `SQLite` file on a thread of its own, for async applications.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::{Connection, InterruptHandle, OpenFlags};
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};

use crate::capture::fence::FENCE_MESSAGE_PREFIX;
use crate::error::{Error, ErrorKind, Result};

/// How long a write waits for another process's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// An open `SQLite` file. Statements run on its thread, one piece of work after the other; clones
/// share it.
#[derive(Clone)]
pub struct SqliteFile {
    path: PathBuf,
    jobs: std::sync::mpsc::Sender<Job>,
    // Whoever holds it has the connection to themselves, over several pieces of work.
    turn: Arc<Mutex<()>>,
    interrupt: Arc<InterruptHandle>,
}

impl std::fmt::Debug for SqliteFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl SqliteFile {
    /// Opens a file that is there, for writing, and runs `pragmas` (`PRAGMA synchronous = NORMAL`)
    /// on the connection.
    pub async fn open(path: &Path, pragmas: &str) -> Result<Self> {
        Self::open_with(path, pragmas, OpenFlags::SQLITE_OPEN_READ_WRITE).await
    }

    /// As [`SqliteFile::open`], for reading only.
    pub async fn open_read_only(path: &Path) -> Result<Self> {
        Self::open_with(path, "", OpenFlags::SQLITE_OPEN_READ_ONLY).await
    }

    async fn open_with(path: &Path, pragmas: &str, flags: OpenFlags) -> Result<Self> {
        let (jobs, queue) = std::sync::mpsc::channel::<Job>();
        let (opened, result) = oneshot::channel();
        let (place, pragmas) = (path.to_path_buf(), pragmas.to_owned());
        let work = move || {
            let open = || -> rusqlite::Result<Connection> {
                let connection = Connection::open_with_flags(&place, flags)?;
                connection.busy_timeout(BUSY_TIMEOUT)?;
                connection.execute_batch(&pragmas)?;
                Ok(connection)
            };
            match open() {
                Ok(mut connection) => {
                    let _ = opened.send(Ok(connection.get_interrupt_handle()));
                    for job in queue {
                        job(&mut connection);
                    }
                }
                Err(error) => {
                    let _ = opened.send(Err(error));
                }
            }
        };
        std::thread::Builder::new().name("sqlite".to_owned()).spawn(work).map_err(Error::from)?;
        let path = path.to_path_buf();
        let opened = result.await.map_err(|_| gone(&path))?;
        let interrupt = Arc::new(opened.map_err(|error| of_sqlite(&path, error))?);
        Ok(Self { path, jobs, turn: Arc::default(), interrupt })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` on the file's thread, in no transaction but its own.
    pub async fn run<T, W>(&self, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let _turn = self.turn.lock().await;
        self.send(work).await?.map_err(|error| of_sqlite(&self.path, error))
    }

    /// As [`SqliteFile::run`], interrupted after `within`.
    pub(super) async fn run_within<T, W>(&self, within: Duration, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let run = self.run(work);
        tokio::pin!(run);
        tokio::select! {
            done = &mut run => done,
            () = tokio::time::sleep(within) => {
                self.interrupt.interrupt();
                run.await
            }
        }
    }

    /// Begins a transaction that may write, and has the file to itself until it ends.
    pub async fn begin(&self) -> Result<FileTransaction> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        // From here on there is something to undo, also where the caller goes away.
        let transaction = FileTransaction {
            file: self.clone(),
            is_fenced: Arc::default(),
            is_open: true,
            _turn: turn,
        };
        let begun = self.send(|connection| {
            // What a caller that went away in mid-transaction left.
            if !connection.is_autocommit() {
                connection.execute_batch("ROLLBACK")?;
            }
            connection.execute_batch("BEGIN IMMEDIATE")
        });
        begun.await?.map_err(|error| of_sqlite(&self.path, error))?;
        Ok(transaction)
    }

    async fn send<T, W>(&self, work: W) -> Result<rusqlite::Result<T>>
    where
        T: Send + 'static,
        W: FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (done, result) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let run = std::panic::AssertUnwindSafe(|| work(connection));
            // The thread serves the others, too.
            let outcome = std::panic::catch_unwind(run).map_err(|panic| message_of(&panic));
            let _ = done.send(outcome);
        });
        self.jobs.send(job).map_err(|_| gone(&self.path))?;
        result.await.map_err(|_| gone(&self.path))?.map_err(|panic| {
            Error::new(ErrorKind::Bug, format!("work on {} panicked: {panic}", self.path.display()))
        })
    }
}

/// A transaction in a [`SqliteFile`]; rolled back where it is dropped without a commit.
#[derive(Debug)]
pub struct FileTransaction {
    file: SqliteFile,
    is_fenced: Arc<AtomicBool>,
    is_open: bool,
    _turn: OwnedMutexGuard<()>,
}

impl FileTransaction {
    /// Runs `work` inside the transaction, on the file's thread. It must not end the transaction.
    ///
    /// Fails with [`ErrorKind::StoreFailed`] where `SQLite` refuses, with [`ErrorKind::Busy`]
    /// where another process keeps it locked.
    pub async fn run<T, W>(&mut self, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let done = self.file.send(|connection| work(connection)).await?;
        done.map_err(|error| {
            if is_fence(&error) {
                self.is_fenced.store(true, Ordering::Relaxed);
            }
            of_sqlite(&self.file.path, error)
        })
    }

    /// Whether a statement was refused because the file is fenced.
    pub(super) fn is_fenced(&self) -> bool {
        self.is_fenced.load(Ordering::Relaxed)
    }

    /// Commits.
    pub(super) async fn commit(mut self) -> Result<()> {
        let committed = self.file.send(|connection| {
            if connection.is_autocommit() {
                return Ok(false);
            }
            connection.execute_batch("COMMIT").map(|()| true)
        });
        let is_committed = committed.await?.map_err(|error| of_sqlite(&self.file.path, error))?;
        self.is_open = false;
        if is_committed {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Usage, "the change ended its transaction itself")
            .advice("leave COMMIT and ROLLBACK to the writer: return Ok or an error"))
    }

    /// Undoes everything.
    pub(super) async fn rollback(mut self) -> Result<()> {
        self.is_open = false;
        let undone = self.file.send(roll_back);
        undone.await?.map_err(|error| of_sqlite(&self.file.path, error))
    }
}

impl Drop for FileTransaction {
    fn drop(&mut self) {
        if self.is_open {
            // Before anything the next owner of the turn asks for.
            let _ = self.file.jobs.send(Box::new(|connection| {
                let _ = roll_back(connection);
            }));
        }
    }
}

fn roll_back(connection: &mut Connection) -> rusqlite::Result<()> {
    if connection.is_autocommit() { Ok(()) } else { connection.execute_batch("ROLLBACK") }
}

/// Whether the file refused because its application has moved to Postgres.
fn is_fence(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::SqliteFailure(_, Some(text)) if text.starts_with(FENCE_MESSAGE_PREFIX))
}

/// A failure of `SQLite`'s, as this crate says it.
pub(super) fn of_sqlite(path: &Path, error: rusqlite::Error) -> Error {
    use rusqlite::ErrorCode;
    let kind = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => ErrorKind::Busy,
        Some(ErrorCode::DiskFull) => ErrorKind::StoreExhausted,
        Some(ErrorCode::CannotOpen) => ErrorKind::SourceMissing,
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => ErrorKind::SourceUnreadable,
        _ => ErrorKind::StoreFailed,
    };
    Error::new(kind, format!("SQLite file {}: {error}", path.display())).because(error)
}

fn gone(path: &Path) -> Error {
    Error::new(ErrorKind::Bug, format!("the thread of {} ended", path.display()))
}

fn message_of(panic: &Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}
