//! `toolkit run`: what runs, how far it is, and the wish that it pause, go on or stop.

use serde::Serialize;

use super::output::{self, facts};
use super::{Outcome, Output, Report};
use crate::config::Settings;
use crate::error::Result;
use crate::preflight::grouped;
use crate::runs::{self, Asked, Detail, Filter, Process, Run};
use crate::store::Postgres;

/// Arguments of `toolkit run`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
A run is one execution of a command that writes; a backfill or a copy that is stopped, killed or
paused stays one run until its last row is in. RUN is its id, the first four characters of it or
more, or `latest`, the newest backfill.

  running      processes work on it
  pausing      it was asked to pause; chunks are still being written
  paused       no process writes: it was asked to pause, or --max-load, --max-lag, --pause-file or
               --pause-while of `toolkit backfill` have it wait
  stopping     it was asked to stop; chunks are still being written
  interrupted  stopped, and can be resumed: run its command again
  failed       an error ended it; run its command again when the cause is gone
  cut off      its processes were killed; run its command again
  completed    every record is in, or kept as a reject

pause and stop reach every process of the run, on every machine, within about a second, between two
chunks. Paused processes stay: they hold no transaction, and their chunks stay theirs. A pause outlives
its processes: a run that was paused and killed waits when it is started again, and says so. Processes
that are stopped end as by Ctrl-C, with exit 2 and the name of who asked.

Examples:
  toolkit run list
  toolkit run list --unfinished
  toolkit run show latest
  toolkit run pause latest
  toolkit run resume 3fd0
  toolkit run stop latest
  toolkit --format json run show latest | jq '{state, rate, seconds_left, paused_because}'

In SQL: toolkit.run, toolkit.run_process, toolkit.stream_state, toolkit.chunk.")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Runs of this database, the newest first
    List {
        /// Only of this pack
        #[arg(long)]
        pack: Option<String>,
        /// Only those that work or can be resumed
        #[arg(long)]
        unfinished: bool,
        /// So many at most
        #[arg(long, value_name = "N", default_value = "20",
              value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// How far a run is, what it refused, who works on it, why it waits
    Show {
        /// Its id, the beginning of it, or `latest`
        run: String,
    },
    /// Have all processes of a run wait, between two chunks, until `resume`
    Pause {
        /// Its id, the beginning of it, or `latest`
        run: String,
    },
    /// Let a paused run go on
    Resume {
        /// Its id, the beginning of it, or `latest`
        run: String,
    },
    /// End all processes of a run as by Ctrl-C; its command, run again, goes on
    Stop {
        /// Its id, the beginning of it, or `latest`
        run: String,
    },
}

/// Runs the command.
pub async fn run(args: Args, settings: &Settings, output: &Output) -> Result<Outcome> {
    let postgres = output.stop().unless(Postgres::connect(settings)).await?;
    let done = act(args.action, output, &postgres).await;
    let closed = postgres.close().await;
    done?;
    closed?;
    Ok(Outcome::Success)
}

async fn act(action: Action, output: &Output, postgres: &Postgres) -> Result<()> {
    let mut conn = postgres.dedicated().await?;
    let (wish, asked) = match action {
        Action::List { pack, unfinished, limit } => {
            let runs = runs::list(&mut conn, &Filter { pack, unfinished, limit }).await?;
            return output.report(&Listing { runs });
        }
        Action::Show { run } => {
            let detail = runs::show(&mut conn, &run).await?;
            return output.report(&detail);
        }
        Action::Pause { run } => ("pause", runs::pause(&mut conn, &run, output.stop()).await?),
        Action::Resume { run } => ("resume", runs::resume(&mut conn, &run, output.stop()).await?),
        Action::Stop { run } => ("stop", runs::stop(&mut conn, &run, output.stop()).await?),
    };
    output.report(&Wish { wish, asked })
}

#[derive(Debug, Serialize)]
struct Listing {
    runs: Vec<Run>,
}

impl Report for Listing {
    fn text(&self) -> String {
        if self.runs.is_empty() {
            return "no runs".to_owned();
        }
        let mut table =
            output::table(["run", "pack", "command", "state", "began", "rows", "processes", "who"]);
        for run in &self.runs {
            table.add_row([
                run.run.clone(),
                run.pack.clone(),
                run.command.clone(),
                state(run),
                run.began_at.clone(),
                grouped(run.rows_read.unsigned_abs()),
                run.processes.to_string(),
                run.begun_by.clone().unwrap_or_default(),
            ]);
        }
        table.trim_fmt()
    }
}

/// A pause that outlived its processes is part of how a run stands.
fn state(run: &Run) -> String {
    if run.is_unfinished && !run.is_alive && run.pause_asked_by.is_some() {
        return format!("{}, to pause", run.state);
    }
    run.state.clone()
}

