//! What the benchmarks share: a scratch folder, a private server, figures.

// Each benchmark is a crate of its own and uses a part of it.
#![allow(dead_code)]

use std::path::Path;

use rusqlite::types::ValueRef;
use sqlx::postgres::PgConnection;
use toolkit::config::Settings;
use toolkit::store::{Postgres, sql};

/// Anything may fail in a benchmark.
pub(crate) type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// Whether `TOOLKIT_BENCH_SHORT` asks for a short run.
pub(crate) fn is_short() -> bool {
    std::env::var_os("TOOLKIT_BENCH_SHORT").is_some()
}

/// A folder the server's user may enter.
pub(crate) fn scratch() -> Fallible<tempfile::TempDir> {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::Builder::new().prefix("toolkit-bench-").tempdir()?;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
    Ok(folder)
}

/// Settles a table after a change, so that the next measurement does not pay for it.
pub(crate) async fn vacuum(conn: &mut PgConnection, table: &str) -> Fallible<()> {
    sqlx::raw_sql(sql(format!("VACUUM ANALYZE {table}"))).execute(&mut *conn).await?;
    sqlx::raw_sql("CHECKPOINT").execute(conn).await?;
    Ok(())
}

/// The pack `unified` migrated, and the streams `names` of `source` copied.
pub(crate) async fn load(
    settings: &Settings,
    postgres: &Postgres,
    source: &Path,
    names: &[&str],
) -> Fallible<()> {
    let mut conn = postgres.dedicated().await?;
    toolkit::migrate::up(&mut conn, &["unified"], &toolkit::migrate::Options::default()).await?;
    let options = toolkit::backfill::Options {
        streams: names.iter().map(|name| (*name).to_owned()).collect(),
        ..toolkit::backfill::Options::default()
    };
    let pack = toolkit::pack::Pack::find("unified")?;
    let roots = vec![source.to_path_buf()];
    let preparation = toolkit::backfill::prepare(settings, postgres, pack, &roots, options).await?;
    let stop = toolkit::interrupt::Stop::new();
    toolkit::backfill::run(postgres, &preparation, &stop, &|_| ()).await?;
    sqlx::Connection::close(conn).await?;
    Ok(())
}

/// Peak resident memory of this process, in MiB.
pub(crate) fn peak_mib() -> Fallible<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    let kib: u64 = line.split_whitespace().nth(1).unwrap_or("0").parse()?;
    Ok(kib >> 10)
}

/// The middle one of some measurements.
pub(crate) fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// The rows of a query to an `SQLite` file, as `\copy` wants them.
pub(crate) fn write_csv(sqlite: &Path, query: &str, csv: &Path) -> Fallible<()> {
    let connection = rusqlite::Connection::open(sqlite)?;
    let mut statement = connection.prepare(query)?;
    let columns = statement.column_count();
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_path(csv)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        for column in 0..columns {
            match row.get_ref(column)? {
                ValueRef::Null => writer.write_field("\\N")?,
                ValueRef::Integer(number) => writer.write_field(number.to_string())?,
                ValueRef::Real(number) => writer.write_field(number.to_string())?,
                ValueRef::Text(text) | ValueRef::Blob(text) => writer.write_field(text)?,
            }
        }
        writer.write_record(None::<&[u8]>)?;
    }
    writer.flush()?;
    Ok(())
}
