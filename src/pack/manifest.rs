//! `pack.toml` as written: serde types that refuse unknown keys, with file, line and column.

mod forms;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::Deserializer;
use toml::Spanned;

pub use self::forms::{Key, OneOrMany};

use crate::cast::{CastOptions, PgType, Policies, Policy, Reverse};
use crate::error::{Error, ErrorKind};

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Name, version, description.
    pub pack: PackHeader,
    /// Defaults of every column.
    #[serde(default)]
    pub defaults: Defaults,
    /// Bounds of the phase gates.
    #[serde(default)]
    pub phase: PhaseManifest,
    /// References whose being whole is one of the acceptance criteria.
    #[serde(default)]
    pub lineage: Vec<LineageManifest>,
    /// Streams, in file order.
    #[serde(default, rename = "stream")]
    pub streams: Vec<StreamManifest>,
    /// Documents that become many rows through a Rust transform, instead of streams.
    pub documents: Option<DocumentsManifest>,
    /// Tables whose monthly partitions `toolkit maintain` makes ahead.
    #[serde(default, rename = "partition")]
    pub partitions: Vec<PartitionManifest>,
    /// How long rows are kept.
    #[serde(default, rename = "retention")]
    pub retention: Vec<RetentionManifest>,
}

/// `[documents]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentsManifest {
    /// The transform, one of those that are built in.
    pub transform: Spanned<String>,
    /// File patterns, in reading order, where a folder is given.
    pub files: Vec<String>,
    /// Files that are tried when no source is given.
    #[serde(default)]
    pub default_sources: Vec<PathBuf>,
    /// What the transform decides by.
    #[serde(default)]
    pub policy: toml::Table,
}

/// `[[partition]]`: a table partitioned by range of one column of time, a month each.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionManifest {
    /// `schema.table`
    pub table: Spanned<String>,
    /// Months after the current one that have a partition.
    #[serde(default = "months_ahead")]
    pub months_ahead: u32,
}

/// A quarter: who maintains once a month may miss two times.
fn months_ahead() -> u32 {
    3
}

/// `[[retention]]`: rows whose `column` is older than `keep` are removed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionManifest {
    /// `schema.table`
    pub table: Spanned<String>,
    /// A column of time; rows where it is NULL stay.
    pub column: Spanned<String>,
    /// `180 days`, `26 weeks`, `6 months` or `2 years`.
    pub keep: Spanned<String>,
}

/// `[phase]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PhaseManifest {
    /// Consecutive clean full verifications that cutover, and again decommission, ask for.
    pub clean_runs: u32,
    /// How long rollback stays possible after cutover: a number and `s`, `m`, `h` or `d`.
    #[serde(deserialize_with = "release_window")]
    pub release_window: std::time::Duration,
    /// How old the newest clean `phase backup-check` may be at the cutover; None: the cutover asks
    /// for none, and `phase status` only recommends one.
    #[serde(deserialize_with = "backup_max_age")]
    pub backup_max_age: Option<std::time::Duration>,
}

impl Default for PhaseManifest {
    fn default() -> Self {
        Self {
            clean_runs: 3,
            release_window: std::time::Duration::from_hours(7 * 24),
            backup_max_age: None,
        }
    }
}

fn release_window<'de, D: Deserializer<'de>>(from: D) -> Result<std::time::Duration, D::Error> {
    span("release_window", &String::deserialize(from)?).map_err(serde::de::Error::custom)
}

fn backup_max_age<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<std::time::Duration>, D::Error> {
    let text = String::deserialize(from)?;
    span("backup_max_age", &text).map(Some).map_err(serde::de::Error::custom)
}

/// `7d`, `36h`.
fn span(what: &str, text: &str) -> Result<std::time::Duration, String> {
    let (number, unit) =
        text.split_at(text.len() - text.chars().next_back().map_or(0, char::len_utf8));
    let unit_seconds = match unit {
        "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3_600),
        "d" => Some(86_400),
        _ => None,
    };
    let seconds = unit_seconds.and_then(|unit| number.parse::<u64>().ok()?.checked_mul(unit));
    seconds
        .map(std::time::Duration::from_secs)
        .ok_or_else(|| format!("{what} `{text}` is not a number and s, m, h or d, such as \"7d\""))
}

