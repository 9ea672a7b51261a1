//! A backup that is known to be one: dumped, restored elsewhere, and compared table by table.
//!
//! `pg_dump` and the digests of the live tables read one snapshot, so that writers are not in the
//! way. What the restored tables hold is digested the same way, in canonical rows.

mod programs;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};

use crate::config::{Database, Settings};
use crate::error::{Error, ErrorKind, Result};
use crate::export::{Held, Sheet, tables_of_pack};
use crate::interrupt::Stop;
use crate::migrate::MigrationSet;
use crate::pack::{Pack, join_error};
use crate::source::discover::hash_file;
use crate::store::catalog::Table;
use crate::store::{ClientPrograms, Postgres, ScratchDatabase, quote_ident, redact_url, sql};

/// The schema of what the toolkit remembers.
const CONTROL: &str = "toolkit";

/// Where it is restored, and whether the dump is kept.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// URL of an empty database to restore into, which keeps what was restored; None: a scratch
    /// database on the same server, which is dropped.
    pub into: Option<String>,
    /// Where the dump is kept; None: it is removed.
    pub keep: Option<PathBuf>,
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Checked {
    /// The pack.
    pub pack: String,
    /// Whether every table came back as it was.
    pub clean: bool,
    /// The schemas that were dumped.
    pub schemas: Vec<String>,
    /// Rows of all tables.
    pub rows: u64,
    /// Size of the dump.
    pub bytes: u64,
    /// SHA-256 of the dump.
    pub sha256: String,
    /// Where the dump is; None: it was removed.
    pub kept: Option<PathBuf>,
    /// Where it was restored, without a password; None: into a database that was dropped.
    pub into: Option<String>,
    /// Major version of `pg_dump`.
    pub pg_dump: u32,
    /// Version of the server.
    pub server: i32,
    /// How long the dump took.
    pub dump_seconds: f64,
    /// How long restoring took.
    pub restore_seconds: f64,
    /// How long all of it took.
    pub seconds: f64,
    /// The tables.
    pub tables: Vec<CheckedTable>,
}

/// A table, live and restored.
#[derive(Debug, Clone, Serialize)]
pub struct CheckedTable {
    /// `schema.table`
    pub table: String,
    /// Rows in the snapshot that was dumped.
    pub rows: u64,
    /// Rows that came back; None: the table did not.
    pub restored_rows: Option<u64>,
    /// Whether they are the same, to the last byte.
    pub is_equal: bool,
}

/// Dumps the pack's schemas and schema `toolkit`, restores the dump, and compares every table.
///
/// Fails with [`ErrorKind::Config`] where `pg_dump` is missing or older than the server, with
/// [`ErrorKind::StoreDenied`] where the role may not create databases, with [`ErrorKind::Usage`]
/// where the database to restore into is not empty or the file to keep is there.
pub async fn check(
    settings: &Settings,
    postgres: &Postgres,
    pack: &Pack,
    set: Option<&MigrationSet>,
    options: &Options,
    stop: &Stop,
) -> Result<Checked> {
    let started = Instant::now();
    let programs =
        ClientPrograms::find(settings.postgres_bin_dir.as_deref(), postgres.server_version_num())?;
    let place = DumpFile::begin(settings, options.keep.as_deref())?;
    let mut conn = postgres.dedicated().await?;
    sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").execute(&mut conn).await?;
    let schemas = schemas(&mut conn, pack, set).await?;
    let snapshot: String =
        sqlx::query_scalar("SELECT pg_catalog.pg_export_snapshot()").fetch_one(&mut conn).await?;
    programs::dump(&programs, postgres, &schemas, &snapshot, &place.file, stop).await?;
    let dump_seconds = started.elapsed().as_secs_f64();
    let live = digests(&mut conn, &schemas, stop).await?;
    let extensions = extensions(&mut conn).await?;
    conn.close().await?;

    let file = place.file.clone();
    let hashing = tokio::task::spawn_blocking(move || hash_file(&file));
    let (sha256, bytes) = hashing.await.map_err(join_error)??;
    let restoring = Restoring { programs: &programs, place: &place, schemas, extensions, stop };
    let (restored, restore_seconds) = match &options.into {
        Some(url) => restoring.restore_into_url(settings, url).await?,
        None => restoring.restore_into_scratch(settings, postgres).await?,
    };
    let tables = compare(live, &restored);
    let Restoring { schemas, .. } = restoring;
    let kept = place.keep()?;
    Ok(Checked {
        pack: pack.name().to_owned(),
        clean: tables.iter().all(|table| table.is_equal),
        schemas,
        rows: tables.iter().map(|table| table.rows).sum(),
        bytes,
        sha256,
        kept,
        into: options.into.as_deref().map(redact_url),
        pg_dump: programs.major,
        server: postgres.server_version_num(),
        dump_seconds,
        restore_seconds,
        seconds: started.elapsed().as_secs_f64(),
        tables,
    })
}

