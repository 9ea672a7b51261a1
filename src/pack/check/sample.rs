//! The first records of each source, read and cast as a backfill would.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{SAMPLE_RECORDS_MAX, offset_of, output_offset};
use crate::derive::{Derived, Deriver, Reach, row_locator};
use crate::error::Result;
use crate::pack::OpenedPack;
use crate::pack::fault::Fault;
use crate::pack::plan::{From, StreamPlan};
use crate::source::{Flow, SourceRecord, StreamSource};

/// What a stream's first records showed.
#[derive(Debug, Default)]
pub(super) struct Sampled {
    pub(super) records: u64,
    pub(super) refused: u64,
    pub(super) problems: Vec<Fault>,
    pub(super) warnings: Vec<Fault>,
}

/// Output, column, reason.
type RefusalKind = (usize, Option<usize>, &'static str);

/// How often a cast refused, and the first time it did.
struct Refusals {
    count: u64,
    example: String,
}

/// Reads and casts the first records of each source of a stream.
pub(super) fn sample(opened: &OpenedPack, stream: usize) -> Sampled {
    let plan = &opened.plan.streams[stream];
    let mut sampled = Sampled::default();
    if let Err(error) = read(opened, stream, &mut sampled) {
        let fault = Fault::new(offset_of(&opened.pack, &plan.name), error.detail()).of(&plan.name);
        sampled.problems.push(Fault { advice: error.advice_text().map(str::to_owned), ..fault });
    }
    sampled
}

fn read(opened: &OpenedPack, stream: usize, sampled: &mut Sampled) -> Result<()> {
    let plan = &opened.plan.streams[stream];
    let mut rows_of = Deriver::new(plan, Arc::clone(&opened.redactor));
    let mut derived = Derived::default();
    let mut reach = Reach::new(plan);
    let mut refusals: BTreeMap<RefusalKind, Refusals> = BTreeMap::new();
    let sources = opened.open_sources(stream)?;
    if sources.len() > 1 {
        absent_columns(opened, plan, &sources, &mut sampled.warnings);
    }
    for mut source in sources {
        let mut left = SAMPLE_RECORDS_MAX;
        source.read(None, &mut |record| {
            rows_of.derive(record, &mut derived)?;
            reach.see(record);
            sampled.records += 1;
            sampled.refused += derived.refusals.len() as u64;
            note(plan, record, &derived, &mut refusals);
            left -= 1;
            Ok(if left == 0 { Flow::Pause } else { Flow::Continue })
        })?;
    }
    refused(opened, plan, &refusals, sampled);
    unreached(opened, plan, &reach, &mut sampled.warnings);
    Ok(())
}

fn note(
    plan: &StreamPlan,
    record: &SourceRecord<'_>,
    derived: &Derived,
    refusals: &mut BTreeMap<RefusalKind, Refusals>,
) {
    for refused in &derived.refusals {
        let kind = (refused.output, refused.column, refused.refusal.reason);
        let found = refusals.entry(kind).or_insert_with(|| {
            let locator = row_locator(record, &plan.outputs[refused.output], refused.element);
            let file = &record.file.relative;
            Refusals { count: 0, example: format!("{file}, {locator}: {}", refused.refusal.detail) }
        });
        found.count += 1;
    }
}

fn refused(
    opened: &OpenedPack,
    plan: &StreamPlan,
    refusals: &BTreeMap<RefusalKind, Refusals>,
    sampled: &mut Sampled,
) {
    for ((position, column, reason), found) in refusals {
        let output = &plan.outputs[*position];
        let column = column.map(|at| output.columns[at].name.as_str());
        let at = output_offset(&opened.pack, &plan.name, *position, column);
        let what = match column {
            Some(column) => format!("{}.{column}", output.table.display_name()),
            None => "the record".to_owned(),
        };
        let detail = format!(
            "{what}: {} of {} sampled records refused ({reason}); first {}",
            found.count, sampled.records, found.example
        );
        sampled.problems.push(Fault::new(at, detail).of(&plan.name).advice(
            "choose a cast or a policy that fits (`on = { ... }`), or correct the source; a \
             backfill would keep these as rejects",
        ));
    }
}

fn unreached(opened: &OpenedPack, plan: &StreamPlan, reach: &Reach<'_>, warnings: &mut Vec<Fault>) {
    let records = reach.records();
    if records == 0 {
        return;
    }
    for missed in reach.unreached() {
        let at = output_offset(&opened.pack, &plan.name, missed.output, None);
        let detail = format!(
            "output `{}`: nothing in the first {records} documents is at {}",
            plan.outputs[missed.output].name,
            missed.pointers.join(", ")
        );
        warnings.push(Fault::new(at, detail).of(&plan.name));
    }
    let unmapped = reach.unmapped_members();
    if !unmapped.is_empty() {
        let detail = format!(
            "members of the first {records} documents that are mapped nowhere: {}",
            unmapped.join(", ")
        );
        warnings.push(Fault::new(offset_of(&opened.pack, &plan.name), detail).of(&plan.name));
    }
}

/// Of several files, those without a column that another one has.
fn absent_columns(
    opened: &OpenedPack,
    plan: &StreamPlan,
    sources: &[StreamSource],
    warnings: &mut Vec<Fault>,
) {
    for source in sources {
        let StreamSource::Sqlite(table) = source else { continue };
        let is_there =
            |name: &str| table.columns().iter().any(|column| column.eq_ignore_ascii_case(name));
        let columns = plan.outputs.iter().flat_map(|output| &output.columns);
        let mut absent: Vec<&str> = columns
            .flat_map(|column| &column.from)
            .filter_map(|from| match from {
                From::Column(name) if !is_there(name) => Some(name.as_str()),
                _ => None,
            })
            .collect();
        absent.sort_unstable();
        absent.dedup();
        if !absent.is_empty() {
            let detail = format!(
                "{} lacks {}: its rows get NULL or the default there",
                table.name(),
                absent.join(", ")
            );
            warnings.push(Fault::new(offset_of(&opened.pack, &plan.name), detail).of(&plan.name));
        }
    }
}
