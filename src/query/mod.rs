//! Questions that a pack's documents ask of its database, by name, inside limits.
//!
//! A question is a statement that is written down here, with every value bound. It runs in a
//! read-only transaction with a deadline, and gives at most as many rows as were asked for.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::{Connection as _, PgConnection, Row as _};
use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};
use crate::media::smart_list;
use crate::store::sql;

/// A named question.
#[derive(Debug, Clone, Copy)]
pub struct Question {
    /// Its name, unique within the pack.
    pub name: &'static str,
    /// What it answers, in one line.
    pub about: &'static str,
    /// Its arguments, in order; required ones first.
    pub arguments: &'static [Argument],
    /// One SELECT; argument n is `$n::text`, NULL where it was left out. Empty where the statement is
    /// made from what the database holds: then `smart_list` answers.
    pub sql: &'static str,
}

/// An argument of a question.
#[derive(Debug, Clone, Copy)]
pub struct Argument {
    /// As the person reads it.
    pub name: &'static str,
    /// What it must be.
    pub kind: Kind,
    /// Whether it may be left out.
    pub required: bool,
}

/// What an argument must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 32 hexadecimal digits, with or without dashes.
    Uuid,
    /// Any text.
    Text,
}

/// How much a question may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most rows given, from 1 to [`Limits::ROWS_MAX`]; more are cut off and said.
    pub rows: u32,
    /// Deadline in the server.
    pub timeout: Duration,
}

impl Limits {
    /// The greatest number of rows one answer has.
    pub const ROWS_MAX: u32 = 10_000;
}

impl Default for Limits {
    fn default() -> Self {
        Self { rows: 1_000, timeout: Duration::from_secs(2) }
    }
}

/// What the server said.
#[derive(Debug, Clone, Serialize)]
pub struct Answer {
    /// The question's name.
    pub question: &'static str,
    /// Names of the columns, in order; known only where there are rows.
    pub columns: Vec<String>,
    /// Rows by column name.
    pub rows: Vec<Map<String, Value>>,
    /// Whether there were more rows than were asked for.
    pub truncated: bool,
    /// How long the server took, in milliseconds.
    pub elapsed_ms: f64,
}

/// The questions a pack answers; none for a pack without any.
#[must_use]
pub fn questions(pack: &str) -> &'static [Question] {
    match pack {
        "media" => crate::media::questions::QUESTIONS,
        "webtoon" => crate::webtoon::QUESTIONS,
        _ => &[],
    }
}

/// Finds a question of `pack`, or says which there are.
pub fn find(pack: &str, name: &str) -> Result<&'static Question> {
    let known = questions(pack);
    known.iter().find(|question| question.name == name).ok_or_else(|| {
        let error = Error::new(ErrorKind::Usage, format!("pack {pack} has no question {name:?}"));
        if known.is_empty() {
            return error.advice("only built-in packs have questions: media and webtoon have");
        }
        let names: Vec<&str> = known.iter().map(|question| question.name).collect();
        error.advice(format!("it has {}", names.join(", ")))
    })
}

impl Question {
    /// `lineage ARTIFACT [DIRECTION]`
    #[must_use]
    pub fn usage(&self) -> String {
        let mut usage = self.name.to_owned();
        for argument in self.arguments {
            let name = argument.name.to_uppercase();
            usage.push_str(&if argument.required {
                format!(" {name}")
            } else {
                format!(" [{name}]")
            });
        }
        usage
    }

    /// The arguments as they are bound, or what is wrong with them.
    fn bind(&self, given: &[String]) -> Result<Vec<Option<String>>> {
        let wrong = |what: String| {
            Error::new(ErrorKind::Usage, what).advice(format!("it is asked as: {}", self.usage()))
        };
        if given.len() > self.arguments.len() {
            return Err(wrong(format!(
                "{} takes {} arguments, not {}",
                self.name,
                self.arguments.len(),
                given.len()
            )));
        }
        let mut bound = Vec::with_capacity(self.arguments.len());
        for (place, argument) in self.arguments.iter().enumerate() {
            let value = given.get(place);
            match (value, argument.kind) {
                (None, _) if argument.required => {
                    return Err(wrong(format!("{} wants a {}", self.name, argument.name)));
                }
                (Some(text), Kind::Uuid) if Uuid::try_parse(text).is_err() => {
                    return Err(wrong(format!("{} is no uuid: {text:?}", argument.name)));
                }
                _ => bound.push(value.cloned()),
            }
        }
        Ok(bound)
    }
}

/// Asks `question` on `connection`. No row is an answer too.
///
/// # Errors
/// `Usage` for arguments that do not fit, `TimedOut` where the server did not finish in time.
pub async fn ask(
    connection: &mut PgConnection,
    question: &'static Question,
    arguments: &[String],
    limits: Limits,
) -> Result<Answer> {
    let bound = question.bind(arguments)?;
    let mut transaction = connection.begin_with("BEGIN READ ONLY").await?;
    sqlx::query("SELECT pg_catalog.set_config('statement_timeout', $1, true)")
        .bind(limits.timeout.as_millis().max(1).to_string())
        .execute(&mut *transaction)
        .await?;
    let answer = if question.sql.is_empty() {
        let list = bound.into_iter().flatten().next().unwrap_or_default();
        smart_list::evaluate(&mut transaction, &list, question.name, limits).await
    } else {
        run(&mut transaction, question.name, question.sql, &bound, limits).await
    };
    transaction.rollback().await?;
    answer
}

/// Runs one SELECT whose values are bound as texts.
pub(crate) async fn run(
    connection: &mut PgConnection,
    question: &'static str,
    select: &str,
    values: &[Option<String>],
    limits: Limits,
) -> Result<Answer> {
    let rows_max = limits.rows.clamp(1, Limits::ROWS_MAX);
    let started = Instant::now();
    // json, not jsonb: it keeps the order of the columns.
    let statement = format!(
        "SELECT pg_catalog.row_to_json(answer)::text FROM ({}) AS answer LIMIT {}",
        select,
        u64::from(rows_max) + 1
    );
    let mut query = sqlx::query(sql(statement));
    for value in values {
        query = query.bind(value);
    }
    let fetched = query
        .fetch_all(&mut *connection)
        .await
        .map_err(|error| timed_out(question, limits, error))?;
    let elapsed_ms = started.elapsed().as_secs_f64() * 1_000.0;
    let truncated = fetched.len() > rows_max as usize;
    let rows: Vec<Map<String, Value>> =
        fetched.iter().take(rows_max as usize).map(one_row).collect::<Result<_>>()?;
    let columns = rows.first().map(|row| row.keys().cloned().collect()).unwrap_or_default();
    Ok(Answer { question, columns, rows, truncated, elapsed_ms })
}

fn one_row(row: &sqlx::postgres::PgRow) -> Result<Map<String, Value>> {
    let text: String = row.try_get(0)?;
    serde_json::from_str(&text)
        .map_err(|e| Error::new(ErrorKind::Bug, "row_to_json gave no JSON object").because(e))
}

fn timed_out(question: &str, limits: Limits, error: sqlx::Error) -> Error {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    if code.as_deref() != Some("57014") {
        return error.into();
    }
    let took = limits.timeout.as_millis();
    Error::new(ErrorKind::TimedOut, format!("{question} was not answered in {took} ms"))
        .advice("ask for less (an argument narrows it), or allow more with --timeout-ms")
        .because(error)
}
