//! A pack's mapping as it is written, completed with what is left unsaid.

use serde::Serialize;

use crate::cast::{Policies, Reverse};
use crate::pack::fault::Fault;
use crate::pack::manifest::{
    ColumnOptions, ConflictRule, OutputView, SourceManifest, StreamManifest,
};
use crate::pack::{Pack, lint};

/// A pack's mapping.
#[derive(Debug, Serialize)]
pub struct Mapping {
    /// The pack.
    pub pack: String,
    /// Its version.
    pub version: i32,
    /// One sentence.
    pub description: String,
    /// Its `pack.toml`.
    pub file: String,
    /// Policies and zone of every column that says nothing else, where they are not the
    /// program's own.
    pub defaults: Vec<String>,
    /// Member names whose values are secrets.
    pub redact_members: Vec<String>,
    /// In file order.
    pub streams: Vec<MappedStream>,
    /// What is wrong with it, as far as that shows without a database.
    pub problems: Vec<String>,
}

/// One stream of a [`Mapping`].
#[derive(Debug, Serialize)]
pub struct MappedStream {
    /// Stream.
    pub stream: String,
    /// What it reads.
    pub source: String,
    /// Streams copied before it.
    pub after: Vec<String>,
    /// Source columns left behind on purpose.
    pub ignore: Vec<String>,
    /// How its records are written back after the cutover; None: as well as its casts allow.
    pub reverse: Option<Reverse>,
    /// Per output.
    pub outputs: Vec<MappedOutput>,
}

/// One output of a [`MappedStream`].
#[derive(Debug, Serialize)]
pub struct MappedOutput {
    /// Output.
    pub output: String,
    /// Target table.
    pub target: String,
    /// Key columns of the target.
    pub key: Vec<String>,
    /// The conflict rule.
    pub conflict: ConflictRule,
    /// The column that says which is newer.
    pub by: Option<String>,
    /// One row per element of this.
    pub each: Option<String>,
    /// No row unless this is there.
    pub when: Option<String>,
    /// No row, and a ledger entry under the rule, unless this is there.
    pub skip: Option<(String, String)>,
    /// Mapping by target column; empty: columns of the same name.
    pub columns: Vec<MappedColumn>,
}

/// One column of a [`MappedOutput`].
#[derive(Debug, Serialize)]
pub struct MappedColumn {
    /// Target column.
    pub column: String,
    /// Where from: the first that is not NULL.
    pub from: Vec<String>,
    /// A constant instead.
    pub value: Option<String>,
    /// The cast; None: the natural one of the target's type.
    pub cast: Option<String>,
    /// Options and policies that differ from the defaults, as in `pack.toml`.
    pub options: Vec<String>,
}

/// The mapping of `pack`.
#[must_use]
pub fn mapping(pack: &Pack) -> Mapping {
    let defaults = &pack.manifest.defaults;
    let mut said = policies("", &defaults.on, &Policies::default());
    said.extend(defaults.zone.iter().map(|zone| format!("zone = {zone:?}")));
    let streams = pack.manifest.streams.iter().map(|stream| mapped_stream(pack, stream));
    let problems: Vec<Fault> = lint::faults(pack);
    Mapping {
        pack: pack.name().to_owned(),
        version: pack.manifest.pack.version,
        description: pack.manifest.pack.description.clone(),
        file: pack.file.display().to_string(),
        defaults: said,
        redact_members: defaults.redact_members.clone(),
        streams: streams.collect(),
        problems: problems.iter().map(|fault| fault.sentence(pack)).collect(),
    }
}

fn mapped_stream(pack: &Pack, stream: &StreamManifest) -> MappedStream {
    let texts = |names: &[toml::Spanned<String>]| {
        names.iter().map(|name| name.get_ref().clone()).collect::<Vec<_>>()
    };
    let views = stream.views();
    let outputs = views.iter().map(|view| MappedOutput {
        output: view.name.get_ref().clone(),
        target: view.target.get_ref().clone(),
        key: if view.key.is_content { vec!["content".to_owned()] } else { texts(view.key) },
        conflict: view.conflict.rule,
        by: view.conflict.by.as_ref().map(|by| by.get_ref().clone()),
        each: view.each.map(|each| each.get_ref().clone()),
        when: view.when.map(|when| when.get_ref().clone()),
        skip: view.skip.map(|skip| (skip.empty.get_ref().clone(), skip.rule.clone())),
        columns: mapped_columns(pack, view),
    });
    MappedStream {
        stream: stream.name.get_ref().clone(),
        source: source_text(&stream.source),
        after: texts(&stream.after),
        ignore: texts(&stream.ignore),
        reverse: stream.reverse.as_ref().map(|reverse| *reverse.get_ref()),
        outputs: outputs.collect(),
    }
}

