//! `toolkit certificate`: whether what was once proved still holds.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Subcommand;
use serde::Serialize;

use super::record::shown as escaped;
use super::{Outcome, Output, Report, output};
use crate::certificate::{self, Check, Fact, Sealed};
use crate::config::Settings;
use crate::error::Result;
use crate::pack::Pack;
use crate::store::Postgres;

/// Arguments of `toolkit certificate`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
A certificate is written by `toolkit verify-parity --level full --certificate FILE`, and only if
nothing differs. It holds, per table, the row counts and a root of either side (a digest over all
canonical rows that does not depend on their order); per stream, counts and roots of its rejects and
ledger entries; fingerprints of every source file and of the pack; versions; and the SHA-256 of
itself, over its canonical JSON:

  jq -cjS 'del(.sha256)' certificate.json | sha256sum

It is a checksum, not a signature: it shows damage and careless edits, not forgery. Keep it where
others cannot write.

`check` compares everything again, in a new snapshot, and names what no longer holds. That
comparison is stored like any verification, so what differs can be looked at with
`toolkit parity report --run latest`. Sources are looked for where they were, unless --source says
where they are now. A source that was legitimately written to, and backfilled, no longer holds
either: then verify, and make a new certificate.

Exit codes: 0 all holds; 1 something no longer holds, or the certificate was edited; 2 could not
check (no certificate, no source folder, no server, another canonical encoding).

Examples:
  toolkit verify-parity --pack unified --source /data/app --certificate moved.json
  toolkit certificate show moved.json
  toolkit certificate check moved.json
  toolkit --format json certificate check moved.json --source /mnt/copy/app")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Recompute everything a certificate says, and name what no longer holds
    Check {
        /// The certificate
        file: PathBuf,
        /// Folder or file with the pack's sources; may be repeated [default: where they were]
        #[arg(long, value_name = "PATH")]
        source: Vec<PathBuf>,
        /// Folder of your own pack.toml [default: where it was]
        #[arg(long)]
        pack: Option<String>,
    },
    /// What a certificate says; reads the file only
    Show {
        /// The certificate
        file: PathBuf,
    },
}

/// Runs the command.
pub async fn run(args: Args, settings: &Settings, output: &Output) -> Result<Outcome> {
    let check = match args.action {
        Action::Show { file } => {
            let sealed = certificate::read(&file)?;
            let is_intact = sealed.is_intact();
            output.report(&Shown { is_intact, sealed })?;
            return Ok(if is_intact { Outcome::Success } else { Outcome::Differences });
        }
        Action::Check { file, source, pack } => {
            let sealed = certificate::read(&file)?;
            match certificate::check_seal(&sealed)? {
                Some(edited) => edited,
                None => against_stores(settings, output, &sealed, source, pack).await?,
            }
        }
    };
    output.report(&check)?;
    Ok(if check.holds { Outcome::Success } else { Outcome::Differences })
}

async fn against_stores(
    settings: &Settings,
    output: &Output,
    sealed: &Sealed,
    source: Vec<PathBuf>,
    pack: Option<String>,
) -> Result<Check> {
    let then = &sealed.certificate;
    let pack = pack.as_deref().or(then.pack.folder.as_deref()).unwrap_or(&then.pack.name);
    let pack = Pack::find(pack)?;
    let roots =
        if source.is_empty() { then.looked_in.iter().map(PathBuf::from).collect() } else { source };
    let postgres = Postgres::connect(settings).await?;
    let checked = async {
        let opened = Arc::new(crate::pack::open(settings, &postgres, pack, &roots).await?);
        certificate::check(&postgres, opened, sealed, output.stop()).await
    };
    let checked = checked.await;
    let closed = postgres.close().await;
    let checked = checked?;
    closed?;
    Ok(checked)
}

#[derive(Serialize)]
struct Shown {
    is_intact: bool,
    #[serde(flatten, serialize_with = "certificate_of")]
    sealed: Sealed,
}

fn certificate_of<S: serde::Serializer>(
    sealed: &Sealed,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    sealed.certificate.serialize(serializer)
}

