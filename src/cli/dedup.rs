//! `toolkit dedup`: near-duplicate characters.

use clap::Subcommand;
use clap::builder::PossibleValuesParser;
use uuid::Uuid;

use super::record::{Listing, on_connection, shown};
use super::{Outcome, Output, Report, output};
use crate::anime::dedup::{
    self, ByName, ByVector, Candidate, Candidates, Decided, Merged, Proposed, STATES, Undone,
};
use crate::config::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::qdrant::{Target, open_existing};

/// Arguments of `toolkit dedup`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
propose compares characters that share a name, an alias or a native name in any spelling, appear in
one anime under names that begin alike, or are near each other by the vectors of the Qdrant collection
(the ten nearest of each; `toolkit outbox drain` brings it up to date first), and stores those that
score high enough with what speaks for and against: names, native names, aliases, common and related anime, roles, pages, gender, age.
The embedded Qdrant has no index: all are compared with all, exactly, in time that grows with the square
of their number. A server searches its index, which may miss a neighbour.

merge writes a redirect, moves appearances (where both were in one anime, one row keeps what both said)
and adds the names as aliases, in one transaction; the old character's point leaves Qdrant by way of
the outbox. Its row stays, and lookups follow redirects to their end. What moved is recorded: undo
puts every row back as it was. A row that changed since is named, and nothing is done (exit 2), unless
--force leaves such rows as they are (exit 1). The newest of merges that build on each other is taken
back first.

Examples:
  toolkit dedup propose --min-score 0.6
  toolkit dedup propose --by names
  toolkit dedup review
  toolkit --format json dedup review --limit 1000 | jq '.candidates[] | select(.score > 0.9)'
  toolkit dedup review --reject 17 18
  toolkit dedup merge 17
  toolkit dedup merge --from UUID --into UUID --dry-run
  toolkit dedup undo 3")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Find characters that may be one, and store them for review
    Propose {
        /// Score a candidate has at least, from 0 to 1
        #[arg(long, default_value_t = 0.6, value_parser = share)]
        min_score: f64,
        /// Characters of one name that are still compared; more are left alone and counted
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(2..=1000))]
        max_crowd: u16,
        /// What finds pairs: names alone, or vectors too, where there is a collection; without one,
        /// or where it does not answer, names alone, and it is said
        #[arg(long, value_enum, default_value_t = By::Vectors)]
        by: By,
        /// Count what would be proposed and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Candidates, best first, with their reasons; or say that some are two characters
    Review {
        /// Only this state
        #[arg(long, default_value = "open", value_parser = PossibleValuesParser::new(STATES))]
        state: String,
        /// Only this candidate, in whatever state
        #[arg(long, value_name = "ID")]
        id: Option<i64>,
        /// These are two characters; they are not proposed again
        #[arg(long, value_name = "ID", num_args = 1..)]
        reject: Vec<i64>,
        /// Who decides [default: the user's name]
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
        #[command(flatten)]
        listing: Listing,
    },
    /// Make two characters one: a candidate's, or any two
    Merge {
        /// Number of a candidate; the character of fewer anime is merged into the other
        #[arg(required_unless_present = "from", conflicts_with = "from")]
        candidate: Option<i64>,
        /// The character that goes
        #[arg(long, value_name = "UUID", requires = "into")]
        from: Option<Uuid>,
        /// The character that stays; of a candidate, one of its two
        #[arg(long, value_name = "UUID")]
        into: Option<Uuid>,
        /// Who decides [default: the user's name]
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
        /// Say what would be done and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Take a merge back
    Undo {
        /// Number of the merge
        merge: i64,
        /// Leave rows that changed since as they are, and restore the others
        #[arg(long)]
        force: bool,
        /// Who decides [default: the user's name]
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
        /// Say what would be done and change nothing
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum By {
    Vectors,
    Names,
}

fn share(text: &str) -> std::result::Result<f64, String> {
    text.parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| format!("`{text}` is no number from 0 to 1"))
}

fn person(by: Option<String>) -> String {
    by.or_else(|| std::env::var("USER").ok()).unwrap_or_else(|| "unknown".to_owned())
}

/// Runs the command.
pub async fn run(args: Args, settings: &Settings, output: &Output) -> Result<Outcome> {
    on_connection(settings, output, async |connection| {
        act(args.action, settings, connection, output).await
    })
    .await
}

/// What the collection's search finds besides the names; where it cannot be asked, the names alone.
/// It is searched before anything is begun in Postgres: that may take minutes.
async fn propose(
    (min_score, dry_run): (f64, bool),
    mut names: ByName,
    by: By,
    settings: &Settings,
    conn: &mut sqlx::PgConnection,
    output: &Output,
) -> Result<Proposed> {
    let stop = output.stop();
    if by == By::Names {
        return dedup::propose(conn, &names, min_score, dry_run, stop).await;
    }
    let why = match searched(names, settings, stop).await {
        Ok(Ok(near)) => return dedup::propose(conn, &near, min_score, dry_run, stop).await,
        Ok(Err(why)) => why,
        Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::Config) => {
            return Err(error);
        }
        Err(error) => {
            names.is_partial = true;
            format!("{error}; open candidates stay")
        }
    };
    output.note(format!("pairs are found by names alone, not by vectors: {why}"));
    dedup::propose(conn, &names, min_score, dry_run, stop).await
}

