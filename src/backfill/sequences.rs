//! Sequences behind loaded columns: an INSERT after the run must not meet a key of it.

use std::collections::BTreeMap;

use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use crate::backfill::Preparation;
use crate::cast::PgType;
use crate::error::{Error, ErrorKind, Result};
use crate::pack::plan::{OutputPlan, PackPlan};
use crate::store::catalog::{Column, Table};
use crate::store::{quote_ident, sql};

/// What became of the sequences.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    /// Those that were moved, with their new value.
    pub(super) moved: BTreeMap<String, i64>,
    /// What somebody should know about the others.
    pub(super) notes: Vec<String>,
}

/// Moves the sequence behind every written serial, identity or defaulted column past the values
/// of all columns that draw from it, in its own direction and never back.
pub(super) async fn set_sequences(
    conn: &mut PgConnection,
    preparation: &Preparation,
) -> Result<Sequences> {
    let streams = preparation.streams.iter();
    let plans = streams.map(|stream| &preparation.opened.plan.streams[stream.index]);
    move_sequences(conn, plans.flat_map(|stream| &stream.outputs)).await
}

/// Moves the sequences of every target of a plan past the keys there are; those that were moved,
/// with their new value.
pub async fn sequences_past_keys(
    conn: &mut PgConnection,
    plan: &PackPlan,
) -> Result<BTreeMap<String, i64>> {
    let outputs = plan.streams.iter().flat_map(|stream| &stream.outputs);
    Ok(move_sequences(conn, outputs).await?.moved)
}

/// As [`set_sequences`], of the given outputs.
pub(super) async fn move_sequences<'o>(
    conn: &mut PgConnection,
    outputs: impl Iterator<Item = &'o OutputPlan>,
) -> Result<Sequences> {
    let mut drawn = Drawn::default();
    for output in outputs {
        for position in 0..output.columns.len() {
            let Some(column) = output.catalog_column(position) else { continue };
            drawn.add(&output.table, column);
        }
    }
    drawn.set_all(conn).await
}

/// Moves the sequences behind every column of `tables` past the values there are: those that were
/// moved, with their new value, and what somebody should know about the others.
pub async fn sequences_of_tables(
    conn: &mut PgConnection,
    tables: impl Iterator<Item = &Table>,
) -> Result<(BTreeMap<String, i64>, Vec<String>)> {
    let done = Drawn::of_tables(tables).set_all(conn).await?;
    Ok((done.moved, done.notes))
}

/// Where a sequence stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// What it gave out last, or will give out first.
    pub last_value: i64,
    /// Whether that was given out.
    pub is_called: bool,
}

/// Where the sequences behind the columns of `tables` stand, by qualified and quoted name: at what
/// they gave out last, or past the values there are where those are further along.
pub async fn positions_of_tables(
    conn: &mut PgConnection,
    tables: impl Iterator<Item = &Table>,
) -> Result<BTreeMap<String, Position>> {
    let mut positions = BTreeMap::new();
    for (sequence, users) in &Drawn::of_tables(tables).0 {
        positions.insert(sequence.clone(), position(conn, sequence, users).await?);
    }
    Ok(positions)
}

async fn position(
    conn: &mut PgConnection,
    sequence: &str,
    users: &[(String, String)],
) -> Result<Position> {
    let is_readable: bool =
        sqlx::query_scalar("SELECT pg_catalog.has_sequence_privilege($1::regclass, 'SELECT')")
            .bind(sequence)
            .fetch_one(&mut *conn)
            .await?;
    if !is_readable {
        let detail = format!("this role may not read where sequence {sequence} stands");
        return Err(Error::new(ErrorKind::StoreDenied, detail)
            .advice(format!("GRANT SELECT ON SEQUENCE {sequence} to it")));
    }
    let range = Range::of(conn, sequence).await?;
    let top =
        if users.is_empty() { "(SELECT NULL::numeric AS v)".to_owned() } else { range.top(users) };
    let Range { min, max, .. } = range;
    let is_ahead = range.ahead();
    let statement = format!(
        "SELECT CASE WHEN t.is_past THEN t.v::int8 ELSE t.last_value END AS last_value, \
             t.is_past OR t.is_called AS is_called \
         FROM (SELECT m.v, s.last_value, s.is_called, m.v IS NOT NULL \
                   AND m.v BETWEEN {min} AND {max} AND (m.v {is_ahead} s.last_value \
                       OR (m.v = s.last_value AND NOT s.is_called)) AS is_past \
               FROM {top} AS m, LATERAL (SELECT last_value, is_called FROM {sequence}) AS s) AS t"
    );
    let row = sqlx::query(sql(statement)).fetch_one(conn).await?;
    Ok(Position { last_value: row.try_get("last_value")?, is_called: row.try_get("is_called")? })
}

/// Moves the sequences behind the columns of `tables` to where they are wanted, in their own
/// direction and never back: those that were moved, with their new value, and what somebody should
/// know about the others.
pub async fn move_sequences_to(
    conn: &mut PgConnection,
    tables: impl Iterator<Item = &Table>,
    wanted: &BTreeMap<String, Position>,
) -> Result<(BTreeMap<String, i64>, Vec<String>)> {
    let (mut moved, mut notes) = (BTreeMap::new(), Vec::new());
    let there = Drawn::of_tables(tables);
    for (sequence, position) in wanted {
        if !there.0.contains_key(sequence) {
            notes.push(format!("sequence {sequence} is not behind a column here: left alone"));
            continue;
        }
        let range = Range::of(conn, sequence).await?;
        let wants = position.last_value;
        if wants < range.min || wants > range.max {
            notes.push(format!(
                "sequence {sequence} stood at {wants}, and reaches from {} to {} here: left alone",
                range.min, range.max
            ));
            continue;
        }
        let statement = format!(
            "SELECT pg_catalog.setval($1::regclass, $2, $3) FROM {sequence} AS s \
             WHERE $2 {} s.last_value OR ($2 = s.last_value AND $3 AND NOT s.is_called)",
            range.ahead()
        );
        let set: Option<i64> = sqlx::query_scalar(sql(statement))
            .bind(sequence)
            .bind(wants)
            .bind(position.is_called)
            .fetch_optional(&mut *conn)
            .await?;
        if let Some(value) = set {
            moved.insert(sequence.clone(), value);
        }
    }
    Ok((moved, notes))
}

