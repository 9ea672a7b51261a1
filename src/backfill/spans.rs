//! Spans: the ranges a source is split into, for several workers to copy side by side.
//!
//! They are fixed and stored when a stream begins, so that it does not matter who resumes a run,
//! and with how many workers. A source is split only where the order of its records decides
//! nothing: where it cannot give two rows of one key, and the target judges each row alone.

use std::sync::Arc;

use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use crate::backfill::chunk::ChunkLimits;
use crate::backfill::lease::Field;
use crate::backfill::write::to_json;
use crate::cast::{PgType, Value};
use crate::error::Result;
use crate::pack::plan::{From, OutputPlan};
use crate::pack::{OpenedPack, join_error};
use crate::source::sqlite::TableSource;
use crate::source::{Position, StreamSource};

/// Spans of one source at most.
const SPANS_MAX: u64 = 64;

/// Chunks a span is worth at least, when it is planned: a worker reads ahead within one.
const CHUNKS_PER_SPAN: u64 = 8;

/// Workers that chunks are sized for when spans are planned, however many there will be.
const NOMINAL_WORKERS: usize = 4;

/// What planning needs to know of a source beside its records.
pub(super) struct Extent {
    /// Records, about.
    pub(super) records: u64,
    /// Chunk limits of one worker alone.
    pub(super) limits: ChunkLimits,
    /// Whether changes of the source are captured: history is then what is there now, and a table
    /// that grows is not followed.
    pub(super) is_captured: bool,
}

/// Plans and stores the spans of a source unless that is done, and marks its stream as begun.
/// Returns the source, and how many chunks are pending.
pub(super) async fn plan(
    conn: &mut PgConnection,
    opened: &Arc<OpenedPack>,
    stream: usize,
    field: Field<'_>,
    source: StreamSource,
    extent: &Extent,
) -> Result<(StreamSource, usize)> {
    let mut tx = conn.begin().await?;
    // Of several processes the first plans.
    sqlx::query(
        "UPDATE toolkit.stream_state SET state = 'copying' \
         WHERE run_id = $1::uuid AND stream = $2 AND state <> 'done'",
    )
    .bind(field.run_id)
    .bind(field.stream)
    .execute(&mut *tx)
    .await?;
    let (known, pending): (i64, i64) = sqlx::query_as(
        "SELECT count(*), count(*) FILTER (WHERE status = 'pending') FROM toolkit.chunk \
         WHERE run_id = $1::uuid AND stream = $2 AND source = $3",
    )
    .bind(field.run_id)
    .bind(field.stream)
    .bind(field.source)
    .fetch_one(&mut *tx)
    .await?;
    if known > 0 {
        tx.commit().await?;
        return Ok((source, usize::try_from(pending).unwrap_or(0)));
    }
    let parts = extent.parts(&source);
    let (source, ends) = if parts > 1 && !order_matters(&mut tx, opened, stream).await? {
        split(Arc::clone(opened), stream, source, parts).await?
    } else {
        (source, Vec::new())
    };
    let mut starts: Vec<Option<String>> = vec![None];
    let mut stops: Vec<Option<String>> = Vec::new();
    for end in ends {
        let position = to_json(&Position::Rowid(end))?;
        stops.push(Some(position.clone()));
        starts.push(Some(position));
    }
    let (source, last) = if extent.is_captured { last_of(source).await? } else { (source, None) };
    stops.push(last.map(|last| to_json(&Position::Rowid(last))).transpose()?);
    sqlx::query(include_str!("../sql/backfill/insert_spans.sql"))
        .bind(field.run_id)
        .bind(field.stream)
        .bind(field.source)
        .bind(&starts)
        .bind(&stops)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok((source, starts.len()))
}

/// The last rowid that is there now.
async fn last_of(source: StreamSource) -> Result<(StreamSource, Option<i64>)> {
    let looking = move || {
        let last = match &source {
            StreamSource::Sqlite(table) => table.last_rowid()?,
            StreamSource::Documents(_) => None,
        };
        Ok((source, last))
    };
    tokio::task::spawn_blocking(looking).await.map_err(join_error)?
}

impl Extent {
    /// How many spans are worth their while.
    fn parts(&self, source: &StreamSource) -> usize {
        let StreamSource::Sqlite(table) = source else { return 1 };
        let limits = self.limits.shared_by(NOMINAL_WORKERS);
        // The file holds other tables too: rows look larger than they are, spans get more.
        let row_bytes = (table.size_bytes() / self.records.max(1)).max(1);
        let chunk_records =
            (limits.bytes_max as u64 / row_bytes).clamp(1, limits.records_max as u64);
        let parts = (self.records / (chunk_records * CHUNKS_PER_SPAN)).clamp(1, SPANS_MAX);
        usize::try_from(parts).unwrap_or(1)
    }
}

