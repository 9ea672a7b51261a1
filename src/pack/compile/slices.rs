//! Which slice of a target table an output feeds.

use std::sync::Arc;

use crate::pack::fault::Fault;
use crate::pack::plan::{PlannedColumn, Unit};
use crate::store::catalog::Table;

/// The slices of all targets.
#[derive(Debug, Default)]
pub(super) struct Slices {
    pub(super) units: Vec<Unit>,
    /// Where each slice is named first.
    named_at: Vec<usize>,
}

impl Slices {
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
        let slice: Vec<String> =
            named.iter().map(|(column, value)| format!("{column}={value}")).collect();
        let name = if slice.is_empty() {
            table_name
        } else {
            format!("{table_name}[{}]", slice.join(","))
        };
        let table = Arc::clone(table);
        self.units.push(Unit { name, table, constants: named, feeds: vec![place] });
        self.named_at.push(at);
        self.units.len() - 1
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

fn are_disjoint(left: &Unit, right: &Unit) -> bool {
    left.constants.iter().any(|(column, value)| {
        right.constants.iter().any(|(other, content)| column == other && value != content)
    })
}
