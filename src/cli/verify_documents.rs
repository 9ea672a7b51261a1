//! `toolkit verify-parity` of a pack of documents.

use std::sync::Arc;

use super::verify_parity::Args;
use super::{Outcome, Output, report_file};
use crate::anime::parity::{Options, verify};
use crate::config::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::pack::Pack;
use crate::parity::{StoredRun, Verdict, stored_run};
use crate::store::Postgres;

/// Runs the command.
pub(super) async fn run(
    args: &Args,
    pack: &Pack,
    settings: &Settings,
    output: &Output,
) -> Result<Outcome> {
    refuse_what_does_not_apply(args, pack)?;
    let postgres = output.stop().unless(Postgres::connect(settings)).await?;
    let done = with_postgres(args, pack, settings, output, &postgres).await;
    let closed = postgres.close().await;
    let outcome = done?;
    closed?;
    Ok(outcome)
}

/// Flags of tables of casts.
fn refuse_what_does_not_apply(args: &Args, pack: &Pack) -> Result<()> {
    let given = [
        (!args.stream.is_empty(), "--stream"),
        (args.snapshot, "--snapshot"),
        (args.settle.is_some(), "--settle"),
        (args.certificate.is_some(), "--certificate"),
    ];
    let Some((_, flag)) = given.iter().find(|(is_given, _)| *is_given) else { return Ok(()) };
    Err(Error::new(
        ErrorKind::Usage,
        format!("{flag} does not apply to the pack {}, whose sources are artifacts", pack.name()),
    )
    .advice("leave it out: an artifact is one stream, and does not change"))
}

async fn with_postgres(
    args: &Args,
    pack: &Pack,
    settings: &Settings,
    output: &Output,
    postgres: &Postgres,
) -> Result<Outcome> {
    let options =
        Options { level: args.level(output), differences_max: args.max_differences as usize };
    let report = verify(settings, postgres, pack, &args.source, &options, output.stop()).await?;
    output.report(&report)?;
    if report.verdict == Verdict::Differences {
        output.note(
            "what is missing is filled in by `toolkit backfill --pack anime --again`, what differs \
             is proposed there: `toolkit review list`",
        );
    }
    if !args.report.is_empty() {
        let mut conn = postgres.dedicated().await?;
        let stored = stored_run(&mut conn, &report.run_id).await?;
        let stored = Arc::new(StoredRun { report: report.clone(), ..stored });
        report_file::write(&args.report, &stored, output)?;
    }
    Ok(match report.verdict {
        Verdict::Clean => Outcome::Success,
        Verdict::Differences => Outcome::Differences,
    })
}