/// In the order they are written in.
fn mapped_columns(pack: &Pack, view: &OutputView<'_>) -> Vec<MappedColumn> {
    let mut entries: Vec<_> = view.columns.iter().collect();
    entries.sort_by_key(|(_, entry)| entry.span().start);
    let columns = entries.into_iter().map(|(name, entry)| {
        let options = entry.get_ref().options();
        MappedColumn {
            column: name.clone(),
            from: entry.get_ref().sources(name),
            value: options.value.clone(),
            cast: options.cast.as_ref().map(word),
            options: differing(&options, &pack.manifest.defaults.on),
        }
    });
    columns.collect()
}

fn differing(options: &ColumnOptions, default: &Policies) -> Vec<String> {
    let mut said = Vec::new();
    said.extend(options.unit.as_ref().map(|unit| format!("unit = {:?}", word(unit))));
    said.extend(options.zone.iter().map(|zone| format!("zone = {zone:?}")));
    said.extend(options.default.iter().map(|text| format!("default = {text:?}")));
    said.extend(options.empty.as_ref().map(|empty| format!("empty = {:?}", word(empty))));
    said.extend(options.json_null.as_ref().map(|null| format!("json_null = {:?}", word(null))));
    said.extend(options.original.iter().map(|from| format!("original = {from:?}")));
    said.extend(options.namespace.iter().map(|name| format!("namespace = {name:?}")));
    said.extend(options.redact.iter().map(|redact| format!("redact = {redact}")));
    said.extend(options.aliases.iter().map(|(alias, label)| format!("{alias} -> {label}")));
    if let Some(on) = &options.on {
        said.extend(policies("on.", on, default));
    }
    said
}

fn policies(prefix: &str, on: &Policies, default: &Policies) -> Vec<String> {
    let mut said: Vec<String> = [
        ("nul", on.nul, default.nul),
        ("nan", on.nan, default.nan),
        ("invalid_utf8", on.invalid_utf8, default.invalid_utf8),
        ("overflow", on.overflow, default.overflow),
        ("too_long", on.too_long, default.too_long),
        ("json_duplicate_keys", on.json_duplicate_keys, default.json_duplicate_keys),
        ("unreadable", on.unreadable, default.unreadable),
    ]
    .iter()
    .filter(|(_, policy, default)| policy != default)
    .map(|(name, policy, _)| format!("{prefix}{name} = {:?}", word(policy)))
    .collect();
    if on.mixed_units != default.mixed_units {
        said.push(format!("{prefix}mixed_units = {:?}", word(&on.mixed_units)));
    }
    said
}

/// The word `pack.toml` has for it.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

fn source_text(source: &SourceManifest) -> String {
    let kinds = [
        ("SQLite", &source.sqlite),
        ("JSON", &source.json),
        ("JSON lines", &source.jsonl),
        ("CSV", &source.csv),
    ];
    let mut parts: Vec<String> = kinds
        .iter()
        .map(|(kind, patterns)| (kind, patterns.to_vec()))
        .filter(|(_, patterns)| !patterns.is_empty())
        .map(|(kind, patterns)| format!("{kind} {}", patterns.join(" or ")))
        .collect();
    let except = source.except.to_vec();
    if !except.is_empty() {
        parts.push(format!("except {}", except.join(" or ")));
    }
    let details = [
        ("table", &source.table),
        ("records at", &source.records),
        ("computed by", &source.compute),
        ("beside each record", &source.companion),
    ];
    for (name, text) in details {
        parts.extend(text.iter().map(|text| format!("{name} {}", text.get_ref())));
    }
    parts.join(", ")
}