impl Report for Shown {
    fn text(&self) -> String {
        let certificate = &self.sealed.certificate;
        let pack = &certificate.pack;
        let seal = if self.is_intact {
            format!("intact, SHA-256 {}", self.sealed.computed)
        } else {
            format!(
                "EDITED: it states SHA-256 {}, and has {}",
                escaped(&self.sealed.stated),
                self.sealed.computed
            )
        };
        let not_checked = &certificate.not_checked;
        let facts = output::facts([
            ("certificate", seal),
            ("says", escaped(&certificate.statement)),
            ("pack", escaped(&format!("{} version {}", pack.name, pack.version))),
            ("pack.toml", escaped(&pack.fingerprint)),
            (
                "snapshot",
                escaped(&format!("{0}, {1}", certificate.snapshot.at, certificate.snapshot.lsn)),
            ),
            ("verification", escaped(&certificate.parity_run)),
            (
                "made by",
                escaped(&format!(
                    "toolkit {}, canonical encoding {}",
                    certificate.tool_version, certificate.encoding_version
                )),
            ),
            (
                "sources",
                escaped(&format!(
                    "{} files in {}",
                    certificate.sources.len(),
                    certificate.looked_in.join(", ")
                )),
            ),
            ("not checked", escaped(&not_checked_text(not_checked))),
        ]);
        let mut tables = output::table(["table", "rows", "newer", "source root", "postgres root"]);
        for table in &certificate.tables {
            tables.add_row([
                escaped(&table.target),
                table.target_rows.to_string(),
                table.superseded.to_string(),
                escaped(&short(&table.source_root)),
                escaped(&short(&table.target_root)),
            ]);
        }
        let mut streams = output::table(["stream", "read", "rejects", "ledger entries"]);
        for stream in &certificate.streams {
            streams.add_row([
                escaped(&stream.stream),
                stream.read.to_string(),
                stream.rejects.to_string(),
                stream.ledger.to_string(),
            ]);
        }
        format!("{facts}\n\n{}\n\n{}", tables.trim_fmt(), streams.trim_fmt())
    }
}

fn not_checked_text(not_checked: &certificate::NotChecked) -> String {
    let mut parts = not_checked.streams.iter().map(|s| format!("stream {s}")).collect::<Vec<_>>();
    parts.extend(not_checked.outside_slices.iter().map(|outside| {
        format!("{} rows of {} that no stream claims", outside.rows, outside.table)
    }));
    parts.extend(not_checked.left_out.iter().map(|left_out| {
        let (rows, rule, target) = (left_out.source_rows, &left_out.rule, &left_out.target);
        format!("{rows} rows of {target} with {rule}, by retention")
    }));
    parts.extend(
        not_checked.unmapped_columns.iter().map(|unmapped| {
            format!("columns {} of {}", unmapped.columns.join(", "), unmapped.table)
        }),
    );
    if parts.is_empty() { "nothing of the pack was left out".to_owned() } else { parts.join("; ") }
}

/// Long hexadecimal cut to what tells two apart at a glance.
fn short(text: &str) -> String {
    let is_long_hex = |word: &str| word.len() > 16 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let cut = |word: &str| if is_long_hex(word) { word[..12].to_owned() } else { word.to_owned() };
    let words: Vec<String> = text
        .split(' ')
        .map(|word| match word.rsplit_once(['=', ':']) {
            Some((head, last)) if is_long_hex(last) => {
                format!("{head}{}{}", &word[head.len()..=head.len()], cut(last))
            }
            _ => cut(word),
        })
        .collect();
    words.join(" ")
}

impl Report for Check {
    fn text(&self) -> String {
        let mut table = output::table(["what", "then", "now", "holds"]);
        let is_listed = |fact: &&Fact| !fact.is_file || fact.holds != Some(true);
        for fact in self.facts.iter().filter(is_listed) {
            let holds = match fact.holds {
                Some(true) => "yes",
                Some(false) => "NO",
                None => "does not matter",
            };
            table.add_row([
                escaped(&fact.what),
                escaped(&short(&fact.then)),
                escaped(&short(&fact.now)),
                holds.to_owned(),
            ]);
        }
        let mut text = table.trim_fmt();
        let files = self.facts.iter().filter(|fact| fact.is_file && fact.holds == Some(true));
        let files = files.count();
        if files > 0 {
            text.push_str(&format!("\n\nsource files that are as they were: {files}"));
        }
        let broken = self.broken().count();
        text.push_str(&if self.holds {
            format!("\n\nHOLDS: everything is as it was certified at {}", self.certified_at)
        } else if self.parity_run.is_none() {
            "\n\nEDITED: the certificate does not say what it said when it was written; nothing \
             else was looked at"
                .to_owned()
        } else {
            format!(
                "\n\nNO LONGER HOLDS: {broken} of {} facts certified at {} are not as they were",
                self.facts.len(),
                self.certified_at
            )
        });
        if let (false, Some(run)) = (self.holds, &self.parity_run) {
            text.push_str(&format!("\n`toolkit parity report --run {run}` names rows that differ"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_and_fingerprints_are_cut_and_everything_else_is_not() {
        let hex = "0123456789abcdef0123456789abcdef";
        assert_eq!(short(&format!("rows 12, root {hex}")), "rows 12, root 0123456789ab");
        assert_eq!(short(&format!("sha256={hex}")), "sha256=0123456789ab");
        let token = format!("size=4096 change=00000003 schema=00000001 wal=3:{hex}");
        assert_eq!(short(&token), "size=4096 change=00000003 schema=00000001 wal=3:0123456789ab");
        assert_eq!(short("not there"), "not there");
    }
}
