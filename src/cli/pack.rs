//! `toolkit pack`: what a pack says, and whether it fits.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Subcommand;

use super::{Outcome, Output, Report, output};
use crate::cast::Reverse;
use crate::config::Settings;
use crate::error::Result;
use crate::pack::Pack;
use crate::pack::check::{self, Check, Finding, StreamCheck};
use crate::pack::show::{MappedColumn, MappedOutput, MappedStream, Mapping, mapping};
use crate::store::Postgres;

/// Arguments of `toolkit pack`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
A pack is one application's schema and mapping: a folder with V<version>__<name>.sql files and a
pack.toml, or one of the built-in packs. `show` needs no database.

`check` compiles pack.toml against the live database, with --source also against the files that are
there: of each source the first 1,000 records are read and cast as a backfill would. Nothing is
changed. It lists problems (exit 1) and warnings (exit 0): a key without a unique index, pointers
that lead nowhere, members mapped nowhere. A pack.toml that cannot be read exits 2, like everything
that keeps the check from being made.

Names: a source column that begins with / ^ + @, or has no name, is written `column:NAME`; a target
with a dot in a part of its name is quoted as in SQL: target = '\"my.schema\".\"my.table\"'.

Policies of a column, `on = { nul = \"replace\" }`, or of all in [defaults.on]; each is reject unless
pack.toml says otherwise. replace and null leave a ledger entry with the original bytes:

  policy               what it decides about              replace stores           null stores
  nul                  U+0000 in text, JSON strings       U+FFFD                   NULL (JSON: null)
  invalid_utf8         bytes that are no UTF-8            U+FFFD for each fault    NULL (JSON: null)
  nan                  NaN, infinity where there is none  \"NaN\" in JSON            NULL (JSON: null)
  overflow             out of range, or not held exactly  the nearest value        NULL
  too_long             text beyond varchar(n)             the first n characters   NULL
  json_duplicate_keys  a key twice in jsonb               the last value           JSON null
  unreadable           what the cast cannot read          (refused)                NULL
  orphan               a foreign key that leads nowhere  (refused)                NULL
  mixed_units          a numeric timestamp that is plausible in another unit only: reject, or keep

Other options of a column: cast, zone, unit, aliases, empty, json_null, default, and redact = false,
which stores secrets as they are. unit = \"s\", \"ms\", \"us\", or \"infer\": the unit in which most
numbers of the whole column are moments from March 1973 to 2099; it is shown, and recorded with the
run. Values of types known only as text (macaddr, cidr, ranges, money, bit, xml, tsvector, ...) are
stored as Postgres writes them, with a ledger entry `respelled` where that is another text.

cast = \"uuid_v5\" with namespace = \"UUID\" makes a uuid of a name. Files: except = [\"lists*\"] leaves
out files that a pattern matches; records = \"/*\" takes the records of whatever array a document has;
compute = \"NAME\" names a built-in function whose fields are +/NAME, and original = \"/NAME\" beside
such a `from` keeps in the ledger (`computed`) what it was made of. An output with mention = true is a
row that many records name: stored once, before them.

Examples:
  toolkit pack show                                   the built-in pack
  toolkit --format json pack show --pack ./my-pack
  toolkit pack check --pack ./my-pack                 against the database only
  toolkit pack check --pack ./my-pack --source app.db --source ./artifacts")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print the mapping: every source, target, key, rule, column and cast
    Show {
        /// Built-in pack, or the folder of your own pack.toml
        #[arg(long, value_name = "NAME|DIR", default_value = "unified")]
        pack: String,
    },
    /// Validate pack.toml against the database and, with --source, the sources; exit 1 on problems
    Check {
        /// Built-in pack, or the folder of your own pack.toml
        #[arg(long, value_name = "NAME|DIR")]
        pack: String,
        /// Folder (searched with its subfolders) or file with the pack's sources; may be repeated
        #[arg(long, value_name = "PATH")]
        source: Vec<PathBuf>,
    },
}

/// Runs `toolkit pack`.
pub async fn run(args: Args, settings: &Settings, output: &Output) -> Result<Outcome> {
    match args.action {
        Action::Show { pack } => {
            let mapping = mapping(&Pack::find(&pack)?);
            output.report(&mapping)?;
            Ok(outcome(mapping.problems.is_empty()))
        }
        Action::Check { pack, source } => {
            // What cannot be parsed is said before a server is started.
            let pack = Pack::find(&pack)?;
            let postgres = output.stop().unless(Postgres::connect(settings)).await?;
            let checked = output.stop().unless(check::check(&postgres, pack, &source)).await;
            let closed = postgres.close().await;
            let checked = checked?;
            closed?;
            output.report(&checked)?;
            Ok(outcome(checked.problems.is_empty()))
        }
    }
}

fn outcome(is_fine: bool) -> Outcome {
    if is_fine { Outcome::Success } else { Outcome::Differences }
}

impl Report for Mapping {
    fn text(&self) -> String {
        let mut text = format!("pack {} version {} ({})", self.pack, self.version, self.file);
        if !self.description.is_empty() {
            let _ = write!(text, "\n{}", self.description);
        }
        if !self.defaults.is_empty() {
            let _ = write!(text, "\ndefaults: {}", self.defaults.join(", "));
        }
        if !self.redact_members.is_empty() {
            let _ = write!(text, "\nsecret members: {}", self.redact_members.join(", "));
        }
        for stream in &self.streams {
            let _ = write!(text, "\n\n{}", stream_text(stream));
        }
        if !self.problems.is_empty() {
            let _ = write!(text, "\n\nproblems ({}):", self.problems.len());
        }
        for problem in &self.problems {
            let _ = write!(text, "\n  {problem}");
        }
        text
    }
}

