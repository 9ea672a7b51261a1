//! What can be said against a pack without looking at a database or a source.

use crate::cast::{CastOptions, ColumnCast, PgType};
use crate::pack::fault::Fault;
use crate::pack::manifest::{
    ColumnManifest, ConflictManifest, ConflictRule, OneOrMany, OutputView, SourceManifest,
    StreamManifest,
};
use crate::pack::order::copy_order;
use crate::pack::reference::{Offer, Records};
use crate::pack::{Pack, builtin};

/// Everything that is wrong with the pack's text.
#[must_use]
pub fn faults(pack: &Pack) -> Vec<Fault> {
    let streams = &pack.manifest.streams;
    let mut faults = Vec::new();
    faults.extend(default_zone(pack));
    for (at, stream) in streams.iter().enumerate() {
        let name = stream.name.get_ref();
        let start = faults.len();
        if streams[..at].iter().any(|earlier| earlier.name.get_ref() == name) {
            let detail = format!("stream `{name}` is declared twice");
            faults.push(Fault::new(stream.name.span().start, detail));
        }
        for after in &stream.after {
            if !streams.iter().any(|other| other.name.get_ref() == after.get_ref()) {
                let detail =
                    format!("`after` names `{}`, and there is no such stream", after.get_ref());
                faults.push(Fault::new(after.span().start, detail));
            }
        }
        source(stream, &mut faults);
        shape(stream, &mut faults);
        let views = stream.views();
        for (at, view) in views.iter().enumerate() {
            if views[..at].iter().any(|earlier| earlier.name.get_ref() == view.name.get_ref()) {
                let detail = format!("output `{}` is declared twice", view.name.get_ref());
                faults.push(Fault::new(view.name.span().start, detail));
            }
            output(stream, view, &mut faults);
        }
        for fault in &mut faults[start..] {
            fault.stream = Some(name.clone());
        }
    }
    faults.extend(copy_order(streams).err());
    faults.extend(crate::pack::upkeep::faults(pack));
    faults
}

/// Names between braces in a companion's file name.
pub(super) fn braced(pattern: &str) -> Vec<&str> {
    pattern.split('{').skip(1).filter_map(|tail| Some(tail.split_once('}')?.0)).collect()
}

fn default_zone(pack: &Pack) -> Option<Fault> {
    let defaults = &pack.manifest.defaults;
    let options = CastOptions { zone: defaults.zone.clone(), ..CastOptions::default() };
    let zone = defaults.zone.as_ref()?;
    ColumnCast::new("zone", PgType::Timestamptz, true, options, None).err()?;
    let at = pack.text.find("[defaults]").unwrap_or_default();
    Some(Fault::new(at, format!("[defaults]: there is no time zone {zone:?}")))
}

fn is_given(kind: &OneOrMany) -> bool {
    *kind != OneOrMany::None
}

fn source(stream: &StreamManifest, faults: &mut Vec<Fault>) {
    let source = &stream.source;
    let at = stream.name.span().start;
    let kinds = [&source.sqlite, &source.json, &source.jsonl, &source.csv];
    let patterns: Vec<String> = kinds.iter().flat_map(|kind| kind.to_vec()).collect();
    if kinds.iter().filter(|kind| is_given(kind)).count() != 1 || patterns.is_empty() {
        faults.push(Fault::new(at, "its source needs exactly one of sqlite, json, jsonl, csv"));
    }
    for pattern in patterns.iter().chain(&source.except.to_vec()) {
        if let Err(error) = globset::Glob::new(pattern) {
            faults.push(Fault::new(at, format!("file pattern `{pattern}`: {error}")));
        }
    }
    match &source.table {
        None if is_given(&source.sqlite) => {
            faults.push(Fault::new(at, "it reads SQLite: name its `table` or view"));
        }
        Some(table) if !is_given(&source.sqlite) => {
            faults.push(Fault::new(table.span().start, "`table` belongs to a SQLite source only"));
        }
        _ => {}
    }
    if is_given(&source.except) && is_given(&source.sqlite) {
        faults.push(Fault::new(at, "`except` belongs to files, not to a SQLite source"));
    }
    misplaced(source, faults);
    if let Some(name) = &source.compute
        && builtin::compute(name.get_ref()).is_none()
    {
        let known = builtin::COMPUTE_NAMES.join(", ");
        let detail =
            format!("there is no compute function `{}`; known are {known}", name.get_ref());
        faults.push(Fault::new(name.span().start, detail));
    }
    if let Some(first) = stream.ignore.first()
        && !has_columns(source)
    {
        let detail = "`ignore` names columns of a table; JSON documents have none";
        faults.push(Fault::new(first.span().start, detail));
    }
}