/// Whether the target judges rows by their order; several targets always do.
async fn order_matters(
    conn: &mut PgConnection,
    opened: &OpenedPack,
    stream: usize,
) -> Result<bool> {
    let [output] = opened.plan.streams[stream].outputs.as_slice() else { return Ok(true) };
    let key: Vec<&str> = output.key.iter().map(|at| output.columns[*at].name.as_str()).collect();
    let matters = sqlx::query_scalar(include_str!("../sql/backfill/order_matters.sql"))
        .bind(&output.table.schema)
        .bind(&output.table.name)
        .bind(key)
        .fetch_one(conn)
        .await?;
    Ok(matters)
}

/// The last rowids of all parts but the last; none where two records may share a key.
async fn split(
    opened: Arc<OpenedPack>,
    stream: usize,
    source: StreamSource,
    parts: usize,
) -> Result<(StreamSource, Vec<i64>)> {
    tokio::task::spawn_blocking(move || {
        let StreamSource::Sqlite(table) = &source else { return Ok((source, Vec::new())) };
        let [output] = opened.plan.streams[stream].outputs.as_slice() else {
            return Ok((source, Vec::new()));
        };
        let ends = if tells_rows_apart(table, output)? { table.split(parts)? } else { None };
        Ok((source, ends.unwrap_or_default()))
    })
    .await
    .map_err(join_error)?
}

/// Whether no two records of a stream's only source can give rows of one key.
pub(super) async fn records_are_apart(opened: Arc<OpenedPack>, stream: usize) -> Result<bool> {
    tokio::task::spawn_blocking(move || {
        let [output] = opened.plan.streams[stream].outputs.as_slice() else { return Ok(false) };
        match opened.open_sources(stream)?.as_slice() {
            [StreamSource::Sqlite(table)] => tells_rows_apart(table, output),
            _ => Ok(false),
        }
    })
    .await
    .map_err(join_error)?
}

/// Whether no two records of the table give rows of one key: a column that is unique in the
/// source is stored, as it is, in a column of the target's key.
fn tells_rows_apart(table: &TableSource, output: &OutputPlan) -> Result<bool> {
    if output.each.is_some() {
        return Ok(false);
    }
    for position in &output.key {
        let column = &output.columns[*position];
        let [From::Column(name)] = column.from.as_slice() else { continue };
        let is_apart = match column.cast.ty() {
            PgType::Int8 => table.integer_key()?.is_some_and(|key| key.eq_ignore_ascii_case(name)),
            PgType::Text(_) => table.has_unique(name)? && is_kept(table, output, *position, name)?,
            PgType::Uuid => table.has_unique(name)? && is_spelt_one_way(table, name)?,
            _ => false,
        };
        if is_apart {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the cast stores every text of a column byte for byte, or refuses it. It may be meant
/// to change some (a secret, a letter Postgres has not), and two could become one.
fn is_kept(table: &TableSource, output: &OutputPlan, position: usize, name: &str) -> Result<bool> {
    let cast = &output.columns[position].cast;
    let (mut field, mut notes) = (Vec::new(), Vec::new());
    let mut is_fit = |value: Value<'_>| {
        field.clear();
        notes.clear();
        match (cast.encode(value, &mut field, &mut notes), value) {
            (Err(_), _) => true,
            (Ok(()), Value::Text(text)) => field.get(4..) == Some(text),
            // NULL may stand there often; a field of length -1 is refused as a key.
            (Ok(()), Value::Null) => field == (-1_i32).to_be_bytes(),
            (Ok(()), _) => false,
        }
    };
    Ok(is_fit(Value::Null) && table.all_values(name, &mut is_fit)?)
}

/// Whether all UUIDs of a column are spelt in one way, so that no two spell the same.
fn is_spelt_one_way(table: &TableSource, name: &str) -> Result<bool> {
    let mut length = None;
    table.all_values(name, &mut |value| match value {
        Value::Text(text) => {
            *length.get_or_insert(text.len()) == text.len()
                && matches!(text.len(), 32 | 36)
                && text.iter().enumerate().all(|(at, byte)| match (text.len(), at) {
                    (36, 8 | 13 | 18 | 23) => *byte == b'-',
                    _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(byte),
                })
        }
        _ => false,
    })
}
