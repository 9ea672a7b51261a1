//! What changed in Postgres and was not written back yet: the log, collapsed to one current row
//! per key.

use std::collections::{BTreeMap, HashMap};

use futures_util::TryStreamExt as _;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection as _, Row as _, ValueRef as _};

use super::triggers::Target;
use crate::canonical::{copy_expression, fields_of};
use crate::error::Result;
use crate::pack::plan::{OutputPlan, PackPlan};
use crate::store::{quote_ident, sql};

/// Bytes of rows that are held at once; a batch that has more is halved.
const BATCH_BYTES_MAX: usize = 48 << 20;

/// A key as the log has it: texts of the target's key columns.
pub(super) type Key = Vec<Option<String>>;

/// Changes to be written back together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Rows of the log that are covered.
    pub(super) ids: Vec<i64>,
    /// One per key, in the order of their first change.
    pub(super) items: Vec<Item>,
}

/// One key, and the row that Postgres holds under it.
#[derive(Debug, Clone)]
pub(super) struct Item {
    /// Position in the targets.
    pub(super) target: usize,
    pub(super) key: Key,
    /// The key the row had before, where it changed.
    pub(super) was: Option<Key>,
    /// Whether Postgres has a row; false: it was deleted.
    pub(super) is_present: bool,
    /// Whether a row under this key was changed or deleted that was there before.
    pub(super) is_old: bool,
    /// Rows of the target under the key: more than one where nothing keeps it unique.
    pub(super) rows: usize,
    /// Streams that may hold the key.
    pub(super) candidates: Vec<Candidate>,
}

/// A stream whose slice the key belongs to.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    /// Position in the plan.
    pub(super) stream: usize,
    /// COPY fields of the output's key columns, in the key's order.
    pub(super) key: Vec<Vec<u8>>,
    /// COPY fields of the row; None: there is none.
    pub(super) tuple: Option<Vec<u8>>,
}

/// What is asked for by key.
#[derive(Debug, Clone)]
struct Wish {
    target: usize,
    key: Key,
    was: Option<Key>,
    is_old: bool,
}

/// Reads at most `changes_max` changes and the current rows of their keys, all in one snapshot.
///
/// What a transaction logged that has not committed yet is not seen, and stays in the log however
/// small its numbers are. `more` are keys that stand in the way of others.
pub(super) async fn read(
    conn: &mut PgConnection,
    plan: &PackPlan,
    targets: &[Target],
    changes_max: i64,
    more: &[(usize, Key)],
) -> Result<Batch> {
    let mut limit = changes_max.max(1);
    loop {
        let mut tx = conn.begin().await?;
        sqlx::raw_sql(
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; \
             SET LOCAL enable_seqscan = off; SET LOCAL jit = off",
        )
        .execute(&mut *tx)
        .await?;
        let (ids, mut wishes) = changes(&mut tx, plan, targets, limit).await?;
        for (target, key) in more {
            if !wishes.iter().any(|wish| wish.target == *target && wish.key == *key) {
                let (target, key) = (*target, key.clone());
                wishes.push(Wish { target, key, was: None, is_old: true });
            }
        }
        let items = rows(&mut tx, plan, targets, wishes, limit > 1).await?;
        tx.rollback().await?;
        match items {
            Some(items) => return Ok(Batch { ids, items }),
            None => limit /= 2,
        }
    }
}

async fn changes(
    tx: &mut PgConnection,
    plan: &PackPlan,
    targets: &[Target],
    limit: i64,
) -> Result<(Vec<i64>, Vec<Wish>)> {
    let found = sqlx::query(
        "SELECT id, target, op, old_key, new_key FROM toolkit.reverse_log WHERE pack = $1 \
         ORDER BY id LIMIT $2",
    )
    .bind(&plan.name)
    .bind(limit)
    .fetch_all(tx)
    .await?;
    let mut ids = Vec::with_capacity(found.len());
    let mut wishes: Vec<Wish> = Vec::new();
    let mut at: HashMap<(usize, Key), usize> = HashMap::new();
    for row in found {
        ids.push(row.try_get("id")?);
        let name: &str = row.try_get("target")?;
        // Of a target that the pack no longer writes back, nothing can be done.
        let Some(target) = targets.iter().position(|target| target.name() == name) else {
            continue;
        };
        let old: Option<Key> = row.try_get("old_key")?;
        let new: Option<Key> = row.try_get("new_key")?;
        let is_moved = matches!((&old, &new), (Some(old), Some(new)) if old != new);
        let mut was = None;
        if let Some(old) = &old {
            let known = at.get(&(target, old.clone())).copied();
            was = known.and_then(|known| wishes[known].was.clone()).or_else(|| Some(old.clone()));
        }
        let was = was.filter(|_| is_moved);
        for (key, is_old) in
            old.iter().map(|key| (key, true)).chain(new.iter().map(|key| (key, false)))
        {
            let position = *at.entry((target, key.clone())).or_insert_with(|| {
                wishes.push(Wish { target, key: key.clone(), was: None, is_old });
                wishes.len() - 1
            });
            if is_moved && !is_old {
                wishes[position].was.clone_from(&was);
            }
        }
    }
    Ok((ids, wishes))
}