fn misplaced(source: &SourceManifest, faults: &mut Vec<Fault>) {
    if let Some(companion) = &source.companion {
        let (at, pattern) = (companion.span().start, companion.get_ref());
        if !is_given(&source.sqlite) {
            faults.push(Fault::new(at, "`companion` belongs to a SQLite source only"));
        }
        let marks = pattern.matches('{').count();
        if marks != pattern.matches('}').count() || marks != braced(pattern).len() || marks == 0 {
            let detail = format!("`companion` = {pattern:?} names no column between braces");
            faults.push(Fault::new(at, detail));
        }
    }
    if let Some(records) = &source.records {
        let at = records.span().start;
        if !is_given(&source.json) {
            faults.push(Fault::new(at, "`records` belongs to a JSON source only"));
        }
        if !records.get_ref().is_empty() && !records.get_ref().starts_with('/') {
            let detail = format!("`records` = {:?} is no JSON pointer", records.get_ref());
            faults.push(Fault::new(at, detail));
        }
    }
    if let Some(compute) = &source.compute
        && is_given(&source.sqlite)
    {
        let detail = "`compute` takes records of files, and this source is a table";
        faults.push(Fault::new(compute.span().start, detail));
    }
}

/// Whether its records have named columns.
fn has_columns(source: &SourceManifest) -> bool {
    is_given(&source.sqlite) || is_given(&source.csv)
}

/// Either `target` and what belongs to it, or outputs.
fn shape(stream: &StreamManifest, faults: &mut Vec<Fault>) {
    let at = stream.name.span().start;
    if stream.outputs.is_empty() {
        if stream.target.is_none() {
            faults.push(Fault::new(at, "it needs either `target` or a [[stream.output]]"));
        }
        return;
    }
    let inline = [
        ("target", stream.target.is_some()),
        ("key", !stream.key.is_empty() || stream.key.is_content),
        ("conflict", stream.conflict != ConflictManifest::default()),
        ("columns", !stream.columns.is_empty()),
    ];
    for (name, _) in inline.iter().filter(|(_, given)| *given) {
        let detail = format!("with [[stream.output]], `{name}` belongs into the outputs");
        faults.push(Fault::new(at, detail));
    }
}

