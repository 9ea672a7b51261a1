//! What the values of a column allow: a census, and the types whose casts refuse none of them.

use std::path::PathBuf;
use std::sync::Arc;

use super::schema::Column;
use crate::cast::{CastName, CastOptions, ColumnCast, EpochUnit, PgType, Redactor, Value};
use crate::error::Result;
use crate::interrupt::Stop;
use crate::preflight::{Place, ValueCensus};
use crate::source::sqlite::TableSource;
use crate::source::{Content, Flow, Position, SourceFile};

/// Rows below which a table is counted by one thread.
const SPLIT_ROWS: i64 = 20_000;

/// Records between two looks at the wish to stop.
const LOOK_EVERY: u64 = 1024;

/// A type that text, numbers or bytes may be stored as without being changed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Candidate {
    pub(super) ty: PgType,
    pub(super) options: CastOptions,
}

/// What is known of a column's values.
#[derive(Debug)]
pub(super) struct Evidence {
    pub(super) census: ValueCensus,
    /// Types that took every value so far, best first.
    pub(super) alive: Vec<(Candidate, ColumnCast)>,
    /// The first text with its digits made 0, while all texts look so.
    shape: Shape,
    /// Letters of uuids so far: lower-case, upper-case.
    cases: (bool, bool),
    scratch: Vec<u8>,
}

/// Whether all texts have one shape.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Shape {
    None,
    All(Vec<u8>),
    Several,
}

impl Evidence {
    pub(super) fn new(column: &Column, zone: Option<&str>) -> Self {
        let candidates = candidates(column, zone).into_iter().filter_map(|candidate| {
            let options = candidate.options.clone();
            let cast = ColumnCast::new(&column.name, candidate.ty.clone(), true, options, None);
            Some((candidate, cast.ok()?))
        });
        Self {
            census: ValueCensus::unmapped(&column.name),
            alive: candidates.collect(),
            shape: Shape::None,
            cases: (false, false),
            scratch: Vec::new(),
        }
    }

    /// Texts of one shape, such as `0000-00-00T00:00:00Z`: no two of them are one value.
    pub(super) fn is_one_shape(&self) -> bool {
        match &self.shape {
            Shape::None => true,
            // An offset that is a number may differ from row to row.
            Shape::All(shape) => {
                !shape.contains(&b'+') && shape.split(|byte| *byte == b'-').count() <= 3
            }
            Shape::Several => false,
        }
    }

    /// Uuids in both cases would be told apart as text only.
    pub(super) fn is_one_case(&self) -> bool {
        self.cases != (true, true)
    }

    /// Whether uuids are written in capitals, which uuid does not keep.
    pub(super) fn has_capitals(&self) -> bool {
        self.cases.1
    }

    fn see(&mut self, value: Value<'_>, redactor: &Redactor, place: &dyn Fn() -> Place) {
        self.census.value(value, redactor, place);
        if matches!(value, Value::Null) {
            return;
        }
        let scratch = &mut self.scratch;
        self.alive.retain(|(candidate, cast)| takes(candidate, cast, value, scratch));
        if self.alive.is_empty() {
            return;
        }
        if let Value::Text(text) = value {
            self.look(text);
        }
    }

    fn look(&mut self, text: &[u8]) {
        let is_uuid = self.alive.iter().any(|(candidate, _)| candidate.ty == PgType::Uuid);
        if is_uuid {
            self.cases.0 |= text.iter().any(u8::is_ascii_lowercase);
            self.cases.1 |= text.iter().any(u8::is_ascii_uppercase);
        } else if text.len() <= 40 && self.shape != Shape::Several {
            let digit = |byte: &u8| if byte.is_ascii_digit() { b'0' } else { *byte };
            match &self.shape {
                Shape::None => self.shape = Shape::All(text.iter().map(digit).collect()),
                Shape::All(shape) if shape.iter().copied().eq(text.iter().map(digit)) => {}
                _ => self.shape = Shape::Several,
            }
        }
    }

    /// Adds what was seen of another part of the column, or of a column that refers to it.
    pub(super) fn merge(&mut self, other: &Self) {
        self.census.merge(&other.census);
        self.alive.retain(|(mine, _)| other.alive.iter().any(|(theirs, _)| mine == theirs));
        self.cases.0 |= other.cases.0;
        self.cases.1 |= other.cases.1;
        self.shape = match (&self.shape, &other.shape) {
            (Shape::None, shape) | (shape, Shape::None) => shape.clone(),
            (one, other) if one == other => one.clone(),
            _ => Shape::Several,
        };
    }
}