/// The current rows; None where they are more than may be held.
async fn rows(
    tx: &mut PgConnection,
    plan: &PackPlan,
    targets: &[Target],
    wishes: Vec<Wish>,
    may_refuse: bool,
) -> Result<Option<Vec<Item>>> {
    let mut items: Vec<Item> = wishes
        .into_iter()
        .map(|Wish { target, key, was, is_old }| Item {
            target,
            key,
            was,
            is_present: false,
            is_old,
            rows: 0,
            candidates: Vec::new(),
        })
        .collect();
    let mut by_target: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (position, item) in items.iter().enumerate() {
        by_target.entry(item.target).or_default().push(position);
    }
    let mut bytes = 0;
    for (target, positions) in by_target {
        for stream in &targets[target].streams {
            let Some(output) = plan.streams[*stream].outputs.first() else { continue };
            let keys: Vec<usize> = output
                .key
                .iter()
                .filter_map(|at| {
                    let name = &output.columns[*at].name;
                    targets[target].key.iter().position(|key| key == name)
                })
                .collect();
            let statement = statement(output);
            let mut query = sqlx::query(sql(statement));
            let ordinals: Vec<i32> =
                positions.iter().filter_map(|at| i32::try_from(*at).ok()).collect();
            query = query.bind(ordinals);
            for at in &keys {
                let texts: Vec<Option<String>> =
                    positions.iter().map(|item| items[*item].key[*at].clone()).collect();
                query = query.bind(texts);
            }
            let mut found = query.fetch(&mut *tx);
            while let Some(row) = found.try_next().await? {
                let item = usize::try_from(row.try_get::<i32, _>("ord")?).unwrap_or(usize::MAX);
                let Some(item) = items.get_mut(item) else { continue };
                bytes += add_row(item, *stream, output, &row)?;
                if bytes > BATCH_BYTES_MAX && may_refuse {
                    return Ok(None);
                }
            }
        }
    }
    Ok(Some(items))
}

/// Adds what one query says of a key; returns the row's bytes.
fn add_row(item: &mut Item, stream: usize, output: &OutputPlan, row: &PgRow) -> Result<usize> {
    let key = output.key.len();
    let is_present: bool = row.try_get("present")?;
    item.is_present |= is_present;
    let fields = (0..key).map(|at| field(row, 2 + at)).collect::<Result<Vec<_>>>()?;
    let is_slice = output.key.iter().zip(&fields).all(|(at, field)| {
        let column = &output.columns[*at];
        column.constant.as_ref().is_none_or(|constant| column.cast.is_same(constant, field))
    });
    if !is_slice {
        return Ok(0);
    }
    if let Some(known) = item.candidates.iter_mut().find(|known| known.stream == stream) {
        item.rows += usize::from(known.tuple.is_some());
        return Ok(0);
    }
    let mut tuple = Vec::new();
    if is_present {
        item.rows = item.rows.max(1);
        for at in 0..output.columns.len() {
            tuple.extend_from_slice(&field(row, 2 + key + at)?);
        }
    }
    let bytes = tuple.len();
    let tuple = is_present.then_some(tuple);
    item.candidates.push(Candidate { stream, key: fields, tuple });
    Ok(bytes)
}

/// A value of a result as a COPY field.
fn field(row: &PgRow, at: usize) -> Result<Vec<u8>> {
    let value = row.try_get_raw(at)?;
    if value.is_null() {
        return Ok((-1_i32).to_be_bytes().to_vec());
    }
    let bytes = value.as_bytes().map_err(sqlx::Error::Decode)?;
    let mut field = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    field.extend_from_slice(bytes);
    Ok(field)
}

/// Keys as text against the table: per key its ordinal, whether there is a row, the key's fields,
/// the row's fields. Keys are cast to the columns' types, so that indexes serve.
fn statement(output: &OutputPlan) -> String {
    let mut names = vec!["ord".to_owned()];
    let mut arrays = vec!["$1::int4[]".to_owned()];
    let mut conditions = Vec::new();
    let mut select =
        vec!["k.ord AS ord".to_owned(), "t.tableoid IS NOT NULL AS present".to_owned()];
    for (number, position) in output.key.iter().enumerate() {
        let column = &output.columns[*position];
        let declared = output
            .catalog_column(*position)
            .map_or_else(|| "text".to_owned(), |found| found.declared_type.clone());
        names.push(format!("c{number}"));
        arrays.push(format!("${}::text[]", number + 2));
        let key = format!("(k.c{number}::{declared})");
        conditions.push(format!("t.{} = {key}", quote_ident(&column.name)));
        select.push(format!("{} AS k{number}", copy_expression(column.cast.ty(), &key)));
    }
    for (number, column) in output.columns.iter().enumerate() {
        let name = format!("t.{}", quote_ident(&column.name));
        select.push(format!("{} AS v{number}", copy_expression(column.cast.ty(), &name)));
    }
    format!(
        "SELECT {} FROM unnest({}) AS k ({}) LEFT JOIN {} AS t ON {} ORDER BY k.ord",
        select.join(", "),
        arrays.join(", "),
        names.join(", "),
        output.table.sql_name(),
        conditions.join(" AND ")
    )
}

/// The bytes of one field of COPY fields; None is NULL.
pub(super) fn field_at(tuple: &[u8], at: usize) -> Option<&[u8]> {
    fields_of(tuple).get(at).cloned().flatten().map(|range| &tuple[range])
}