/// The neighbours by vectors, or why there are none to search.
async fn searched(
    names: ByName,
    settings: &Settings,
    stop: &Stop,
) -> Result<std::result::Result<ByVector, String>> {
    let Some(store) = open_existing(settings).await? else {
        return Ok(Err("there is no collection".to_owned()));
    };
    let target = Target::new(store, settings)?;
    if let Some(why) = stop.unless(dedup::unsearchable(&target)).await? {
        return Ok(Err(why));
    }
    ByVector::search(&target, names, stop).await.map(Ok)
}

async fn act(
    action: Action,
    settings: &Settings,
    conn: &mut sqlx::PgConnection,
    output: &Output,
) -> Result<Outcome> {
    match action {
        Action::Propose { min_score, max_crowd, by, dry_run } => {
            let names = ByName { crowd_max: max_crowd.into(), ..ByName::default() };
            let how = (min_score, dry_run);
            let done = propose(how, names, by, settings, conn, output).await?;
            output.report(&done)?;
            note_of(dry_run, output);
        }
        Action::Review { reject, by, .. } if !reject.is_empty() => {
            let decided = dedup::reject(conn, &reject, &person(by)).await?;
            output.report(&decided)?;
            return Ok(whole(decided.not_open.is_empty()));
        }
        Action::Review { state, id, listing, .. } => {
            let state = id.is_none().then_some(state);
            let limit = listing.limit.into();
            output.report(&dedup::candidates(conn, state.as_deref(), id, limit).await?)?;
        }
        Action::Merge { candidate, from, into, by, dry_run } => {
            let pair = match (candidate, from, into) {
                (Some(candidate), _, into) => of_candidate(conn, candidate, into).await?,
                (None, Some(from), Some(into)) => (from, into),
                _ => return Err(Error::new(ErrorKind::Usage, "no characters were named")),
            };
            let done = dedup::merge(conn, pair, candidate, &person(by), dry_run).await?;
            output.report(&done)?;
            note_of(dry_run, output);
        }
        Action::Undo { merge, force, by, dry_run } => {
            let done = dedup::undo(conn, merge, &person(by), force, dry_run).await?;
            output.report(&done)?;
            note_of(dry_run, output);
            return Ok(whole(done.left.is_empty()));
        }
    }
    Ok(Outcome::Success)
}

fn whole(is_whole: bool) -> Outcome {
    if is_whole { Outcome::Success } else { Outcome::Differences }
}

fn note_of(dry_run: bool, output: &Output) {
    if dry_run {
        output.note("a dry run: no changes were made");
    }
}