fn takes(candidate: &Candidate, cast: &ColumnCast, value: Value<'_>, out: &mut Vec<u8>) -> bool {
    let may_be = match (&candidate.ty, value) {
        (PgType::Uuid, Value::Text(text)) => match text.len() {
            36 => true,
            // Without dashes it may as well be some digest.
            32 => candidate.options.cast == Some(CastName::UuidBytes),
            _ => false,
        },
        (PgType::Jsonb, Value::Text(text)) => {
            matches!(text.trim_ascii_start().first(), Some(b'{' | b'['))
        }
        (PgType::Jsonb | PgType::Uuid, Value::Integer(_) | Value::Real(_)) => false,
        (PgType::Timestamptz | PgType::Timestamp | PgType::Date, Value::Text(text)) => {
            text.len() >= 10 && text[..4].iter().all(u8::is_ascii_digit) && text[4] == b'-'
        }
        (PgType::Time, Value::Text(text)) => text.first().is_some_and(u8::is_ascii_digit),
        _ => true,
    };
    if !may_be {
        return false;
    }
    out.clear();
    let mut notes = Vec::new();
    cast.encode(value, out, &mut notes).is_ok() && notes.is_empty()
}

/// The types worth trying for a column, best first.
fn candidates(column: &Column, zone: Option<&str>) -> Vec<Candidate> {
    let declared = Declared::of(&column.declared);
    let natural = |ty| Candidate { ty, options: CastOptions::default() };
    let mut found = Vec::new();
    match declared {
        Declared::Bool => found.push(natural(PgType::Bool)),
        Declared::Decimal(limit) => {
            found.extend(limit.map(|limit| natural(PgType::Numeric(Some(limit)))));
            found.push(natural(PgType::Numeric(None)));
        }
        Declared::Uuid => {
            let bytes = CastOptions { cast: Some(CastName::UuidBytes), ..CastOptions::default() };
            found.push(Candidate { ty: PgType::Uuid, options: bytes });
        }
        Declared::Time => found.push(natural(PgType::Time)),
        Declared::Moment | Declared::MomentWithZone | Declared::Date => {
            for unit in [EpochUnit::S, EpochUnit::Ms, EpochUnit::Us] {
                let options = CastOptions { unit: Some(unit), ..CastOptions::default() };
                found.push(Candidate { ty: PgType::Timestamptz, options });
            }
        }
        _ => {}
    }
    if declared != Declared::Uuid {
        found.push(natural(PgType::Uuid));
    }
    found.push(natural(PgType::Timestamptz));
    // SQLite's CURRENT_TIMESTAMP is UTC, and says so in its documentation.
    let by_default = column.default.as_deref().is_some_and(super::values::is_now);
    if let Some(zone) = zone.or(by_default.then_some("UTC")) {
        let options = CastOptions { zone: Some(zone.to_owned()), ..CastOptions::default() };
        found.push(Candidate { ty: PgType::Timestamptz, options });
    }
    found.extend([PgType::Date, PgType::Timestamp, PgType::Jsonb].map(natural));
    found
}

/// What a declared type means, beyond `SQLite`'s affinity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Declared {
    Bool,
    Integer,
    Real,
    Decimal(Option<(u16, i16)>),
    Uuid,
    Json,
    Moment,
    MomentWithZone,
    Date,
    Time,
    Blob,
    Text,
    /// No type, or one of no known meaning.
    Open,
}

impl Declared {
    pub(super) fn of(declared: &str) -> Self {
        let word = declared.trim().to_ascii_uppercase();
        let has = |part: &str| word.contains(part);
        let starts = |part: &str| word.starts_with(part);
        if starts("BOOL") {
            Self::Bool
        } else if has("UUID") || has("GUID") || has("UNIQUEIDENTIFIER") {
            Self::Uuid
        } else if has("JSON") {
            Self::Json
        } else if starts("TIMESTAMPTZ") || has("WITH TIME ZONE") {
            Self::MomentWithZone
        } else if starts("DATETIME") || starts("TIMESTAMP") || starts("SMALLDATETIME") {
            Self::Moment
        } else if starts("DATE") {
            Self::Date
        } else if starts("TIME") {
            Self::Time
        } else if starts("DEC") || starts("NUMERIC") || starts("NUMBER") || starts("MONEY") {
            Self::Decimal(precision(&word))
        } else if has("INT") || starts("SERIAL") || starts("BIGSERIAL") {
            Self::Integer
        } else if has("CHAR") || has("CLOB") || has("TEXT") || has("STRING") {
            Self::Text
        } else if has("BLOB") || has("BINARY") || has("BYTEA") {
            Self::Blob
        } else if has("REAL") || has("FLOA") || has("DOUB") {
            Self::Real
        } else {
            Self::Open
        }
    }
}

