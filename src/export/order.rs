//! In which order tables are loaded: what is referred to before what refers to it, and tables that
//! refer to each other together.

use std::collections::BTreeSet;

use crate::store::catalog::Table;

/// Positions of tables in groups, parents first; a group of several is a circle of foreign keys.
pub(super) fn groups(tables: &[Table]) -> Vec<Vec<usize>> {
    let parents: Vec<BTreeSet<usize>> = tables
        .iter()
        .map(|table| {
            let keys = table.foreign_keys.iter();
            keys.filter_map(|key| {
                tables
                    .iter()
                    .position(|other| other.schema == key.parent_schema && other.name == key.parent)
            })
            .collect()
        })
        .collect();
    groups_of(&parents)
}

fn groups_of(parents: &[BTreeSet<usize>]) -> Vec<Vec<usize>> {
    let ancestors: Vec<BTreeSet<usize>> =
        (0..parents.len()).map(|at| reachable(parents, at)).collect();
    let mut left: BTreeSet<usize> = (0..parents.len()).collect();
    let mut groups = Vec::new();
    while let Some(first) = left.iter().copied().find(|at| {
        // All that it waits for waits for it in turn, or is done.
        ancestors[*at]
            .iter()
            .all(|up| !left.contains(up) || up == at || ancestors[*up].contains(at))
    }) {
        let is_with = |at: &usize| {
            *at == first || ancestors[first].contains(at) && ancestors[*at].contains(&first)
        };
        let group: Vec<usize> = left.iter().copied().filter(is_with).collect();
        left.retain(|at| !group.contains(at));
        groups.push(group);
    }
    groups
}

fn reachable(parents: &[BTreeSet<usize>], from: usize) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut open: Vec<usize> = parents[from].iter().copied().collect();
    while let Some(at) = open.pop() {
        if found.insert(at) {
            open.extend(&parents[at]);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_first_and_circles_together() {
        // 0 -> 1 <-> 2 -> 3, 4 -> 4, 5 -> 0 and 4
        let parents: Vec<BTreeSet<usize>> =
            [vec![1], vec![2], vec![1, 3], vec![], vec![4], vec![0, 4]]
                .into_iter()
                .map(|of| of.into_iter().collect())
                .collect();
        assert_eq!(groups_of(&parents), [vec![3], vec![1, 2], vec![0], vec![4], vec![5]]);
    }
}
