//! Which slice of a target table an output feeds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::pack::fault::Fault;
use crate::pack::manifest::OutputView;
use crate::pack::plan::{PlannedColumn, Unit};
use crate::store::catalog::Table;

/// The slices of all targets.
#[derive(Debug, Default)]
pub(super) struct Slices {
    pub(super) units: Vec<Unit>,
    /// Where each slice is named first.
    named_at: Vec<usize>,
    /// All columns that outputs of one slice map: each output writes every one of them, NULL
    /// where it has nothing, so that the rows of a slice are comparable.
    columns: BTreeMap<String, BTreeSet<String>>,
}

impl Slices {
    /// Notes the columns an output maps.
    pub(super) fn maps(&mut self, view: &OutputView<'_>) {
        self.columns.entry(slice_of(view)).or_default().extend(view.columns.keys().cloned());
    }

    /// Whether any output of the slice maps the column.
    pub(super) fn is_mapped(&self, view: &OutputView<'_>, column: &str) -> bool {
        self.columns.get(&slice_of(view)).is_some_and(|names| names.contains(column))
    }

    /// Position of the slice of `table` with these constants, fed by the output at `place`.
    pub(super) fn feed(
        &mut self,
        table: &Arc<Table>,
        constants: &[(usize, String)],
        columns: &[PlannedColumn],
        place: (usize, usize),
        at: usize,
    ) -> usize {
        let named: Vec<(String, String)> = constants
            .iter()
            .map(|(position, value)| (columns[*position].name.clone(), value.clone()))
            .collect();
        let table_name = table.display_name();
        let found = self
            .units
            .iter()
            .position(|unit| unit.table.display_name() == table_name && unit.constants == named);
        if let Some(found) = found {
            self.units[found].feeds.push(place);
            return found;
        }
        let name = slice_name(&table_name, &named);
        let table = Arc::clone(table);
        self.units.push(Unit {
            name,
            table,
            constants: named,
            feeds: vec![place],
            removed: Vec::new(),
        });
        self.named_at.push(at);
        self.units.len() - 1
    }

    /// Keeps of each table's constants the shortest prefix that still tells its slices apart, so
    /// that as few rows as possible belong to no slice: a stray row of a known kind is then an
    /// extra row, whatever its other key columns say.
    pub(super) fn narrow(&mut self) {
        let tables: BTreeSet<String> =
            self.units.iter().map(|unit| unit.table.display_name()).collect();
        for table in tables {
            let mut units: Vec<&mut Unit> =
                self.units.iter_mut().filter(|unit| unit.table.display_name() == table).collect();
            let most = units.iter().map(|unit| unit.constants.len()).max().unwrap_or(0);
            let enough = (1..most).find(|length| tells_apart(&units, *length)).unwrap_or(most);
            for unit in &mut units {
                unit.constants.truncate(enough);
                unit.name = slice_name(&table, &unit.constants);
            }
        }
    }

    /// Two slices of one table must be equal or disjoint: otherwise a row would belong to both
    /// and "extra" would have no meaning.
    pub(super) fn overlaps(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (at, left) in self.units.iter().enumerate() {
            for (right, named_at) in self.units.iter().zip(&self.named_at).skip(at + 1) {
                let same_table = left.table.display_name() == right.table.display_name();
                if same_table && !disjoint(&left.constants, &right.constants) {
                    let detail = format!("the slices {} and {} overlap", left.name, right.name);
                    faults.push(Fault::new(*named_at, detail).advice(
                        "give both the same constant key columns, or different values of one",
                    ));
                }
            }
        }
        faults
    }
}

/// Whether the slices of one table are pairwise disjoint by their first `length` constants.
fn tells_apart(units: &[&mut Unit], length: usize) -> bool {
    let prefix = |unit: &Unit| -> Vec<(String, String)> {
        unit.constants.iter().take(length).cloned().collect()
    };
    units.iter().enumerate().all(|(at, left)| {
        units[at + 1..].iter().all(|right| disjoint(&prefix(left), &prefix(right)))
    })
}

/// `table[column=value]`.
fn slice_name(table: &str, constants: &[(String, String)]) -> String {
    if constants.is_empty() {
        return table.to_owned();
    }
    let parts: Vec<String> =
        constants.iter().map(|(column, value)| format!("{column}={value}")).collect();
    format!("{table}[{}]", parts.join(","))
}

/// Identity of the slice an output writes: the target and the constants of its key.
fn slice_of(view: &OutputView<'_>) -> String {
    let mut slice = view.target.get_ref().clone();
    for name in view.key.iter() {
        let value = view
            .columns
            .get(name.get_ref())
            .and_then(|entry| entry.get_ref().options().value.clone());
        if let Some(value) = value {
            slice.push_str(&format!("\0{}\0{value}", name.get_ref()));
        }
    }
    slice
}

fn disjoint(left: &[(String, String)], right: &[(String, String)]) -> bool {
    left.iter().any(|(column, value)| {
        right.iter().any(|(other, content)| column == other && value != content)
    })
}
