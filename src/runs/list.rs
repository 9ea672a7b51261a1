//! Which runs there are.

use serde::Serialize;
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use crate::error::{Error, ErrorKind, Result};

/// Which runs are wanted.
#[derive(Debug, Clone)]
pub struct Filter {
    /// Only of this pack.
    pub pack: Option<String>,
    /// Only those that work or can be resumed.
    pub unfinished: bool,
    /// The newest, so many at most.
    pub limit: u32,
}

/// A run.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    /// Its id in `toolkit.run`.
    pub run: String,
    /// Pack.
    pub pack: String,
    /// The command that it is an execution of.
    pub command: String,
    /// `running`, `pausing`, `paused`, `stopping`; `interrupted`, `failed`, `cut off` (no process
    /// works on it any more, and none could say so); `completed`.
    pub state: String,
    /// When it began, RFC 3339 in UTC.
    pub began_at: String,
    /// When it ended.
    pub finished_at: Option<String>,
    /// Records read.
    pub rows_read: i64,
    /// Who began it: the session's role, and the operating system's user and host.
    pub begun_by: Option<String>,
    /// Processes that work on it now.
    pub processes: i64,
    /// Of these, those that wait.
    pub paused_processes: i64,
    /// Whether it works, or its command run again goes on with it.
    pub is_unfinished: bool,
    /// Whether anybody works on it.
    pub is_alive: bool,
    /// Who asked it to pause; nobody: none did.
    pub pause_asked_by: Option<String>,
    /// When.
    pub pause_asked_at: Option<String>,
    /// Why it failed or was interrupted.
    pub error: Option<String>,
}

impl Run {
    fn of(row: &PgRow) -> Result<Self> {
        Ok(Self {
            run: row.try_get("run")?,
            pack: row.try_get("pack")?,
            command: row.try_get("command")?,
            state: row.try_get("state")?,
            began_at: row.try_get("began_at")?,
            finished_at: row.try_get("finished_at")?,
            rows_read: row.try_get("rows_read")?,
            begun_by: row.try_get("begun_by")?,
            processes: row.try_get("processes")?,
            paused_processes: row.try_get("paused")?,
            is_unfinished: row.try_get("is_unfinished")?,
            is_alive: row.try_get("is_alive")?,
            pause_asked_by: row.try_get("pause_asked_by")?,
            pause_asked_at: row.try_get("pause_asked_at")?,
            error: row.try_get("error")?,
        })
    }
}

/// Runs, the newest first.
pub async fn list(conn: &mut PgConnection, filter: &Filter) -> Result<Vec<Run>> {
    crate::migrate::require_current(conn, crate::migrate::CONTROL_PACK).await?;
    let rows = sqlx::query(include_str!("../sql/runs/list.sql"))
        .bind(None::<String>)
        .bind(&filter.pack)
        .bind(filter.unfinished)
        .bind(i64::from(filter.limit))
        .fetch_all(conn)
        .await?;
    rows.iter().map(Run::of).collect()
}

/// The run with an id, the only one whose id begins so, or `latest`, the newest backfill.
pub async fn find(conn: &mut PgConnection, name: &str) -> Result<Run> {
    crate::migrate::require_current(conn, crate::migrate::CONTROL_PACK).await?;
    let is_latest = name == "latest";
    let is_id = name.len() >= 4
        && name.len() <= 36
        && name.chars().all(|letter| letter.is_ascii_hexdigit() || letter == '-');
    if !is_latest && !is_id {
        return Err(Error::new(ErrorKind::Usage, format!("`{name}` is no id of a run")).advice(
            "give an id of `toolkit run list`, its first four characters or more, or `latest`",
        ));
    }
    let ids: Vec<String> = if is_latest {
        sqlx::query_scalar(
            "SELECT run_id::text FROM toolkit.run WHERE command = 'backfill' \
             ORDER BY started_at DESC LIMIT 1",
        )
        .fetch_all(&mut *conn)
        .await?
    } else {
        sqlx::query_scalar(
            "SELECT run_id::text FROM toolkit.run WHERE starts_with(run_id::text, $1) \
             ORDER BY started_at DESC LIMIT 3",
        )
        .bind(name.to_ascii_lowercase())
        .fetch_all(&mut *conn)
        .await?
    };
    match ids.as_slice() {
        [id] => by_id(conn, id).await,
        [] if is_latest => Err(Error::new(ErrorKind::Usage, "nothing was ever backfilled here")
            .advice("`toolkit run list` shows the runs of this database")),
        [] => Err(Error::new(ErrorKind::Usage, format!("there is no run {name} here")).advice(
            "`toolkit run list` shows the runs of this database; is it the right --database-url?",
        )),
        _ => Err(Error::new(ErrorKind::Usage, format!("several runs begin with {name}"))
            .advice("give more of the id")),
    }
}

/// The run with this very id.
pub(super) async fn by_id(conn: &mut PgConnection, id: &str) -> Result<Run> {
    let row = sqlx::query(include_str!("../sql/runs/list.sql"))
        .bind(id)
        .bind(None::<String>)
        .bind(false)
        .bind(1_i64)
        .fetch_one(conn)
        .await?;
    Run::of(&row)
}