fn stream_text(stream: &MappedStream) -> String {
    let mut text = format!("stream {}: {}", stream.stream, stream.source);
    if !stream.after.is_empty() {
        let _ = write!(text, "\n  after {}", stream.after.join(", "));
    }
    if !stream.ignore.is_empty() {
        let _ = write!(text, "\n  left behind: {}", stream.ignore.join(", "));
    }
    let reverse = stream.reverse.map_or("as well as its casts allow", Reverse::name);
    let _ = write!(text, "\n  written back after the cutover: {reverse}");
    for output in &stream.outputs {
        let _ = write!(text, "\n{}", output_text(stream, output));
    }
    text
}

fn output_text(stream: &MappedStream, mapped: &MappedOutput) -> String {
    let by = mapped.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    let rule = match mapped.conflict {
        crate::pack::manifest::ConflictRule::SourceWins => "the source wins",
        crate::pack::manifest::ConflictRule::TargetWins => "the target's row stays",
        crate::pack::manifest::ConflictRule::Newer => "the newer wins",
    };
    let name =
        if mapped.output == stream.stream { String::new() } else { format!("{} ", mapped.output) };
    let mut text =
        format!("  {name}-> {}, key ({}), {rule}{by}", mapped.target, mapped.key.join(", "));
    if let Some(each) = &mapped.each {
        let _ = write!(text, "\n  one row per element of {each}");
    }
    if let Some(when) = &mapped.when {
        let _ = write!(text, "\n  only where {when} is there");
    }
    if let Some((empty, rule)) = &mapped.skip {
        let _ = write!(text, "\n  without {empty}: skipped by the rule {rule}");
    }
    if mapped.columns.is_empty() {
        text.push_str("\n  columns of the same name");
        return text;
    }
    let mut table = output::table(["column", "from", "cast", "differs from the defaults"]);
    for column in &mapped.columns {
        table.add_row([
            column.column.clone(),
            from_text(column),
            column.cast.clone().unwrap_or_default(),
            column.options.join(", "),
        ]);
    }
    for line in table.trim_fmt().lines() {
        let _ = write!(text, "\n  {line}");
    }
    text
}

fn from_text(column: &MappedColumn) -> String {
    if let Some(value) = &column.value {
        return format!("constant {value:?}");
    }
    let shown: Vec<&str> = column
        .from
        .iter()
        .map(|from| if from.is_empty() { "(the whole)" } else { from.as_str() })
        .collect();
    shown.join(", else ")
}

impl Report for Check {
    fn text(&self) -> String {
        let mut table =
            output::table(["stream", "sources", "target", "columns", "sampled", "refused"]);
        for stream in &self.streams {
            add_stream(&mut table, stream);
        }
        let mut text = format!(
            "pack {} version {} against {}\n\n{}",
            self.pack,
            self.version,
            self.database,
            table.trim_fmt()
        );
        let units = super::backfill::units_text(&self.inferred_units);
        if !units.is_empty() {
            let _ = write!(text, "\n{units}");
        }
        text.push_str(&findings("problems", &self.file, &self.problems));
        text.push_str(&findings("warnings", &self.file, &self.warnings));
        let verdict = match (self.problems.len(), self.warnings.len()) {
            (0, 0) => "fine: the pack fits".to_owned(),
            (0, warnings) => format!("fine: the pack fits; warnings: {warnings}"),
            (problems, warnings) => format!("problems: {problems}, warnings: {warnings}"),
        };
        let _ = write!(text, "\n\n{verdict}");
        text
    }
}

fn add_stream(table: &mut comfy_table::Table, stream: &StreamCheck) {
    let sources = match stream.sources.as_deref() {
        None => "not looked for".to_owned(),
        Some([]) => "none".to_owned(),
        Some([one]) => one.clone(),
        Some([first, rest @ ..]) => format!("{first} and {} more", rest.len()),
    };
    for (at, mapped) in stream.outputs.iter().enumerate() {
        let columns = mapped.columns.map_or("?".to_owned(), |count| count.to_string());
        let row = if at == 0 {
            [
                stream.stream.clone(),
                sources.clone(),
                mapped.target.clone(),
                columns,
                stream.sampled.to_string(),
                stream.refused.to_string(),
            ]
        } else {
            let name = format!("  + {}", mapped.output);
            [name, String::new(), mapped.target.clone(), columns, String::new(), String::new()]
        };
        table.add_row(row);
    }
}

fn findings(title: &str, file: &str, findings: &[Finding]) -> String {
    if findings.is_empty() {
        return String::new();
    }
    let mut text = format!("\n\n{title} ({}):", findings.len());
    for finding in findings {
        let stream =
            finding.stream.as_ref().map(|name| format!("stream `{name}`: ")).unwrap_or_default();
        let _ = write!(text, "\n  {file}, line {}: {stream}{}", finding.line, finding.detail);
        if let Some(advice) = &finding.advice {
            let _ = write!(text, "\n    help: {advice}");
        }
    }
    text
}
