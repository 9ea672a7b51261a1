//! `toolkit query`: the questions of a pack's documents.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::record::{on_connection, pack_name, shown};
use super::{Outcome, Output, Report, output};
use crate::config::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::query::{self, Answer, Limits, Question};

/// Arguments of `toolkit query`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Without a name the pack's questions are listed. Each runs read-only, with a deadline, and gives at
most --limit rows; no row is an answer, too, and exits 0.

Examples:
  toolkit query webtoon
  toolkit query webtoon lineage 0b5f6a3e-6f0b-4d3a-9a43-6d5c1f6f9a10
  toolkit query media smart-list 0b5f6a3e-6f0b-4d3a-9a43-6d5c1f6f9a10
  toolkit --format json query webtoon value-drift")]
pub(super) struct Args {
    /// The pack
    #[arg(value_parser = pack_name)]
    pack: String,
    /// The question; without it, all are listed
    name: Option<String>,
    /// What the question is about
    #[arg(value_name = "ARG")]
    arguments: Vec<String>,
    /// Most rows, from 1 to 10000
    #[arg(long, value_name = "N", default_value_t = 1_000,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(Limits::ROWS_MAX)))]
    limit: u32,
    /// Deadline in the server, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 2_000,
          value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    timeout_ms: u64,
}

/// Runs `toolkit query`.
pub(super) async fn run(args: Args, settings: &Settings, output: &Output) -> Result<Outcome> {
    let Some(name) = &args.name else {
        return list(&args.pack, output);
    };
    let question = query::find(&args.pack, name)?;
    let limits = Limits { rows: args.limit, timeout: Duration::from_millis(args.timeout_ms) };
    on_connection(settings, output, async |connection| {
        output.report(&query::ask(connection, question, &args.arguments, limits).await?)
    })
    .await?;
    Ok(Outcome::Success)
}

fn list(pack: &str, output: &Output) -> Result<Outcome> {
    let questions = query::questions(pack);
    if questions.is_empty() {
        return Err(Error::new(ErrorKind::Usage, format!("pack {pack} has no questions"))
            .advice("media and webtoon have"));
    }
    output.report(&Questions { pack, questions: questions.iter().map(Listed::from).collect() })?;
    Ok(Outcome::Success)
}

#[derive(Debug, Serialize)]
struct Questions<'a> {
    pack: &'a str,
    questions: Vec<Listed>,
}

#[derive(Debug, Serialize)]
struct Listed {
    usage: String,
    about: &'static str,
}

impl From<&Question> for Listed {
    fn from(question: &Question) -> Self {
        Self { usage: question.usage(), about: question.about }
    }
}

impl Report for Questions<'_> {
    fn text(&self) -> String {
        let mut table = output::table(["question", "what it answers"]);
        for question in &self.questions {
            table.add_row([question.usage.clone(), question.about.to_owned()]);
        }
        table.trim_fmt()
    }
}

impl Report for Answer {
    fn text(&self) -> String {
        if self.rows.is_empty() {
            return "no rows".to_owned();
        }
        let mut table = output::table([]);
        table.set_header(&self.columns);
        for row in &self.rows {
            table.add_row(row.values().map(cell));
        }
        let count = self.rows.len();
        let end = match (count, self.truncated) {
            (_, true) => format!("the first {count} rows; --limit gives more"),
            (1, false) => "1 row".to_owned(),
            (_, false) => format!("{count} rows"),
        };
        format!("{}\n\n{end}", table.trim_fmt())
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => shown(text),
        other => shown(&other.to_string()),
    }
}
