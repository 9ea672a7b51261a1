//! `toolkit review`: changes of artifacts that wait for a person.

use clap::Subcommand;
use clap::builder::PossibleValuesParser;
use serde_json::Value;

use super::record::{Listing, on_connection, shown};
use super::{Outcome, Output, Report, output};
use crate::anime::review::{self, Decision, Filter, Review, Reviews, STATES, Which};
use crate::config::Settings;
use crate::error::Result;

/// Arguments of `toolkit review`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
An artifact may fill in what is missing, move a status forward, raise a count and add episodes. A new
title, type or source material, a falling count and anything that vanishes are not applied: they wait
here, with what is stored (before) and what the artifact says (after). Which field follows which rule
is in pack.toml.

accept stores what was proposed; of rows that an artifact no longer has, it deletes them. reject keeps
what is stored, and the same proposal does not come back. A field that has changed since it was queued
is left alone and said (exit 1).

Examples:
  toolkit review list
  toolkit review list --field title --limit 10
  toolkit review show 17
  toolkit review accept 17 18 --dry-run
  toolkit review reject --all --by jane")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// The first of them, with before and after
    List {
        /// Only this state
        #[arg(long, default_value = "open", value_parser = PossibleValuesParser::new(STATES))]
        state: String,
        /// Only this field: a column, `meta.NAME`, `raw_by_source.NAME`, or a table
        #[arg(long)]
        field: Option<String>,
        /// Only what concerns this anime
        #[arg(long, value_name = "ID")]
        anime: Option<uuid::Uuid>,
        #[command(flatten)]
        listing: Listing,
    },
    /// One of them, whole
    Show {
        /// Its number
        id: i64,
    },
    /// Store what was proposed
    Accept(Deciding),
    /// Keep what is stored, and never propose it again
    Reject(Deciding),
}

#[derive(Debug, clap::Args)]
struct Deciding {
    /// Every open one
    #[arg(long, conflicts_with = "ids", required_unless_present = "ids")]
    all: bool,
    /// Numbers of reviews
    #[arg(value_name = "ID")]
    ids: Vec<i64>,
    /// Who decides [default: the user's name]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Say what would be done and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Runs the command.
pub async fn run(args: Args, settings: &Settings, output: &Output) -> Result<Outcome> {
    match args.action {
        Action::List { state, field, anime, listing } => {
            let filter = Filter { state: Some(state), field, anime };
            let reviews = on_connection(settings, output, async |connection| {
                review::list(connection, &filter, listing.limit.into()).await
            })
            .await?;
            output.report(&reviews)?;
            Ok(Outcome::Success)
        }
        Action::Show { id } => {
            let review = on_connection(settings, output, async |connection| {
                review::show(connection, id).await
            })
            .await?;
            output.report(&review)?;
            Ok(Outcome::Success)
        }
        Action::Accept(deciding) => decide(deciding, true, settings, output).await,
        Action::Reject(deciding) => decide(deciding, false, settings, output).await,
    }
}

async fn decide(
    deciding: Deciding,
    accept: bool,
    settings: &Settings,
    output: &Output,
) -> Result<Outcome> {
    let Deciding { all, ids, by, dry_run } = deciding;
    let which = if all { Which::All } else { Which::Ids(ids) };
    let by = by.or_else(|| std::env::var("USER").ok()).unwrap_or_else(|| "unknown".to_owned());
    let decision = on_connection(settings, output, async |connection| {
        review::decide(connection, &which, accept, &by, dry_run).await
    })
    .await?;
    let is_whole = decision.stale.is_empty() && decision.not_open.is_empty();
    output.report(&Decided { decision, accept, dry_run })?;
    Ok(if is_whole { Outcome::Success } else { Outcome::Differences })
}

#[derive(serde::Serialize)]
struct Decided {
    #[serde(flatten)]
    decision: Decision,
    accept: bool,
    dry_run: bool,
}

impl Report for Decided {
    fn text(&self) -> String {
        let numbers = |ids: &[i64]| ids.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
        let verb = match (self.dry_run, self.accept) {
            (false, true) => "accepted",
            (false, false) => "rejected",
            (true, true) => "no changes are made; would accept",
            (true, false) => "no changes are made; would reject",
        };
        let Decision { decided, not_open, stale } = &self.decision;
        let mut text = format!("{verb}: {} ({})", decided.len(), numbers(decided));
        if !stale.is_empty() {
            text.push_str(&format!(
                "\nleft open, because the field has changed since: {}",
                numbers(stale)
            ));
        }
        if !not_open.is_empty() {
            text.push_str(&format!("\nnot open: {}", numbers(not_open)));
        }
        text
    }
}

/// A value on one line.
fn value(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let short: String = text.chars().take(60).collect();
    shown(&if short.len() < text.len() { format!("{short}...") } else { short })
}

impl Report for Reviews {
    fn text(&self) -> String {
        if self.reviews.is_empty() {
            return "nothing waits for a person".to_owned();
        }
        let mut table = output::table(["id", "state", "of", "field", "reason", "before", "after"]);
        for review in &self.reviews {
            table.add_row([
                review.id.to_string(),
                review.state.clone(),
                shown(review.label.as_deref().unwrap_or(&review.entity_id)),
                review.field.clone(),
                review.reason.clone(),
                value(&review.before),
                value(&review.after),
            ]);
        }
        let listed = i64::try_from(self.reviews.len()).unwrap_or(i64::MAX);
        let more = match self.total - listed {
            0 => String::new(),
            more => format!("\n... and {more} more: --limit shows them"),
        };
        format!(
            "{table}{more}\n\nreviews: {}; `toolkit review show ID` prints one whole",
            self.total
        )
    }
}

impl Report for Review {
    fn text(&self) -> String {
        let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap_or_default();
        let facts = output::facts([
            ("review", format!("{} ({})", self.id, self.state)),
            ("of", format!("{} {}", self.entity_type, self.entity_id)),
            ("name", shown(self.label.as_deref().unwrap_or("not there any more"))),
            ("field", self.field.clone()),
            ("reason", self.reason.clone()),
            ("artifact", shown(self.artifact.as_deref().unwrap_or("unknown"))),
            ("queued", self.queued_at.clone()),
            ("decided by", self.decided_by.clone().unwrap_or_default()),
        ]);
        format!("{facts}\n\nbefore:\n{}\n\nafter:\n{}", pretty(&self.before), pretty(&self.after))
    }
}