impl Report for Detail {
    fn text(&self) -> String {
        let run = &self.run;
        let mut named = vec![
            ("run", run.run.clone()),
            ("pack", format!("{} ({})", run.pack, run.command)),
            ("state", state(run)),
            ("began", format!("{} by {}", run.began_at, run.begun_by.as_deref().unwrap_or("?"))),
        ];
        if let (Some(by), Some(at)) = (&run.pause_asked_by, &run.pause_asked_at) {
            named.push(("pause", format!("asked for by {by} at {at}")));
        }
        for reason in &self.paused_because {
            named.push(("waits", reason.clone()));
        }
        if let Some(at) = &run.finished_at {
            named.push(("ended", at.clone()));
        }
        if let Some(error) = &run.error {
            named.push(("because", error.clone()));
        }
        named.push(("read", rate(self)));
        named.push(("rejects", format!("{} ({} open)", self.rejects, self.open_rejects)));
        let rules: Vec<String> =
            self.ledger.iter().map(|(rule, entries)| format!("{rule} {entries}")).collect();
        named
            .push(("ledger", if rules.is_empty() { "empty".to_owned() } else { rules.join(", ") }));
        if self.held_rows > 0 {
            named.push(("held", format!("{} rows wait for others", self.held_rows)));
        }
        let mut text = facts(named);
        text.push_str(&streams(self));
        text.push_str(&processes(&self.workers));
        text
    }
}

fn rate(detail: &Detail) -> String {
    let mut text = format!("{} records", grouped(detail.run.rows_read.unsigned_abs()));
    if let Some(rate) = detail.rate {
        text.push_str(&format!(", {rate:.0}/s in the last minute it copied"));
    }
    if let Some(seconds) = detail.seconds_left {
        text.push_str(&format!(", about {seconds:.0} s left"));
    }
    text
}

fn streams(detail: &Detail) -> String {
    if detail.streams.is_empty() {
        return String::new();
    }
    let mut table = output::table(["stream", "state", "read", "of about", "chunks", "open spans"]);
    for stream in &detail.streams {
        table.add_row([
            stream.stream.clone(),
            stream.state.clone(),
            grouped(stream.rows_read.unsigned_abs()),
            stream.records_expected.map_or("?".to_owned(), |n| grouped(n.unsigned_abs())),
            stream.chunks_done.to_string(),
            stream.chunks_pending.to_string(),
        ]);
    }
    format!("\n\n{}", table.trim_fmt())
}

fn processes(workers: &[Process]) -> String {
    if workers.is_empty() {
        return String::new();
    }
    let mut table = output::table(["host", "pid", "workers", "state", "began", "last sign", "who"]);
    for process in workers {
        table.add_row([
            process.host.clone(),
            process.pid.map_or_else(String::new, |pid| pid.to_string()),
            process.workers.to_string(),
            process.state.clone(),
            process.began_at.clone(),
            format!("{} ({:.0} s ago)", process.seen_at, process.silent_seconds),
            process.begun_by.clone(),
        ]);
    }
    format!("\n\n{}", table.trim_fmt())
}

#[derive(Debug, Serialize)]
struct Wish {
    wish: &'static str,
    #[serde(flatten)]
    asked: Asked,
}

impl Report for Wish {
    fn text(&self) -> String {
        let (asked, run) = (&self.asked, &self.asked.run);
        let mut text = match (self.wish, asked.was_so) {
            ("pause", true) => {
                let by = run.pause_asked_by.as_deref().unwrap_or("somebody");
                format!("run {} was asked to pause already, by {by}", run.run)
            }
            ("pause", false) => format!("run {} is asked to pause", run.run),
            ("resume", true) => format!("run {} was not asked to pause", run.run),
            ("resume", false) => format!("run {} may go on", run.run),
            (_, true) => format!("run {} was asked to stop already", run.run),
            (_, false) => format!("run {} is asked to stop", run.run),
        };
        text.push_str(&self.answer());
        text
    }
}

impl Wish {
    /// What its processes have done about it.
    fn answer(&self) -> String {
        let (asked, run) = (&self.asked, &self.asked.run);
        if !asked.not_yet.is_empty() {
            return format!(
                "; processes still at work on a chunk: {}; `toolkit run show {}` says how it stands",
                asked.not_yet.len(),
                run.run
            );
        }
        let again = "run the same command again to go on";
        match self.wish {
            "pause" if run.is_alive => format!(
                "; all of its processes wait: `toolkit run resume {}` lets them go on",
                run.run
            ),
            "pause" => "; nobody works on it, and when it is started again it will wait".to_owned(),
            "resume" if !run.is_alive => format!("; nobody works on it: {again}"),
            "resume" if !asked.paused_because.is_empty() => {
                format!("; it waits even so: {}", asked.paused_because.join("; "))
            }
            "resume" => String::new(),
            _ if run.is_alive => "; its processes end within moments".to_owned(),
            _ => format!("; all of its processes have ended: {again}"),
        }
    }
}
