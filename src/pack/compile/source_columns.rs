//! The mapping against the columns that a source really has.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::pack::fault::Fault;
use crate::pack::manifest::StreamManifest;
use crate::pack::plan::From;
use crate::pack::{lint, reference};
use crate::store::catalog::Table;

/// Every reference to a source column that is not there: it would be NULL in every row.
pub(super) fn missing_columns(stream: &StreamManifest, source_columns: &[String]) -> Vec<Fault> {
    let is_there =
        |name: &str| source_columns.iter().any(|column| column.eq_ignore_ascii_case(name));
    let mut faults = Vec::new();
    let mut judge = |at: usize, what: &str, text: &str| {
        if let From::Column(name) = reference::parse(text)
            && !is_there(&name)
        {
            let detail = format!("{what} `{name}`, which is no column of the source");
            let known = list(source_columns.iter().map(String::as_str));
            let fault = Fault::new(at, detail).of(stream.name.get_ref());
            faults.push(fault.advice(format!("the source has: {known}")));
        }
    };
    for view in stream.views() {
        for (column, entry) in view.columns {
            for from in &entry.get_ref().sources(column) {
                judge(entry.span().start, &format!("column `{column}` comes from"), from);
            }
        }
        if let Some(when) = view.when {
            judge(when.span().start, "`when` looks at", when.get_ref());
        }
        if let Some(skip) = view.skip {
            judge(skip.empty.span().start, "`skip` looks at", skip.empty.get_ref());
        }
    }
    for name in &stream.ignore {
        judge(name.span().start, "`ignore` names", name.get_ref());
    }
    if let Some(companion) = &stream.source.companion {
        for name in lint::braced(companion.get_ref()) {
            judge(companion.span().start, "`companion` names", name);
        }
    }
    faults
}

/// Source columns that nothing is made of; None also where an unknown table leaves it open.
pub(super) fn forgotten_columns(
    stream: &StreamManifest,
    source_columns: &[String],
    tables: &BTreeMap<String, Arc<Table>>,
) -> Option<Fault> {
    // A function that computes sees the whole record, and answers for it.
    if stream.source.compute.is_some() {
        return None;
    }
    let mut used: Vec<String> =
        stream.ignore.iter().map(|ignored| ignored.get_ref().clone()).collect();
    for view in stream.views() {
        if view.columns.is_empty() {
            let table = tables.get(view.target.get_ref())?;
            let columns = table.columns.iter().filter(|column| !column.generated);
            used.extend(columns.map(|column| column.name.clone()));
        }
        used.extend(view.columns.iter().flat_map(|(name, entry)| entry.get_ref().sources(name)));
    }
    let is_used = |name: &str| {
        used.iter().any(|used| {
            used.eq_ignore_ascii_case(name)
                || matches!(reference::parse(used), From::Column(column)
                    if column.eq_ignore_ascii_case(name))
        })
    };
    let forgotten: Vec<&str> =
        source_columns.iter().map(String::as_str).filter(|name| !is_used(name)).collect();
    if forgotten.is_empty() {
        return None;
    }
    let detail = format!(
        "nothing is mapped from source column {}: its values would vanish",
        forgotten.join(", ")
    );
    let fault = Fault::new(stream.name.span().start, detail).of(stream.name.get_ref());
    Some(fault.advice("map it in [stream.columns], or name it in `ignore = [\"...\"]`"))
}

/// Names for a sentence, shortened.
pub(super) fn list<'n>(names: impl Iterator<Item = &'n str>) -> String {
    const NAMES_MAX: usize = 40;
    let names: Vec<&str> = names.collect();
    let more = names.len().saturating_sub(NAMES_MAX);
    let shown = names[..names.len() - more].join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}