/// `[[lineage]]`: every value of `from` is to be found in `to`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LineageManifest {
    /// What the reference is called: `run_id`.
    pub name: String,
    /// The referring column, `schema.table.column`; NULL refers to nothing.
    pub from: Spanned<String>,
    /// The column that is referred to.
    pub to: Spanned<String>,
    /// Why a reference may lead nowhere in sound data; None: it may not.
    pub may_break: Option<String>,
}

/// `[pack]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackHeader {
    /// Lower-case name; also the name of the pack's migration history.
    pub name: Spanned<String>,
    /// Rises with every change of the mapping; a run cannot be resumed under another version.
    pub version: i32,
    /// One sentence for `pack show`.
    #[serde(default)]
    pub description: String,
}

/// `[defaults]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Defaults {
    /// Policies where a column says nothing.
    pub on: Policies,
    /// IANA zone of timestamps that carry none.
    pub zone: Option<String>,
    /// JSON member names whose string values are secrets.
    pub redact_members: Vec<String>,
    /// As `backfill --disable-triggers`, for sources that hold what the triggers wrote.
    pub disable_triggers: bool,
}

/// `[[stream]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamManifest {
    /// Unique within the pack.
    pub name: Spanned<String>,
    /// Where records come from.
    pub source: SourceManifest,
    /// Target `schema.table` of a stream with one output.
    pub target: Option<Spanned<String>>,
    /// Key columns of the target, or `"content"`.
    #[serde(default)]
    pub key: Key,
    /// What happens when the target holds another row under the key.
    #[serde(default)]
    pub conflict: ConflictManifest,
    /// Mapping by target column. Empty: columns of the same name.
    #[serde(default)]
    pub columns: Columns,
    /// Source columns left behind on purpose.
    #[serde(default)]
    pub ignore: Vec<Spanned<String>>,
    /// Streams that are copied before this one.
    #[serde(default)]
    pub after: Vec<Spanned<String>>,
    /// Several outputs of one record, instead of `target`, `key`, `conflict`, `columns`.
    #[serde(default, rename = "output")]
    pub outputs: Vec<OutputManifest>,
    /// How its records are written back after the cutover; None: as well as the mapping allows.
    pub reverse: Option<Spanned<Reverse>>,
}

/// `[stream.source]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceManifest {
    /// `SQLite` file names, newest first; older names are accepted after it.
    #[serde(default)]
    pub sqlite: OneOrMany,
    /// Table or view of the `SQLite` file.
    pub table: Option<Spanned<String>>,
    /// JSON file patterns: one document each.
    #[serde(default)]
    pub json: OneOrMany,
    /// JSON-lines file patterns: one record a line.
    #[serde(default)]
    pub jsonl: OneOrMany,
    /// CSV file patterns with a header line.
    #[serde(default)]
    pub csv: OneOrMany,
    /// File patterns that are not this stream's, though they match one of its patterns.
    #[serde(default)]
    pub except: OneOrMany,
    /// JSON pointer to the array of records inside a JSON document; `/*`: all arrays that are its
    /// members, or the document itself where it is an array.
    pub records: Option<Spanned<String>>,
    /// A Rust function that computes further fields of a record (`+/...`), or refuses it.
    pub compute: Option<Spanned<String>>,
    /// A JSON document found by the record's values, reachable as `^/...`; braces name columns.
    pub companion: Option<Spanned<String>>,
}

/// `[[stream.output]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputManifest {
    /// Unique within the stream.
    pub name: Spanned<String>,
    /// Target `schema.table`.
    pub target: Spanned<String>,
    /// Key columns of the target, or `"content"`.
    pub key: Key,
    /// What happens when the target holds another row under the key.
    #[serde(default)]
    pub conflict: ConflictManifest,
    /// JSON pointer (`/a`, `+/a`) to an array or object: one row per element.
    pub each: Option<Spanned<String>>,
    /// No row, without a word, unless this value is present and not empty.
    pub when: Option<Spanned<String>>,
    /// No row, with a ledger entry, if the value is missing or empty.
    pub skip: Option<SkipManifest>,
    /// A row that many records name, such as the user of each: it is stored once, before them and
    /// whatever becomes of them, and stays when the file goes.
    #[serde(default)]
    pub mention: bool,
    /// Mapping by target column.
    pub columns: Columns,
}

