//! `toolkit copy`: a `SQLite` file into Postgres without a pack.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::manners::ManneredArgs;
use super::progress::Progress;
use super::{Outcome, Output, Report, output};
use crate::backfill;
use crate::config::Settings;
use crate::copy::{self, Asked, BadText, Copied, Dangling, Options, Plan, TablePlan};
use crate::error::{Error, ErrorKind, Result};
use crate::pack::join_error;
use crate::preflight::grouped;
use crate::runs;
use crate::source::snapshot::Snapshot;
use crate::store::Postgres;

/// Arguments of `toolkit copy`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Reads what the file declares and every value it holds, creates a schema with tables, keys, indexes,
defaults, CHECKs and foreign keys, copies every row, sets the sequences, and compares every row of
both sides. The file is only read. --dry-run prints the plan: each type with the number of values
that prove it, and everything that is left out.

Types. INTEGER is bigint, REAL double precision, BLOB bytea, TEXT text. Text that is always a UUID,
an ISO time or a JSON object or array becomes uuid, timestamptz (with an offset; without one
timestamp, or with --zone timestamptz), date or jsonb; 0 and 1 of a column declared BOOLEAN become
boolean; DECIMAL numeric; numbers of a column declared DATETIME moments, in the unit of all of them.
Columns that refer to each other have one type. A column of several storage classes gets a type that
holds all of them: numeric, text or bytea. --keep-text and --type say otherwise.

Left out, and said: what has no certain translation (some DEFAULTs, CHECKs, partial and expression
indexes), foreign keys that rows break (--dangling), views, triggers, virtual tables and their
shadow tables.

Passwords in URLs are stored as ***, with a ledger entry, unless --keep-secrets is given.

The file must stay as it is while it is copied. --snapshot copies it first, by SQLite's backup API,
beside a writing application, into the state folder, and reads and compares that copy; an interrupted
copy goes on with the same one. What is written meanwhile is taken along by the next `copy --snapshot`.

--throttle, --max-load, --max-lag, --pause-file and --pause-while are kind to a server that others use,
as `toolkit backfill --help` says; so is `toolkit run pause|resume|stop` from another terminal.

Run it again: an interrupted copy goes on where it was, a finished one is compared again and takes
new rows along. A schema with tables of the same names from elsewhere is refused.

Exit codes: 0 everything is there and equal, 1 rows were rejected or differ, 2 could not run.

Examples:
  toolkit copy app.db
  toolkit copy app.db --dry-run
  toolkit copy app.db --schema shop --zone UTC
  toolkit copy app.db --type users.id=text --skip sessions
  toolkit copy app.db --snapshot --throttle 5000/s
  toolkit copy app.db --emit-pack ./shop-pack
  toolkit embedded psql -- -c '\\dt app.*'
  toolkit --database-url postgres://me@db.example/app copy app.db")]
// Flags of a command line, each a choice of its own.
#[allow(clippy::struct_excessive_bools)]
pub struct Args {
    /// The SQLite file
    #[arg(value_name = "SQLITE_FILE")]
    file: PathBuf,
    #[command(flatten)]
    choices: Choices,
    /// Print the plan and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Write the pack (migration and pack.toml) to this folder; with --dry-run, only that
    #[arg(long, value_name = "DIR")]
    emit_pack: Option<PathBuf>,
    /// Start over instead of resuming an unfinished copy whose file has changed since
    #[arg(long)]
    restart: bool,
    /// Copy the file first and read the copy, so that the application may go on writing
    #[arg(long)]
    snapshot: bool,
    #[command(flatten)]
    manners: ManneredArgs,
}

