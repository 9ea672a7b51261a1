//! What of a pack can be written back to its sources after the cutover, and what cannot, and why.
//!
//! The way back of a column follows from the mapping: a constant, a companion's member or a copy
//! of another column has no place of its own in the source. A stream's way back is the weakest of
//! the columns that are written; columns that are not written at all do not weaken it, they are
//! listed.

use serde::Serialize;

use crate::cast::{PgType, Reverse, Strength};
use crate::pack::plan::{From, OutputPlan, PackPlan, PlannedColumn, SourceKind, StreamPlan};

/// The way back of one stream's records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WayBack {
    /// As `pack.toml` declares it, or the strongest.
    pub reverse: Reverse,
    /// What the mapping and its casts allow.
    pub strongest: Strength,
    /// Per column of the first output, in its order.
    pub columns: Vec<ColumnWay>,
}

impl Default for WayBack {
    fn default() -> Self {
        let strongest = Strength::new(Reverse::None, "");
        Self { reverse: Reverse::None, strongest, columns: Vec::new() }
    }
}

/// The way back of one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnWay {
    /// The source column that is written; None: nothing is.
    pub source: Option<String>,
    /// How well.
    pub strength: Strength,
}

impl ColumnWay {
    fn none(reason: impl Into<String>) -> Self {
        Self { source: None, strength: Strength::new(Reverse::None, reason) }
    }
}

/// One stream, or one column of it, as the operator acknowledges it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Stream.
    pub stream: String,
    /// Slice of the target.
    pub target: String,
    /// Target column; None: the stream as such.
    pub column: Option<String>,
    /// Source column that is written.
    pub source: Option<String>,
    /// The way back.
    pub reverse: Reverse,
    /// What prevents a stronger one.
    pub reason: String,
}

/// Every stream and column of the plan with its way back: what the phase machine has
/// acknowledged. Target columns without a source column are in it.
#[must_use]
pub fn listing(plan: &PackPlan) -> Vec<Listed> {
    let mut listed = Vec::new();
    for stream in &plan.streams {
        for (position, output) in stream.outputs.iter().enumerate() {
            let target = plan.units[output.unit].name.clone();
            let entry = |column: Option<&str>, source: Option<&str>, way: &Strength| Listed {
                stream: stream.name.clone(),
                target: target.clone(),
                column: column.map(str::to_owned),
                source: source.map(str::to_owned),
                reverse: way.reverse,
                reason: way.reason.clone(),
            };
            let way = &stream.way_back;
            if position > 0 {
                let why = "its rows are derived from another record's";
                listed.push(entry(None, None, &Strength::new(Reverse::None, why)));
                continue;
            }
            listed.push(entry(None, None, &way.declared()));
            if way.reverse == Reverse::None {
                continue;
            }
            for (column, found) in output.columns.iter().zip(&way.columns) {
                let is_slice =
                    output.constants.iter().any(|(at, _)| output.columns[*at].name == column.name);
                if !is_slice {
                    listed.push(entry(
                        Some(&column.name),
                        found.source.as_deref(),
                        &found.strength,
                    ));
                }
            }
            let unmapped = output.table.columns.iter().filter(|column| {
                !column.generated && !output.column_names().any(|name| name == column.name)
            });
            for column in unmapped {
                let why = Strength::new(Reverse::None, "the source has no column for it");
                listed.push(entry(Some(&column.name), None, &why));
            }
        }
    }
    listed
}

impl WayBack {
    /// The stream's own way back and its reason.
    fn declared(&self) -> Strength {
        if self.reverse == self.strongest.reverse {
            return self.strongest.clone();
        }
        Strength::new(self.reverse, "declared so in pack.toml")
    }
}

/// The way back of a stream; `declared` is what `pack.toml` says of it.
#[must_use]
pub fn way_back(source: &SourceKind, outputs: &[OutputPlan], declared: Option<Reverse>) -> WayBack {
    let Some(output) = outputs.first() else { return WayBack::default() };
    let columns = columns(output);
    let strongest = strongest(source, output, &columns);
    let reverse = declared.map_or(strongest.reverse, |wish| wish.min(strongest.reverse));
    WayBack { reverse, strongest, columns }
}