/// Which character of an open candidate goes into which.
async fn of_candidate(
    conn: &mut sqlx::PgConnection,
    id: i64,
    into: Option<Uuid>,
) -> Result<(Uuid, Uuid)> {
    let found = dedup::candidates(conn, None, Some(id), 1).await?;
    let Some(Candidate { state, one, other, .. }) = found.candidates.into_iter().next() else {
        return Err(Error::new(ErrorKind::Usage, format!("there is no candidate {id}"))
            .advice("`toolkit dedup review` lists them"));
    };
    if state != "open" {
        return Err(Error::new(ErrorKind::Usage, format!("candidate {id} is {state}")));
    }
    let uuid = |text: &str| {
        Uuid::parse_str(text)
            .map_err(|error| Error::new(ErrorKind::Bug, "a stored id is none").because(error))
    };
    let is_larger = other.anime > one.anime;
    let (one, other) = (uuid(&one.id)?, uuid(&other.id)?);
    match into {
        None if is_larger => Ok((one, other)),
        None => Ok((other, one)),
        Some(into) if into == one => Ok((other, one)),
        Some(into) if into == other => Ok((one, other)),
        Some(into) => {
            let detail = format!("{into} is none of candidate {id}");
            Err(Error::new(ErrorKind::Usage, detail).advice(format!("it is of {one} and {other}")))
        }
    }
}

impl Report for Proposed {
    fn text(&self) -> String {
        let Self { compared, candidates, changed, withdrawn, crowds, near } = self;
        let mut text = format!(
            "{compared} pairs compared, {near} of them found by vectors: {candidates} candidates, {changed} of them new or changed; \
             {withdrawn} withdrawn"
        );
        if *crowds > 0 {
            text.push_str(&format!("\n{crowds} names are borne by too many to be compared"));
        }
        text.push_str("\n`toolkit dedup review` shows them");
        text
    }
}

impl Report for Candidates {
    fn text(&self) -> String {
        if self.candidates.is_empty() {
            return "no candidates".to_owned();
        }
        let mut table = output::table(["id", "score", "characters", "anime", "reasons"]);
        for candidate in &self.candidates {
            let Candidate { one, other, .. } = candidate;
            let mut number = candidate.id.to_string();
            if candidate.state != "open" {
                number.push_str(&format!(" ({})", candidate.state));
            }
            if let Some(merge) = candidate.merge {
                number.push_str(&format!(", merge {merge}"));
            }
            let reasons = candidate.reasons.iter();
            let reasons: Vec<String> =
                reasons.map(|r| format!("{:+.2} {}", r.weight, shown(&r.what))).collect();
            table.add_row([
                number,
                format!("{:.2}", candidate.score),
                format!("{} {}\n{} {}", one.id, shown(&one.name), other.id, shown(&other.name)),
                format!("{}\n{}", one.anime, other.anime),
                reasons.join("\n"),
            ]);
        }
        let named = self.candidates.len();
        format!("{table}\n\ncandidates: {}, shown: {named}", self.total)
    }
}

impl Report for Decided {
    fn text(&self) -> String {
        let numbers = |ids: &[i64]| ids.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
        let mut text = format!("rejected: {}", numbers(&self.rejected));
        if !self.not_open.is_empty() {
            text.push_str(&format!("\nnot open, or not there: {}", numbers(&self.not_open)));
        }
        text
    }
}

impl Report for Merged {
    fn text(&self) -> String {
        let Self { merge, from, into, moved, united, aliases } = self;
        let head = match merge {
            Some(merge) => format!("merge {merge}: {from} is {into} now"),
            None => format!("{from} would be {into}"),
        };
        let undo = merge.map(|merge| format!("\n`toolkit dedup undo {merge}` takes it back"));
        format!(
            "{head}; {moved} appearances moved, {united} united, {aliases} aliases added{}",
            undo.unwrap_or_default()
        )
    }
}

impl Report for Undone {
    fn text(&self) -> String {
        let Self { merge, from, into, restored, left } = self;
        let mut text = format!(
            "merge {merge} is taken back: {from} and {into} are two; {restored} rows restored"
        );
        for row in left {
            text.push_str(&format!("\nleft as it is now: {}", shown(row)));
        }
        text
    }
}
