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
        let name = self.name(&table_name, &named);
        let table = Arc::clone(table);
        self.units.push(Unit { name, table, constants: named, feeds: vec![place] });
        self.named_at.push(at);
        self.units.len() - 1
    }

    /// `table[column=value]`: the first constant if it tells the slice apart, else all of them.
    fn name(&self, table: &str, constants: &[(String, String)]) -> String {
        let shown = |constants: &[(String, String)]| {
            let parts: Vec<String> =
                constants.iter().map(|(column, value)| format!("{column}={value}")).collect();
            format!("{table}[{}]", parts.join(","))
        };
        let short = match constants {
            [] => table.to_owned(),
            [first, ..] => shown(std::slice::from_ref(first)),
        };
        let is_taken = self.units.iter().any(|unit| unit.name == short);
        if is_taken { shown(constants) } else { short }
    }

    /// Two slices of one table must be equal or disjoint: otherwise a row would belong to both
    /// and "extra" would have no meaning.
    pub(super) fn overlaps(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (at, left) in self.units.iter().enumerate() {
            for (right, named_at) in self.units.iter().zip(&self.named_at).skip(at + 1) {
                let same_table = left.table.display_name() == right.table.display_name();
                if same_table && !are_disjoint(left, right) {
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

/// Identity of the slice an output writes: the target and the constants of its key.
fn slice_of(view: &OutputView<'_>) -> String {
    let mut slice = view.target.get_ref().clone();
    for name in view.key {
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

fn are_disjoint(left: &Unit, right: &Unit) -> bool {
    left.constants.iter().any(|(column, value)| {
        right.constants.iter().any(|(other, content)| column == other && value != content)
    })
}