fn output(stream: &StreamManifest, view: &OutputView<'_>, faults: &mut Vec<Fault>) {
    let at = view.target.span().start;
    let name = view.name.get_ref();
    if view.key.is_empty() && !view.key.is_content {
        let detail = format!("`{name}` needs a `key`: the target columns that identify a row");
        faults.push(Fault::new(at, detail).advice(
            "where nothing does, `key = \"content\"` loads append-only: a row is known by all it \
             holds, and a second run adds only what is not there",
        ));
    }
    if view.key.is_content && *view.conflict != ConflictManifest::default() {
        let detail = "with `key = \"content\"` no row can be in conflict with another: leave \
                      `conflict` out";
        faults.push(Fault::new(at, detail));
    }
    if view.mention {
        let is_first = stream.outputs.first().is_some_and(|first| first.name == *view.name);
        let is_fit = view.conflict.rule == ConflictRule::TargetWins
            && view.each.is_none()
            && !view.key.is_content;
        if is_first || !is_fit {
            let detail = "`mention` is for an output after the first, with a key, without `each`, and \
                          with the conflict rule `target_wins`";
            faults.push(Fault::new(at, detail));
        }
    }
    for (position, column) in view.key.iter().enumerate() {
        if view.key[..position].iter().any(|earlier| earlier.get_ref() == column.get_ref()) {
            let detail = format!("key column `{}` is named twice", column.get_ref());
            faults.push(Fault::new(column.span().start, detail));
        }
    }
    match (view.conflict.rule, &view.conflict.by) {
        (ConflictRule::Newer, None) => {
            faults.push(Fault::new(at, "the conflict rule `newer` needs `by = \"COLUMN\"`"));
        }
        (ConflictRule::SourceWins | ConflictRule::TargetWins, Some(by)) => {
            let detail =
                format!("`by = \"{}\"` belongs to the conflict rule `newer` only", by.get_ref());
            faults.push(Fault::new(by.span().start, detail));
        }
        _ => {}
    }
    references(stream, view, faults);
}

fn references(stream: &StreamManifest, view: &OutputView<'_>, faults: &mut Vec<Fault>) {
    let source = &stream.source;
    let outside = Offer {
        records: match (is_given(&source.sqlite), is_given(&source.csv)) {
            (true, _) => Records::Sqlite,
            (false, true) => Records::Csv,
            (false, false) => Records::Json,
        },
        companion: source.companion.is_some(),
        compute: source.compute.is_some(),
        in_each: false,
    };
    let inside = Offer { in_each: view.each.is_some(), ..outside };
    if let Some(each) = view.each {
        let text = each.get_ref();
        let is_pointer = text.is_empty() || text.starts_with(['/', '^', '+']);
        let refusal = outside.refusal(text).or_else(|| {
            (!is_pointer).then(|| format!("`{text}` is no JSON pointer to an array or object"))
        });
        faults.extend(refusal.map(|what| Fault::new(each.span().start, format!("`each`: {what}"))));
    }
    let tests = [("when", view.when), ("skip", view.skip.map(|skip| &skip.empty))];
    for (name, text) in tests {
        let Some(text) = text else { continue };
        let refusal = inside.refusal(text.get_ref());
        faults
            .extend(refusal.map(|what| Fault::new(text.span().start, format!("`{name}`: {what}"))));
    }
    if view.columns.is_empty() && source.compute.is_some() && has_columns(source) {
        let detail =
            "with `compute` nothing is taken by name: [stream.columns] must map each column";
        faults.push(Fault::new(view.target.span().start, detail));
    }
    if view.columns.is_empty() && !has_columns(source) {
        let detail = "JSON has no columns to take by name: [stream.columns] must map each column";
        faults.push(Fault::new(view.target.span().start, detail));
    }
    for (name, entry) in view.columns {
        for what in column_faults(name, entry.get_ref(), inside) {
            faults.push(Fault::new(entry.span().start, format!("column `{name}`: {what}")));
        }
    }
}

fn column_faults(name: &str, entry: &ColumnManifest, offer: Offer) -> Vec<String> {
    let options = entry.options();
    let sources = options.from.to_vec();
    let original = options.original.as_deref().and_then(|text| offer.refusal(text));
    if let Some(what) = original {
        return vec![format!("`original`: {what}")];
    }
    if options.value.is_some() {
        let both = "`value` is a constant, and `from` a source: give one of them";
        return if is_given(&options.from) { vec![both.to_owned()] } else { Vec::new() };
    }
    if sources.is_empty() {
        if is_given(&options.from) {
            return vec!["`from` is an empty list".to_owned()];
        }
        return offer.refusal(name).into_iter().collect();
    }
    sources.iter().filter_map(|text| offer.refusal(text)).collect()
}