/// From where to where a sequence counts.
struct Range {
    increment: i64,
    min: i64,
    max: i64,
}

impl Range {
    async fn of(conn: &mut PgConnection, sequence: &str) -> Result<Self> {
        let row = sqlx::query(
            "SELECT s.seqincrement, s.seqmin, s.seqmax \
             FROM pg_catalog.pg_sequence s WHERE s.seqrelid = $1::regclass",
        )
        .bind(sequence)
        .fetch_one(conn)
        .await?;
        Ok(Self {
            increment: row.try_get("seqincrement")?,
            min: row.try_get("seqmin")?,
            max: row.try_get("seqmax")?,
        })
    }

    /// The comparison that says of a value that it is further along.
    fn ahead(&self) -> &'static str {
        if self.increment > 0 { ">" } else { "<" }
    }

    /// A relation of one row `v`: the value furthest along in what draws from the sequence.
    fn top(&self, users: &[(String, String)]) -> String {
        let extreme = if self.increment > 0 { "max" } else { "min" };
        let values: Vec<String> = users
            .iter()
            .map(|(table, column)| format!("SELECT {extreme}({column})::numeric AS v FROM {table}"))
            .collect();
        format!("(SELECT {extreme}(v) AS v FROM ({}) AS u)", values.join(" UNION ALL "))
    }
}

/// Sequences, and what draws from each: quoted table and column.
#[derive(Default)]
struct Drawn(BTreeMap<String, Vec<(String, String)>>);

impl Drawn {
    fn of_tables<'t>(tables: impl Iterator<Item = &'t Table>) -> Self {
        let mut drawn = Self::default();
        for table in tables {
            for column in &table.columns {
                drawn.add(table, column);
            }
        }
        drawn
    }

    fn add(&mut self, table: &Table, column: &Column) {
        let Some(sequence) = &column.sequence else { return };
        // A default such as 'A' || nextval(...) draws from it without being its value.
        let is_number =
            matches!(column.ty, PgType::Int2 | PgType::Int4 | PgType::Int8 | PgType::Numeric(_));
        let users = self.0.entry(sequence.clone()).or_default();
        let user = (table.sql_name(), quote_ident(&column.name));
        if is_number && !users.contains(&user) {
            users.push(user);
        }
    }

    async fn set_all(&self, conn: &mut PgConnection) -> Result<Sequences> {
        let mut done = Sequences::default();
        for (sequence, users) in self.0.iter().filter(|(_, users)| !users.is_empty()) {
            set(conn, sequence, users, &mut done).await?;
        }
        Ok(done)
    }
}

async fn set(
    conn: &mut PgConnection,
    sequence: &str,
    users: &[(String, String)],
    done: &mut Sequences,
) -> Result<()> {
    let range = Range::of(conn, sequence).await?;
    let (top, is_ahead) = (range.top(users), range.ahead());
    let Range { increment, min, max } = range;
    let statement = format!(
        "SELECT CASE WHEN m.v BETWEEN {min} AND {max} THEN setval($1::regclass, m.v::int8) END \
             AS moved, m.v::text AS top, m.v BETWEEN {min} AND {max} AS fits \
         FROM {top} AS m, LATERAL (SELECT last_value, is_called FROM {sequence}) AS s \
         WHERE m.v {is_ahead} s.last_value OR (m.v = s.last_value AND NOT s.is_called)"
    );
    if let Some(row) = sqlx::query(sql(statement)).bind(sequence).fetch_optional(&mut *conn).await?
    {
        let (top, fits): (String, bool) = (row.try_get("top")?, row.try_get("fits")?);
        let end = if increment > 0 { max } else { min };
        // Values before the sequence's start are never drawn.
        let is_beyond = top.parse::<i128>().is_ok_and(|top| {
            if increment > 0 { top >= i128::from(end) } else { top <= i128::from(end) }
        });
        let moved: Option<i64> = row.try_get("moved")?;
        if let Some(value) = moved {
            done.moved.insert(sequence.to_owned(), value);
        }
        if is_beyond {
            done.notes.push(format!(
                "sequence {sequence} ends at {end} and rows hold {top}: it can give out no further \
                 value"
            ));
        }
        if !fits {
            return Ok(());
        }
    }
    verify(conn, sequence, &top, is_ahead).await
}

/// Whether what it gives out next lies beyond every value.
async fn verify(conn: &mut PgConnection, sequence: &str, top: &str, is_ahead: &str) -> Result<()> {
    let statement = format!(
        "SELECT m.v IS NULL OR NOT (m.v {is_ahead} s.last_value \
             OR (m.v = s.last_value AND NOT s.is_called)) \
         FROM {top} AS m, LATERAL (SELECT last_value, is_called FROM {sequence}) AS s"
    );
    if sqlx::query_scalar(sql(statement)).fetch_one(conn).await? {
        return Ok(());
    }
    Err(Error::new(ErrorKind::StoreFailed, format!("sequence {sequence} is behind its rows"))
        .advice("somebody else set it at this moment; run the backfill again"))
}