/// Where the dump is written: a folder of this run's own, or the file that is to stay.
struct DumpFile {
    folder: tempfile::TempDir,
    file: PathBuf,
    keep: Option<PathBuf>,
}

impl DumpFile {
    fn begin(settings: &Settings, keep: Option<&Path>) -> Result<Self> {
        let keep = keep.map(std::path::absolute).transpose()?;
        let keep = keep.as_deref();
        if let Some(keep) = keep {
            if keep.exists() {
                let detail = format!("{} is there already", keep.display());
                return Err(Error::new(ErrorKind::Usage, detail)
                    .advice("name another file: no backup is overwritten"));
            }
            crate::whole_file::check_writable(keep)?;
        }
        // Beside the file that is to stay, so that it only has to be renamed.
        let near = match keep {
            Some(keep) => match keep.parent() {
                Some(folder) if !folder.as_os_str().is_empty() => folder,
                _ => Path::new("."),
            },
            None => settings.state_dir.as_path(),
        };
        let made = || -> std::io::Result<tempfile::TempDir> {
            std::fs::create_dir_all(near)?;
            tempfile::Builder::new().prefix(".toolkit-backup-").tempdir_in(near)
        };
        let folder = made().map_err(|error| {
            Error::from(error)
                .context(near.display())
                .advice("set --state-dir to a folder that this user may write to, with room")
        })?;
        let file = folder.path().join("pack.dump");
        Ok(Self { folder, file, keep: keep.map(Path::to_path_buf) })
    }

    fn keep(self) -> Result<Option<PathBuf>> {
        use std::os::unix::fs::PermissionsExt as _;
        let Some(keep) = &self.keep else { return Ok(None) };
        // It holds what the database's grants protect.
        let own = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&self.file, own)
            .and_then(|()| std::fs::rename(&self.file, keep))
            .map_err(|error| Error::from(error).context(keep.display()))?;
        Ok(self.keep)
    }
}

async fn schemas(
    conn: &mut PgConnection,
    pack: &Pack,
    set: Option<&MigrationSet>,
) -> Result<Vec<String>> {
    let tables = tables_of_pack(conn, pack, set).await?;
    let mut schemas: BTreeSet<String> = tables.into_iter().map(|table| table.schema).collect();
    let has_control: bool = sqlx::query_scalar("SELECT pg_catalog.to_regnamespace($1) IS NOT NULL")
        .bind(CONTROL)
        .fetch_one(conn)
        .await?;
    if has_control {
        schemas.insert(CONTROL.to_owned());
    }
    Ok(schemas.into_iter().collect())
}

/// What every table of the schemas holds, by name.
async fn digests(
    conn: &mut PgConnection,
    schemas: &[String],
    stop: &Stop,
) -> Result<Vec<(String, Held)>> {
    let rows = sqlx::query(include_str!("../sql/backup/tables.sql"))
        .bind(schemas)
        .fetch_all(&mut *conn)
        .await?;
    let mut found = Vec::new();
    for row in &rows {
        let (schema, name): (String, String) =
            (row.try_get("table_schema")?, row.try_get("table_name")?);
        let Some(table) = Table::read(conn, &schema, &name).await? else { continue };
        // A table without a column has no row to lose but its number.
        if table.columns.iter().all(|column| column.generated) {
            continue;
        }
        let name = table.display_name();
        let sheet = Sheet::of(table)?;
        let held = sheet.held(conn, stop).await.map_err(|error| error.context(&name))?;
        found.push((name, held));
    }
    Ok(found)
}