/// `skip = { empty = "/id", rule = "question_without_id" }`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkipManifest {
    /// The value that must be there.
    pub empty: Spanned<String>,
    /// The ledger rule's name.
    pub rule: String,
}

/// `conflict = { rule = "newer", by = "created_at" }`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConflictManifest {
    /// The rule.
    #[serde(default)]
    pub rule: ConflictRule,
    /// The column that says which is newer.
    pub by: Option<Spanned<String>>,
}

impl StreamManifest {
    /// Its outputs, whether written inline in the stream or as `[[stream.output]]`; none where the
    /// stream has neither.
    #[must_use]
    pub fn views(&self) -> Vec<OutputView<'_>> {
        if !self.outputs.is_empty() {
            return self.outputs.iter().map(OutputView::of_output).collect();
        }
        let inline = self.target.as_ref().map(|target| OutputView {
            name: &self.name,
            target,
            key: &self.key,
            conflict: &self.conflict,
            columns: &self.columns,
            each: None,
            when: None,
            skip: None,
            mention: false,
        });
        inline.into_iter().collect()
    }
}

/// One output of a stream, however it is written.
#[derive(Debug, Clone, Copy)]
pub struct OutputView<'a> {
    /// Its name; of an inline one, the stream's.
    pub name: &'a Spanned<String>,
    /// Target `schema.table`.
    pub target: &'a Spanned<String>,
    /// Key columns of the target.
    pub key: &'a Key,
    /// What happens when the target holds another row under the key.
    pub conflict: &'a ConflictManifest,
    /// Mapping by target column.
    pub columns: &'a Columns,
    /// As in [`OutputManifest`].
    pub each: Option<&'a Spanned<String>>,
    /// As in [`OutputManifest`].
    pub when: Option<&'a Spanned<String>>,
    /// As in [`OutputManifest`].
    pub skip: Option<&'a SkipManifest>,
    /// As in [`OutputManifest`].
    pub mention: bool,
}

impl<'a> OutputView<'a> {
    fn of_output(output: &'a OutputManifest) -> Self {
        Self {
            name: &output.name,
            target: &output.target,
            key: &output.key,
            conflict: &output.conflict,
            columns: &output.columns,
            each: output.each.as_ref(),
            when: output.when.as_ref(),
            skip: output.skip.as_ref(),
            mention: output.mention,
        }
    }
}

/// What backfill does with a row whose key the target already holds with other content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ConflictRule {
    /// The source's row replaces the target's.
    #[default]
    SourceWins,
    /// The target's row stays.
    TargetWins,
    /// The greater value of `by` stays; on a tie, the target's.
    Newer,
}

/// The mapping of an output, by target column.
pub type Columns = BTreeMap<String, Spanned<ColumnManifest>>;

/// One column: a source name, or a table of options.
#[derive(Debug, Clone)]
pub enum ColumnManifest {
    /// `title = "title"`
    From(String),
    /// `title = { from = "title", cast = "text" }`
    Full(Box<ColumnOptions>),
}

/// The options of a column: where from, and how cast.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ColumnOptions {
    /// Source column or JSON pointer; several: the first that is not NULL.
    pub from: OneOrMany,
    /// A constant, as Postgres text; constants in key columns mark the stream's slice.
    pub value: Option<String>,
    /// How the value is cast.
    pub cast: Option<crate::cast::CastName>,
    /// IANA zone of naive timestamps.
    pub zone: Option<String>,
    /// Unit of numeric timestamps: `s`, `ms`, `us`, or `infer`.
    pub unit: Option<crate::cast::UnitOption>,
    /// Enum aliases.
    pub aliases: BTreeMap<String, String>,
    /// Policies.
    pub on: Option<Policies>,
    /// What the empty text means.
    pub empty: Option<crate::cast::EmptyText>,
    /// What JSON null means.
    pub json_null: Option<crate::cast::JsonNull>,
    /// False stores secrets in URLs and members as they are.
    pub redact: Option<bool>,
    /// Value for a missing or NULL source value, as Postgres text.
    pub default: Option<String>,
    /// What `from` was computed from: where it is another text, the ledger keeps it as `computed`.
    pub original: Option<String>,
    /// Namespace of the cast `uuid_v5`, a uuid.
    pub namespace: Option<String>,
}