/// `(10, 2)` of a declared type, where Postgres has it.
fn precision(declared: &str) -> Option<(u16, i16)> {
    let inside = declared.split_once('(')?.1.split_once(')')?.0;
    let mut numbers = inside.split(',').map(str::trim);
    let precision: u16 = numbers.next()?.parse().ok()?;
    let scale: i16 = numbers.next().map_or(Ok(0), str::parse).ok()?;
    ((1..=1000).contains(&precision) && scale >= 0 && i32::from(scale) <= i32::from(precision))
        .then_some((precision, scale))
}

/// The file to be counted.
#[derive(Debug, Clone)]
pub(super) struct Counted {
    pub(super) path: PathBuf,
    pub(super) zone: Option<String>,
    pub(super) redactor: Arc<Redactor>,
    pub(super) stop: Stop,
}

/// Reads every row of `table` once; rows and what their columns allow.
pub(super) fn of_table(
    counted: &Counted,
    table: &str,
    columns: &[Column],
) -> Result<(u64, Vec<Evidence>)> {
    let spans = spans(counted, table)?;
    let mut parts = std::thread::scope(|scope| {
        let workers: Vec<_> = spans
            .iter()
            .map(|span| scope.spawn(move || count(counted, table, columns, span)))
            .collect();
        let done = workers.into_iter().map(|worker| {
            worker.join().unwrap_or_else(|_| {
                let detail = "a counting thread ended unexpectedly";
                Err(crate::Error::new(crate::ErrorKind::Bug, detail))
            })
        });
        done.collect::<Result<Vec<_>>>()
    })?
    .into_iter();
    let (mut rows, mut all) = parts.next().unwrap_or_default();
    for (more, part) in parts {
        rows += more;
        for (evidence, other) in all.iter_mut().zip(&part) {
            evidence.merge(other);
        }
    }
    Ok((rows, all))
}

type Span = (Option<Position>, Option<Position>);

/// Ranges of rowids, one a core; a small table, or one without rowids, is one.
fn spans(counted: &Counted, table: &str) -> Result<Vec<Span>> {
    let whole = vec![(None, None)];
    let mut source = open(counted, table)?;
    let mut first = None;
    source.read_range(None, None, &mut |record| {
        first = Some(record.position.clone());
        Ok(Flow::Pause)
    })?;
    let Some(Position::Rowid(first)) = first else { return Ok(whole) };
    let name = crate::store::quote_ident(table);
    let last = source.database().connection().query_row(
        &format!("SELECT max({}) FROM {name}", source.rowid_name().unwrap_or("rowid")),
        [],
        |row| row.get::<_, i64>(0),
    );
    let Ok(last) = last else { return Ok(whole) };
    let workers = i64::try_from(crate::backfill::default_workers()).unwrap_or(1);
    let Some(width) = last.checked_sub(first).filter(|width| *width > SPLIT_ROWS) else {
        return Ok(whole);
    };
    let cut = |part: i64| Some(Position::Rowid(first + width / workers * part));
    Ok((0..workers)
        .map(|part| {
            let from = if part == 0 { None } else { cut(part) };
            (from, if part + 1 == workers { None } else { cut(part + 1) })
        })
        .collect())
}

fn open(counted: &Counted, table: &str) -> Result<TableSource> {
    let relative = counted.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let file =
        SourceFile { path: counted.path.clone(), relative, sha256: String::new(), size_bytes: 0 };
    TableSource::open(&file, table, None)
}

fn count(
    counted: &Counted,
    table: &str,
    columns: &[Column],
    (from, to): &Span,
) -> Result<(u64, Vec<Evidence>)> {
    let mut source = open(counted, table)?;
    let mut all: Vec<Evidence> =
        columns.iter().map(|column| Evidence::new(column, counted.zone.as_deref())).collect();
    let (mut rows, mut from) = (0_u64, from.clone());
    loop {
        let next = source.read_range(from.as_ref(), to.as_ref(), &mut |record| {
            if let Content::Columns { values, .. } = &record.content {
                let place = || Place {
                    source: record.file.relative.clone(),
                    locator: record.locator.to_string(),
                };
                for (value, evidence) in values.iter().zip(&mut all) {
                    evidence.see(*value, &counted.redactor, &place);
                }
            }
            rows += 1;
            if rows.is_multiple_of(LOOK_EVERY) {
                counted.stop.check()?;
            }
            Ok(Flow::Continue)
        })?;
        match next {
            Some(next) if to.as_ref() != Some(&next) => from = Some(next),
            _ => return Ok((rows, all)),
        }
    }
}