async fn extensions(conn: &mut PgConnection) -> Result<Vec<(String, String)>> {
    let rows = sqlx::query(include_str!("../sql/backup/extensions.sql")).fetch_all(conn).await?;
    rows.iter().map(|row| Ok((row.try_get("name")?, row.try_get("schema")?))).collect()
}

fn compare(live: Vec<(String, Held)>, restored: &[(String, Held)]) -> Vec<CheckedTable> {
    let table = |(table, held): (String, Held)| {
        let back = restored.iter().find(|(name, _)| *name == table).map(|(_, held)| held);
        CheckedTable {
            rows: held.rows,
            restored_rows: back.map(|back| back.rows),
            is_equal: back == Some(&held),
            table,
        }
    };
    live.into_iter().map(table).collect()
}

/// A dump on its way into another database.
struct Restoring<'r> {
    programs: &'r ClientPrograms,
    place: &'r DumpFile,
    schemas: Vec<String>,
    extensions: Vec<(String, String)>,
    stop: &'r Stop,
}

type Restored = (Vec<(String, Held)>, f64);

impl Restoring<'_> {
    async fn restore_into_scratch(
        &self,
        settings: &Settings,
        postgres: &Postgres,
    ) -> Result<Restored> {
        let scratch = ScratchDatabase::create(postgres, "backup").await?;
        let restored: Result<Restored> = async {
            let into = scratch.connect(settings, postgres).await?;
            let restored = self.into(&into).await;
            let closed = into.close().await;
            let restored = restored?;
            closed?;
            Ok(restored)
        }
        .await;
        let dropped = scratch.drop(postgres).await;
        let restored = restored?;
        dropped?;
        Ok(restored)
    }

    async fn restore_into_url(&self, settings: &Settings, url: &str) -> Result<Restored> {
        let settings = Settings { database: Database::Url(url.to_owned()), ..settings.clone() };
        let into = self.stop.unless(Postgres::connect(&settings)).await?;
        let restored: Result<Restored> = async {
            let mut conn = into.dedicated().await?;
            require_empty(&mut conn, &into).await?;
            conn.close().await?;
            self.into(&into).await
        }
        .await;
        let closed = into.close().await;
        let restored = restored?;
        closed?;
        Ok(restored)
    }

    async fn into(&self, into: &Postgres) -> Result<Restored> {
        let started = Instant::now();
        let mut conn = into.dedicated().await?;
        let own = self.schemas.iter().map(|schema| quote_ident(schema));
        let schemas: BTreeSet<String> =
            own.chain(self.extensions.iter().map(|(_, schema)| schema.clone())).collect();
        // Theirs are of the server, and a dump leaves them out too.
        for schema in schemas.iter().filter(|schema| !schema.starts_with("pg_")) {
            let statement = format!("CREATE SCHEMA IF NOT EXISTS {schema}");
            sqlx::raw_sql(sql(statement)).execute(&mut conn).await?;
        }
        for (name, schema) in &self.extensions {
            let statement =
                format!("CREATE EXTENSION IF NOT EXISTS {name} SCHEMA {schema} CASCADE");
            sqlx::raw_sql(sql(statement)).execute(&mut conn).await.map_err(|error| {
                Error::from(error).context(format!("extension {name} of the restored database"))
            })?;
        }
        let list = self.place.folder.path().join("contents");
        programs::restore(self.programs, into, &self.place.file, &list, self.stop).await?;
        let seconds = started.elapsed().as_secs_f64();
        let restored = digests(&mut conn, &self.schemas, self.stop).await?;
        conn.close().await?;
        Ok((restored, seconds))
    }
}

async fn require_empty(conn: &mut PgConnection, into: &Postgres) -> Result<()> {
    let tables: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname NOT LIKE 'pg\\_%' \
           AND n.nspname <> 'information_schema'",
    )
    .fetch_one(conn)
    .await?;
    if tables == 0 {
        return Ok(());
    }
    let detail = format!("{} is not empty", into.describe());
    Err(Error::new(ErrorKind::Usage, detail)
        .advice("restore into a new database: createdb -T template0 NAME; nothing was written"))
}
