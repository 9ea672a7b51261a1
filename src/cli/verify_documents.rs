//! `toolkit verify-parity` of a pack of documents.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::progress::Progress;
use super::verify_parity::Args;
use super::{Outcome, Output, report_file};
use crate::anime::derived;
use crate::anime::parity::{Options, verify};
use crate::config::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::pack::Pack;
use crate::parity::{Against, Report, StoredRun, Verdict, stored_run};
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
        (args.settle.is_some() && !args.against().contains(&Against::Qdrant), "--settle"),
        (args.certificate.is_some(), "--certificate"),
    ];
    let Some((_, flag)) = given.iter().find(|(is_given, _)| *is_given) else { return Ok(()) };
    Err(Error::new(
        ErrorKind::Usage,
        format!("{flag} does not apply to the pack {}, whose sources are artifacts", pack.name()),
    )
    .advice("leave it out: an artifact is one stream, and does not change"))
}

/// First the stores that may not answer, so that nothing is stored of a comparison that cannot be
/// made as a whole.
async fn compare(
    args: &Args,
    pack: &Pack,
    settings: &Settings,
    output: &Output,
    postgres: &Postgres,
    options: &Options,
) -> Result<Report> {
    let started = Instant::now();
    let (mut against, stop) = (args.against(), output.stop());
    // A projection of this very database: nothing else has to be there, and it is done soon.
    if !against.contains(&Against::Graph) {
        against.push(Against::Graph);
    }
    let derived = derived::Options {
        differences_max: options.differences_max,
        settle: Duration::from_secs(args.settle.unwrap_or_default().into()),
    };
    let artifacts = if against.contains(&Against::Sidecar) {
        derived::artifacts(postgres, pack, &args.source).await?
    } else {
        Vec::new()
    };
    let compared =
        derived::compare(settings, postgres, &against, &artifacts, &derived, stop).await?;
    let sources = if against.contains(&Against::Source) {
        let progress = Progress::new(output);
        let on_event = |event| progress.show_comparison(event);
        Some(verify(settings, postgres, pack, &args.source, options, stop, &on_event).await?)
    } else {
        None
    };
    match sources {
        Some(report) if compared.is_empty() => Ok(report),
        sources => {
            let roots = &args.source;
            derived::record(postgres, pack, roots, sources, compared, (started, &derived)).await
        }
    }
}

async fn with_postgres(
    args: &Args,
    pack: &Pack,
    settings: &Settings,
    output: &Output,
    postgres: &Postgres,
) -> Result<Outcome> {
    let options = Options {
        level: args.level(output),
        differences_max: args.max_differences as usize,
        manners: args.manners.manners(),
    };
    let report = compare(args, pack, settings, output, postgres, &options).await?;
    output.report(&report)?;
    let is_of = |against: Against| {
        report.units.iter().any(|unit| unit.against == against && unit.differing() > 0)
    };
    if is_of(Against::Sidecar) {
        output.note("the sidecar is written anew by `toolkit sidecar write`");
    }
    if is_of(Against::Qdrant) {
        output.note(
            "points are made right by `toolkit repair plan` and `apply`, then `toolkit outbox drain`; \
             what is on its way by `toolkit outbox drain` alone",
        );
    }
    if is_of(Against::Graph) {
        output.note("edges are made right by `toolkit graph reconcile --repair`");
    }
    if is_of(Against::Source) {
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
