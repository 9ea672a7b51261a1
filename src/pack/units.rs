//! The unit of numeric timestamps where `pack.toml` says `unit = "infer"`: decided by the whole
//! column before the first value is cast.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnection;

use crate::cast::{ColumnCast, EpochUnit, UnitHint};
use crate::derive::Deriver;
use crate::error::Result;
use crate::pack::OpenedPack;
use crate::source::Flow;

/// What was found in one column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InferredUnit {
    /// Stream.
    pub stream: String,
    /// Output.
    pub output: String,
    /// Target column.
    pub column: String,
    /// The unit of most numbers; None where there is none or two have as many: numbers are then
    /// refused.
    pub unit: Option<EpochUnit>,
    /// Numbers that are plausible in seconds, milliseconds, microseconds.
    pub plausible: [u64; 3],
    /// Numbers that are plausible in none.
    pub other: u64,
}

impl InferredUnit {
    /// One line for a person.
    #[must_use]
    pub fn sentence(&self) -> String {
        let place = format!("{}.{}", self.stream, self.column);
        let [s, ms, us] = self.plausible;
        let counts = format!(
            "{s} plausible in seconds, {ms} in milliseconds, {us} in microseconds, {} in none",
            self.other
        );
        match self.unit {
            Some(unit) => format!("unit of {place} inferred: {} ({counts})", unit.name()),
            None => format!("unit of {place} cannot be inferred ({counts}): declare it"),
        }
    }

    fn decide(&mut self) {
        let most = self.plausible.iter().max().copied().unwrap_or(0);
        let mut winners = [EpochUnit::S, EpochUnit::Ms, EpochUnit::Us]
            .into_iter()
            .zip(self.plausible)
            .filter(|(_, count)| *count == most && most > 0);
        let first = winners.next();
        self.unit = match winners.next() {
            Some(_) => None,
            None => first.map(|(unit, _)| unit),
        };
    }
}

/// Reads every column whose unit is to be inferred, and decides. Blocking.
pub(super) fn infer(opened: &OpenedPack) -> Result<Vec<InferredUnit>> {
    let mut found = Vec::new();
    for (index, stream) in opened.plan.streams.iter().enumerate() {
        let wanted: Vec<(usize, usize)> = stream
            .outputs
            .iter()
            .enumerate()
            .flat_map(|(at, output)| {
                let columns = output.columns.iter().enumerate();
                let columns = columns.filter(|(_, column)| column.cast.infers_unit());
                columns.map(move |(column, _)| (at, column))
            })
            .collect();
        if wanted.is_empty() {
            continue;
        }
        let mut counts: BTreeMap<(usize, usize), InferredUnit> = BTreeMap::new();
        for (output, column) in &wanted {
            let plan = &stream.outputs[*output];
            let unit = InferredUnit {
                stream: stream.name.clone(),
                output: plan.name.clone(),
                column: plan.columns[*column].name.clone(),
                unit: None,
                plausible: [0; 3],
                other: 0,
            };
            counts.insert((*output, *column), unit);
        }
        let mut deriver = Deriver::new(stream, Arc::clone(&opened.redactor));
        for mut source in opened.open_sources(index)? {
            let mut from = None;
            loop {
                let mut in_transaction = 0_u32;
                from = source.read(from.as_ref(), &mut |record| {
                    deriver.values(record, &wanted, &mut |place, value| {
                        let Some(count) = counts.get_mut(&place) else { return };
                        match ColumnCast::suggested_unit(value) {
                            UnitHint::NoNumber => {}
                            UnitHint::NoUnit => count.other += 1,
                            UnitHint::Unit(EpochUnit::S) => count.plausible[0] += 1,
                            UnitHint::Unit(EpochUnit::Ms) => count.plausible[1] += 1,
                            UnitHint::Unit(EpochUnit::Us) => count.plausible[2] += 1,
                        }
                    });
                    in_transaction += 1;
                    let is_over = in_transaction.is_multiple_of(20_000);
                    Ok(if is_over { Flow::Pause } else { Flow::Continue })
                })?;
                if from.is_none() {
                    break;
                }
            }
        }
        for mut count in counts.into_values() {
            count.decide();
            found.push(count);
        }
    }
    Ok(found)
}

/// What the newest backfill of this very pack decided; empty if there is none.
pub(super) async fn recorded(
    conn: &mut PgConnection,
    opened: &OpenedPack,
) -> Result<Vec<InferredUnit>> {
    let stored: Option<Option<String>> = sqlx::query_scalar(
        "SELECT (settings -> 'inferred_units')::text FROM toolkit.run \
         WHERE pack = $1 AND command = 'backfill' AND settings ->> 'pack_fingerprint' = $2 \
         ORDER BY started_at DESC LIMIT 1",
    )
    .bind(&opened.plan.name)
    .bind(&opened.plan.fingerprint)
    .fetch_optional(conn)
    .await?;
    let stored = stored.flatten().and_then(|text| serde_json::from_str(&text).ok());
    Ok(stored.unwrap_or_default())
}

/// Puts the decisions into the casts.
pub(super) fn apply(opened: &mut OpenedPack) {
    for stream in &mut opened.plan.streams {
        for output in &mut stream.outputs {
            for column in output.columns.iter_mut().filter(|column| column.cast.infers_unit()) {
                let found = opened.units.iter().find(|unit| {
                    unit.stream == stream.name
                        && unit.output == output.name
                        && unit.column == column.name
                });
                column.cast.set_unit(found.and_then(|unit| unit.unit));
            }
        }
    }
}