impl ColumnManifest {
    /// The options, spelled out.
    #[must_use]
    pub fn options(&self) -> Cow<'_, ColumnOptions> {
        match self {
            Self::Full(options) => Cow::Borrowed(options),
            Self::From(from) => Cow::Owned(ColumnOptions {
                from: OneOrMany::One(from.clone()),
                ..ColumnOptions::default()
            }),
        }
    }

    /// What the target column `name` is made of: nothing for a constant, and the source column of
    /// the same name where nothing else is said.
    #[must_use]
    pub fn sources(&self, name: &str) -> Vec<String> {
        let options = self.options();
        let from = options.from.to_vec();
        if from.is_empty() && options.value.is_none() { vec![name.to_owned()] } else { from }
    }
}

impl ColumnOptions {
    /// The cast's options for a column of type `ty`, with the pack's defaults filled in where
    /// they have a meaning.
    #[must_use]
    pub fn cast_options(&self, defaults: &Defaults, ty: &PgType, nullable: bool) -> CastOptions {
        let scalar = match ty {
            PgType::Array(element) => element,
            _ => ty,
        };
        let default_zone = defaults.zone.clone().filter(|_| *scalar == PgType::Timestamptz);
        CastOptions {
            cast: self.cast,
            zone: self.zone.clone().or(default_zone),
            unit: self.unit.and_then(crate::cast::UnitOption::declared),
            infer_unit: self.unit == Some(crate::cast::UnitOption::Infer),
            aliases: self.aliases.clone(),
            on: self.on.clone().unwrap_or_else(|| defaults.fitting(scalar, nullable)),
            empty: self.empty,
            json_null: self.json_null.unwrap_or_default(),
            redact: self.redact.unwrap_or(true),
            default: self.default.clone(),
            namespace: self.namespace.clone(),
        }
    }
}

impl Defaults {
    /// The default policies, with `reject` where a type or column has no use for the choice.
    fn fitting(&self, ty: &PgType, nullable: bool) -> Policies {
        let is_document = matches!(ty, PgType::Json | PgType::Jsonb);
        let is_integer = matches!(ty, PgType::Int2 | PgType::Int4 | PgType::Int8);
        let fit = |policy: Policy| {
            if policy == Policy::Null && !nullable && !is_document {
                Policy::Reject
            } else {
                policy
            }
        };
        let on = &self.on;
        let nan =
            if is_integer && on.nan == Policy::Replace { Policy::Reject } else { fit(on.nan) };
        let unreadable = if nullable { on.unreadable } else { Policy::Reject };
        Policies {
            nul: fit(on.nul),
            nan,
            invalid_utf8: fit(on.invalid_utf8),
            overflow: fit(on.overflow),
            too_long: fit(on.too_long),
            json_duplicate_keys: on.json_duplicate_keys,
            unreadable,
            orphan: if nullable { on.orphan } else { Policy::Reject },
            mixed_units: on.mixed_units,
        }
    }
}

/// Parses `text`; errors are one sentence with `file`, line and column.
pub fn parse(text: &str, file: &Path) -> crate::Result<Manifest> {
    toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start.min(text.len()));
        let message: Vec<&str> = error.message().lines().map(str::trim).collect();
        Error::new(
            ErrorKind::Pack,
            format!(
                "{}, line {}, column {}: {}",
                file.display(),
                line_of(text, start),
                column_of(text, start),
                message.join(", ")
            ),
        )
    })
}

/// 1-based line of a byte offset.
#[must_use]
pub fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|b| **b == b'\n').count() + 1
}

/// 1-based column of a byte offset, in characters.
fn column_of(text: &str, offset: usize) -> usize {
    let before = &text.as_bytes()[..offset];
    let line_start = memchr::memrchr(b'\n', before).map_or(0, |at| at + 1);
    1 + String::from_utf8_lossy(&before[line_start..]).chars().count()
}