/// What may be decided about a plan.
#[derive(Debug, Clone, clap::Args)]
#[allow(clippy::struct_excessive_bools)]
pub(super) struct Choices {
    /// Target schema, which is created [default: named after the file]
    #[arg(long, value_name = "NAME")]
    schema: Option<String>,
    /// Only this table; may be repeated
    #[arg(long, value_name = "NAME")]
    table: Vec<String>,
    /// Leave this table behind; may be repeated
    #[arg(long, value_name = "NAME")]
    skip: Vec<String>,
    /// Keep text as text, even if it is always a UUID, a time or JSON
    #[arg(long)]
    keep_text: bool,
    /// Another type for a column: text, bytea, bigint, numeric, double precision, boolean, uuid,
    /// timestamptz, timestamp, date, time, jsonb; may be repeated
    #[arg(long = "type", value_name = "TABLE.COLUMN=TYPE")]
    types: Vec<Asked>,
    /// Zone of times without an offset (UTC, +02:00, Europe/Vienna), which become timestamptz
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// Make timestamptz of INTEGER columns whose name and numbers say that they are moments
    #[arg(long)]
    epochs: bool,
    /// What becomes of text with U+0000 or bytes that are not UTF-8
    #[arg(long, value_enum, value_name = "WHAT", default_value = "reject")]
    bad_text: BadTextName,
    /// What becomes of a foreign key that rows break: keep all rows and leave the key out, reject
    /// such rows, or store NULL
    #[arg(long, value_enum, value_name = "WHAT", default_value = "keep")]
    dangling: DanglingName,
    /// Make names lower-case, so that they need no quotes in Postgres
    #[arg(long)]
    lower_names: bool,
    /// Store passwords in URLs as they are
    #[arg(long)]
    keep_secrets: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum BadTextName {
    Reject,
    Replace,
    Bytea,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum DanglingName {
    Keep,
    Reject,
    Null,
}

impl Choices {
    /// The same, with the names that a file gives.
    fn named_after(&self, file: &Path) -> Result<Self> {
        let schema = copy::schema_name(file, &self.options())?;
        Ok(Self { schema: Some(schema), ..self.clone() })
    }

    pub(super) fn options(&self) -> Options {
        Options {
            schema: self.schema.clone(),
            tables: self.table.clone(),
            skip: self.skip.clone(),
            keep_text: self.keep_text,
            types: self.types.clone(),
            zone: self.zone.clone(),
            epochs: self.epochs,
            bad_text: match self.bad_text {
                BadTextName::Reject => BadText::Reject,
                BadTextName::Replace => BadText::Replace,
                BadTextName::Bytea => BadText::Bytea,
            },
            dangling: match self.dangling {
                DanglingName::Keep => Dangling::Keep,
                DanglingName::Reject => Dangling::Reject,
                DanglingName::Null => Dangling::Null,
            },
            lower_names: self.lower_names,
            keep_secrets: self.keep_secrets,
        }
    }
}

/// The plan of a file, made beside the runtime.
pub(super) async fn planned(file: &Path, choices: &Choices, output: &Output) -> Result<Plan> {
    let (file, options, stop) = (file.to_path_buf(), choices.options(), output.stop().clone());
    let bytes = std::fs::metadata(&file).map_or(0, |found| found.len());
    output.note(format!("reading {} ({})", file.display(), runs::size(bytes)));
    tokio::task::spawn_blocking(move || copy::plan(&file, &options, &stop))
        .await
        .map_err(join_error)?
}

/// Runs the command.
pub async fn run(args: Args, settings: &Settings, output: &Output) -> Result<Outcome> {
    if args.snapshot && !args.dry_run {
        return of_a_copy(&args, settings, output).await;
    }
    if args.snapshot {
        output.note("a copy would be made of the file first; none is made, the file is read");
    }
    let plan = planned(&args.file, &args.choices, output).await?;
    if plan.tables.is_empty() {
        output.report(&plan)?;
        output.note("there is no table to copy; nothing was changed");
        return Ok(Outcome::Success);
    }
    if args.dry_run {
        emit(&plan, args.emit_pack.as_deref(), output)?;
        output.report(&plan)?;
        return Ok(Outcome::Success);
    }
    let postgres = Postgres::connect(settings).await?;
    let outcome = with_postgres(&args, plan, None, settings, output, &postgres).await;
    let closed = postgres.close().await;
    let outcome = outcome?;
    closed?;
    Ok(outcome)
}

/// Copies the file first, beside whoever writes it, and reads the copy.
async fn of_a_copy(args: &Args, settings: &Settings, output: &Output) -> Result<Outcome> {
    let pack = copy::pack_name(&args.file, &args.choices.options())?;
    let postgres = Postgres::connect(settings).await?;
    let outcome = async {
        let (file, stop) = (args.file.as_path(), output.stop());
        let (snapshot, is_kept) =
            copy::snapshot(settings, &postgres, (file, &pack), args.restart, stop)
                .await
                .map_err(resumable)?;
        output.note(if is_kept {
            format!("going on with the copy in {}", snapshot.folder().display())
        } else {
            format!(
                "the file was copied to {}: it holds what the file holds, secrets included, readable \
                 by its owner alone, until the next run with --snapshot begins",
                snapshot.folder().display()
            )
        });
        let name = args.file.file_name().unwrap_or_default();
        let copied = snapshot.roots().into_iter().next().unwrap_or_default().join(name);
        let plan = planned(&copied, &args.choices.named_after(&args.file)?, output).await?;
        let plan = Plan { source: args.file.clone(), ..plan };
        if plan.tables.is_empty() {
            output.report(&plan)?;
            output.note("there is no table to copy; nothing was changed");
            return Ok(Outcome::Success);
        }
        with_postgres(args, plan, Some(snapshot), settings, output, &postgres).await
    };
    let outcome = outcome.await;
    let closed = postgres.close().await;
    let outcome = outcome?;
    closed?;
    Ok(outcome)
}

fn emit(plan: &Plan, folder: Option<&Path>, output: &Output) -> Result<()> {
    let Some(folder) = folder else { return Ok(()) };
    copy::write_new(plan, folder)?;
    output.note(format!(
        "the pack is in {dir}; to run it: toolkit migrate up --pack {pack} --dir {dir}, then toolkit \
         backfill --pack {dir} --source {file}",
        dir = folder.display(),
        pack = plan.pack,
        file = plan.source.display()
    ));
    Ok(())
}

async fn with_postgres(
    args: &Args,
    plan: Plan,
    snapshot: Option<Arc<Snapshot>>,
    settings: &Settings,
    output: &Output,
    postgres: &Postgres,
) -> Result<Outcome> {
    let mut conn = postgres.dedicated().await?;
    copy::refuse_foreign(&mut conn, &plan).await?;
    drop(conn);
    emit(&plan, args.emit_pack.as_deref(), output)?;
    let folder = settings.state_dir.join("copies").join(&plan.pack);
    let progress = Progress::new(output);
    let on_event = |event| match event {
        copy::Event::Begun(forecast) => progress.expect(&forecast),
        copy::Event::Copying(event) => progress.show(event),
        copy::Event::Comparing(event) => progress.show_comparison(event),
    };
    let options = backfill::Options {
        restart: args.restart,
        manners: args.manners.manners(),
        snapshot,
        ..backfill::Options::default()
    };
    let done = Box::pin(copy::apply(
        settings,
        postgres,
        plan,
        &folder,
        &options,
        output.stop(),
        &on_event,
    ))
    .await;
    let copied = match done {
        Ok(copied) => copied,
        // The source is not what it was: that is a finding about it, not a failure to run.
        Err(error) if error.kind() == ErrorKind::SourceChanged => {
            output.error(&error);
            return Ok(Outcome::Differences);
        }
        Err(error) => return Err(resumable(error)),
    };
    output.report(&copied)?;
    Ok(if copied.is_clean { Outcome::Success } else { Outcome::Differences })
}

/// A copy that was stopped or cut off says how to go on.
fn resumable(error: Error) -> Error {
    let again = "run the same command again to go on where it was";
    match error.kind() {
        ErrorKind::Interrupted => {
            let detail = format!("{}; what was copied is kept", error.detail());
            Error::new(ErrorKind::Interrupted, detail).advice(again)
        }
        ErrorKind::StoreUnreachable | ErrorKind::StoreExhausted | ErrorKind::Io => {
            let advice = match error.advice_text() {
                Some(advice) => format!("{advice}; then {again}"),
                None => format!("when the cause is gone, {again}"),
            };
            error.advice(advice)
        }
        ErrorKind::RunMismatch if error.advice_text().is_some_and(|a| a.contains("--restart")) => {
            let advice = if error.detail().contains("--snapshot") {
                "give --snapshot or leave it out as when the copy began, or start over with --restart"
            } else if error.detail().starts_with("the copy that run") {
                "start over with --restart, which makes a new copy"
            } else {
                "the file changed while it was copied: --restart starts over"
            };
            error.advice(advice)
        }
        _ => error,
    }
}

impl Report for Plan {
    fn text(&self) -> String {
        let mut text = format!(
            "plan of a copy of {} into schema {}\n\n{}",
            self.source.display(),
            self.schema,
            tables(&self.tables, |table| vec![
                table.source.clone(),
                grouped(table.rows),
                if table.key.is_empty() { "-".to_owned() } else { table.key.join(", ") },
                table.columns.len().to_string(),
            ])
        );
        text.push_str(&said(self));
        let rows = self.tables.iter().map(|table| table.rows).sum();
        let bytes = std::fs::metadata(&self.source).map_or(0, |found| found.len());
        let forecast = runs::Forecast::usual(rows, bytes);
        text.push_str(&format!("\n\n{}, and a comparison after it", forecast.sentence()));
        text.push_str("\nno changes are made");
        text
    }
}

fn tables(all: &[TablePlan], row: impl Fn(&TablePlan) -> Vec<String>) -> comfy_table::Table {
    let mut table = output::table(["table", "rows", "key", "columns"]);
    for planned in all {
        table.add_row(row(planned));
    }
    table
}

/// Everything of a plan that a person should know.
fn said(plan: &Plan) -> String {
    let mut text = String::new();
    let mut types = output::table(["column", "declared", "type", "because"]);
    let mut hints: Vec<String> = Vec::new();
    for table in &plan.tables {
        for column in &table.columns {
            let place = format!("{}.{}", table.source, column.source);
            if !column.why.is_empty() {
                types.add_row([&place, &column.declared, &column.ty, &column.why]);
            }
            hints.extend(column.hint.iter().map(|hint| format!("{place}: {hint}")));
        }
    }
    if !types.is_empty() {
        text.push_str(&format!("\n\n{types}"));
    }
    let mut lines: Vec<String> = hints;
    for table in &plan.tables {
        lines.extend(table.notes.iter().map(|note| format!("{}: {note}", table.source)));
    }
    lines.extend(plan.notes.iter().cloned());
    if !lines.is_empty() {
        text.push_str(&format!("\n\n  {}", lines.join("\n  ")));
    }
    if !plan.not_copied.is_empty() {
        let names: Vec<String> =
            plan.not_copied.iter().map(|not| format!("{} {}", not.kind, not.name)).collect();
        text.push_str(&format!("\n\nNOT COPIED: {}", names.join(", ")));
    }
    text
}

impl Report for Copied {
    fn text(&self) -> String {
        let mut table =
            output::table(["table", "read", "inserted", "unchanged", "rejected", "ledgered"]);
        for stream in &self.backfill.streams {
            let counts = &stream.counts;
            table.add_row([
                stream.stream.clone(),
                grouped(counts.read),
                grouped(counts.records.inserted + counts.records.updated),
                grouped(counts.records.unchanged),
                grouped(counts.records.rejected),
                grouped(counts.ledgered),
            ]);
        }
        let mut text = format!("{table}{}", said(&self.plan));
        let seconds = self.backfill.seconds + self.parity.seconds;
        let rate = self.backfill.read as f64 / self.backfill.seconds.max(0.001);
        text.push_str(&format!(
            "\n\nrows: {}, tables: {}, schema: {}; copied in {:.1} s ({rate:.0} rows/s), compared in \
             {:.1} s, {seconds:.1} s in all",
            grouped(self.backfill.read),
            self.plan.tables.len(),
            self.plan.schema,
            self.backfill.seconds,
            self.parity.seconds
        ));
        if self.backfill.rejects > 0 {
            text.push_str(&format!(
                "\nREJECTED: {} rows, kept whole: toolkit rejects list --pack {}",
                grouped(self.backfill.rejects),
                self.plan.pack
            ));
        }
        let ledgered: u64 = self.backfill.streams.iter().map(|s| s.counts.ledgered).sum();
        if ledgered > 0 {
            text.push_str(&format!(
                "\n{} values stored changed, with their originals: toolkit ledger list --pack {}",
                grouped(ledgered),
                self.plan.pack
            ));
        }
        for note in &self.backfill.sequence_notes {
            text.push_str(&format!("\n{note}"));
        }
        text.push_str(&verdict(self));
        text
    }
}

fn verdict(copied: &Copied) -> String {
    let mut text = String::new();
    if !copied.backfill.changed_sources.is_empty() {
        text.push_str("\nCHANGED while it was read: run again when the application is still");
    }
    if copied.parity.verdict == crate::parity::Verdict::Clean {
        let but = if copied.backfill.rejects > 0 { " but the rejected ones" } else { "" };
        text.push_str(&format!(
            "\nPARITY: every row{but} was compared, and nothing differs (run {})",
            copied.parity.run_id
        ));
    } else {
        text.push_str(&format!(
            "\nDIFFERENCES: {} rows differ: toolkit parity report --run {}",
            grouped(copied.parity.differing_rows),
            copied.parity.run_id
        ));
    }
    let with = if copied.backfill.snapshot.is_some() {
        "--snapshot".to_owned()
    } else {
        format!("--source {}", copied.plan.source.display())
    };
    let folder = copied.folder.display();
    text.push_str(&format!("\nverify again: toolkit verify-parity --pack {folder} {with}"));
    text
}
