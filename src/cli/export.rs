//! `toolkit export`: a pack's tables as a portable archive.

use std::path::{Path, PathBuf};

use super::progress::Progress;
use super::record::on_connection;
use super::{Outcome, Output, Report, output};
use crate::config::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::export::{DataFormat, Event, ExportOptions, Exported, export};
use crate::migrate::{self, MigrationSet};
use crate::pack::Pack;
use crate::preflight::grouped;

/// Arguments of `toolkit export`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Writes a folder with every table that the pack's streams fill and its migrations make, as one
snapshot of the database shows them; the application may go on writing. `toolkit import` brings it
into another database, and checks every byte first.

  manifest.json   pack, migrations with checksums, columns, keys, row counts, digests; written last
  SHA256SUMS      of every other file: `sha256sum -c SHA256SUMS` checks the archive without toolkit
  data/           a file a table (--as jsonl, csv), rows in the order of the key; with --as sqlite
                  one file, archive.sqlite, with a table a table
  pack/           pack.toml and the migrations

Values are the text Postgres prints, with times in UTC, exact floats and numerics with their scale.
NULL and the empty text stay apart: null and \"\" in JSON lines, nothing and \"\" in CSV. Equal data
gives equal bytes: no moment, host or version of the server is written. Generated columns are left
out. Where sequences stand is in the manifest; an import moves them there, and past the keys.

In archive.sqlite tables are named schema.table; integers, booleans (0 and 1), floats and bytea are
what SQLite has for them, NaN, Infinity and -0 are text, arrays of one dimension JSON, the rest is
the text above. Beside it pack/ has that file for its source (origin/ keeps the pack.toml that was
exported), so that an empty database can be filled from it with proof:

  toolkit migrate up --pack NAME --dir ARCHIVE/pack
  toolkit backfill --pack ARCHIVE/pack --source ARCHIVE
  toolkit verify-parity --pack ARCHIVE/pack --source ARCHIVE

What schema toolkit remembers (rejects, ledger, phase, runs) stays behind.

An export that was stopped or killed goes on when it is run again: tables that did not change since
keep their file; archive.sqlite is written anew. The folder is an archive only when it has its manifest. One that is finished is
replaced with --overwrite only.

What streams through this program is a row at a time; the server sorts, on disk where it must.

Exit codes: 0 the archive is written, 2 could not run.

Examples:
  toolkit export --pack webtoon --out webtoon-2026-11
  toolkit export --pack ./shop-pack --out shop --as csv
  toolkit export --pack webtoon --out webtoon --as sqlite
  toolkit export --pack shop --dir ./shop-pack --out shop
  toolkit export --pack anime --out anime --sidecar data/anime_database.ingestion_state.json
  toolkit import webtoon-2026-11 --database-url postgres://me@db.example/copy")]
pub struct Args {
    /// Name of a built-in pack, or the folder of your own
    #[arg(long, value_name = "PACK")]
    pack: String,
    /// Folder of a pack that is named by --pack and not built in
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Folder of the archive; made if it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How rows are written
    #[arg(long = "as", value_enum, value_name = "FORM", default_value = "jsonl")]
    rows_as: DataFormat,
    /// Replace the finished archive that is there
    #[arg(long)]
    overwrite: bool,
    /// A sidecar to take along
    #[arg(long, value_name = "FILE")]
    sidecar: Option<PathBuf>,
}

/// Runs the command.
pub async fn run(args: Args, settings: &Settings, output: &Output) -> Result<Outcome> {
    let (pack, set) = pack_of(&args.pack, args.dir.as_deref())?;
    let options = ExportOptions {
        folder: args.out,
        format: args.rows_as,
        overwrite: args.overwrite,
        sidecar: args.sidecar,
    };
    let progress = Progress::new(output);
    let exported = on_connection(settings, output, async |connection| {
        let show = |event| progress.show(shown(event));
        export(connection, &pack, set.as_ref(), &options, output.stop(), &show).await
    })
    .await?;
    output.report(&exported)?;
    Ok(Outcome::Success)
}

/// The pack, and its migrations where its folder has any.
pub(super) fn pack_of(named: &str, dir: Option<&Path>) -> Result<(Pack, Option<MigrationSet>)> {
    let pack = match dir {
        Some(dir) => Pack::find(&dir.to_string_lossy())?,
        None => Pack::find(named)?,
    };
    if dir.is_some() && pack.name() != named {
        let found = pack.name();
        let detail = format!("--dir holds the pack {found}, and --pack names {named}");
        return Err(Error::new(ErrorKind::Usage, detail).advice("name the same pack twice"));
    }
    let Some(folder) = &pack.folder else {
        let set = migrate::builtin_or_error(pack.name())?;
        return Ok((pack, Some(set)));
    };
    let entries =
        std::fs::read_dir(folder).map_err(|error| Error::from(error).context(folder.display()))?;
    let is_sql = |path: PathBuf| path.extension().is_some_and(|e| e.eq_ignore_ascii_case("sql"));
    let has_migrations = entries.filter_map(std::result::Result::ok).any(|e| is_sql(e.path()));
    let set = has_migrations.then(|| migrate::from_directory(pack.name(), folder)).transpose()?;
    Ok((pack, set))
}

/// As the one progress display knows it.
pub(super) fn shown(event: Event) -> crate::backfill::Event {
    use crate::backfill::Event as Shown;
    match event {
        Event::Table { name, rows } => Shown::Stream { name, records: rows },
        Event::Rows(records) => Shown::Chunk { records, rejects: 0 },
        Event::Done => Shown::StreamDone,
    }
}

impl Report for Exported {
    fn text(&self) -> String {
        let mut table = output::table(["table", "rows", "file"]);
        for exported in &self.tables {
            let kept = if exported.kept { " (kept)" } else { "" };
            table.add_row([
                exported.table.clone(),
                grouped(exported.rows),
                format!("{}{kept}", exported.file),
            ]);
        }
        format!(
            "{}\n\nEXPORTED: pack {}, {} in {}, {} bytes, to {}\nmanifest SHA-256 {}",
            table.trim_fmt(),
            self.pack,
            rows(self.rows),
            output::count(self.tables.len() as u64, "table"),
            grouped(self.bytes),
            self.folder.display(),
            self.manifest_sha256
        )
    }
}

pub(super) fn rows(number: u64) -> String {
    format!("{} row{}", grouped(number), if number == 1 { "" } else { "s" })
}