/// Why a declaration is stronger than the mapping allows; None: it is not.
#[must_use]
pub fn overstated(way: &WayBack, outputs: &[OutputPlan], declared: Reverse) -> Option<String> {
    if declared <= way.strongest.reverse {
        return None;
    }
    let best = way.strongest.reverse;
    let mut why = way.strongest.reason.clone();
    if best == Reverse::Equivalent
        && let Some(output) = outputs.first()
    {
        let weak = output
            .columns
            .iter()
            .zip(&way.columns)
            .filter(|(_, way)| way.source.is_some() && way.strength.reverse < declared);
        let named: Vec<String> = weak
            .map(|(column, way)| format!("{} ({})", column.name, way.strength.reason))
            .collect();
        why = named.join("; ");
    }
    Some(format!(
        "reverse = \"{}\" is more than its mapping can keep, which is \"{}\": {why}",
        declared.name(),
        best.name()
    ))
}

fn strongest(source: &SourceKind, output: &OutputPlan, columns: &[ColumnWay]) -> Strength {
    let none = |reason: &str| Strength::new(Reverse::None, reason);
    if !matches!(source, SourceKind::Sqlite { .. }) {
        return none("files are not written back");
    }
    if output.is_content {
        return none("without a key no row of the source can be found again");
    }
    if output.when.is_some() || output.skip.is_some() || output.each.is_some() {
        return none("not every record has a row");
    }
    for position in &output.key {
        let column = &output.columns[*position];
        if column.constant.is_some() {
            continue;
        }
        let way = &columns[*position];
        if way.source.is_none() || column.from.len() != 1 {
            return none(&format!("the key column {} is not a column of the source", column.name));
        }
        if !is_found_by(column.cast.ty()) {
            return none(&format!(
                "the key column {} is a {}, which has too many spellings to find a row by",
                column.name,
                column.cast.ty().name()
            ));
        }
    }
    let written = columns.iter().filter(|way| way.source.is_some());
    let weakest = written.min_by_key(|way| way.strength.reverse);
    match weakest {
        None => none("no column of the source is written"),
        Some(way) => way.strength.clone(),
    }
}

/// Types whose few spellings can all be looked up.
fn is_found_by(ty: &PgType) -> bool {
    matches!(
        ty,
        PgType::Text(_)
            | PgType::Int2
            | PgType::Int4
            | PgType::Int8
            | PgType::Uuid
            | PgType::Bytea
            | PgType::Bool
            | PgType::Enum { .. }
            | PgType::Ltree
    )
}

fn columns(output: &OutputPlan) -> Vec<ColumnWay> {
    output.columns.iter().enumerate().map(|(at, column)| column_way(output, at, column)).collect()
}

fn column_way(output: &OutputPlan, at: usize, column: &PlannedColumn) -> ColumnWay {
    let Some(first) = column.from.first() else {
        let is_null = column.constant.as_deref() == Some(&(-1_i32).to_be_bytes()[..]);
        return ColumnWay::none(if is_null {
            "the source has no column for it"
        } else {
            "a constant of the mapping"
        });
    };
    let From::Column(source) = first else {
        return ColumnWay::none(format!("made from {first}, which is not written"));
    };
    let owner = owner(output, source);
    if owner != at {
        return ColumnWay::none(format!(
            "made from the source column {source}, which is written from {}",
            output.columns[owner].name
        ));
    }
    let mut strength = column.cast.strength();
    if column.from.len() > 1 {
        let others: Vec<String> = column.from[1..].iter().map(ToString::to_string).collect();
        let why = format!("where {source} is NULL, {} is read", others.join(", "));
        strength = Strength::new(strength.reverse.min(Reverse::Equivalent), why);
    }
    ColumnWay { source: Some(source.clone()), strength }
}

/// Of the columns made from one source column, the one it is written from: one made from nothing
/// else, of the same name if there is one.
fn owner(output: &OutputPlan, source: &str) -> usize {
    let made = output.columns.iter().enumerate().filter(|(_, column)| {
        matches!(column.from.first(), Some(From::Column(name)) if name.eq_ignore_ascii_case(source))
    });
    let best = made.min_by_key(|(at, column)| {
        let is_other = !column.name.eq_ignore_ascii_case(source);
        (column.from.len() > 1, is_other, *at)
    });
    best.map_or(0, |(at, _)| at)
}

impl StreamPlan {
    /// Whether rows of its first output are written back.
    #[must_use]
    pub fn is_reversed(&self) -> bool {
        self.way_back.reverse != Reverse::None
    }
}
