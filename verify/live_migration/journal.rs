//! What an application announced, and what was acknowledged to it.

use std::collections::BTreeMap;
use std::path::Path;

/// The states an order may rightly be in: its version, or None where it is not there.
pub(super) type Allowed = BTreeMap<i64, Vec<Option<i64>>>;

/// Reads a journal: after an acknowledged change an order is in that state, until a later change
/// was announced, which may have been committed although its acknowledgement was never written.
pub(super) fn read(path: &Path) -> (Allowed, u64) {
    let text = std::fs::read(path).unwrap();
    let (mut allowed, mut acknowledged) = (Allowed::new(), 0);
    // A killed application may leave half a line.
    for line in String::from_utf8_lossy(&text).split_inclusive('\n') {
        let Some(line) = line.strip_suffix('\n') else { continue };
        let words: Vec<&str> = line.split(' ').collect();
        let [mark @ ("?" | "!"), change, id, version] = words[..] else {
            // Its first half, with the next run's first line behind it.
            continue;
        };
        let (Ok(id), Ok(version)) = (id.parse::<i64>(), version.parse::<i64>()) else { continue };
        let state = (change != "d").then_some(version);
        let states = allowed.entry(id).or_insert_with(|| vec![None]);
        if mark == "!" {
            acknowledged += 1;
            states.clear();
        }
        states.push(state);
    }
    (allowed, acknowledged)
}

/// Orders whose state is none of those allowed.
pub(super) fn wrong(allowed: &Allowed, held: &BTreeMap<i64, i64>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (id, states) in allowed {
        let state = held.get(id).copied();
        if !states.contains(&state) {
            wrong.push(format!("order {id} is {state:?}, and may be {states:?}"));
        }
    }
    wrong.extend(
        held.keys()
            .filter(|id| !allowed.contains_key(id))
            .map(|id| format!("order {id} is made up")),
    );
    wrong
}

#[test]
fn a_journal_tells_a_lost_change_from_one_that_was_never_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    std::fs::write(&path, "? i 1 1\n! i 1 1\n? u 1 2\n? i 2 1\n! i 2 1\n? d 2 2\n! d 2 2\n? u")
        .unwrap();
    let (allowed, acknowledged) = read(&path);
    assert_eq!(acknowledged, 3);
    assert_eq!(wrong(&allowed, &BTreeMap::from([(1, 1)])), Vec::<String>::new());
    assert_eq!(wrong(&allowed, &BTreeMap::from([(1, 2)])), Vec::<String>::new());
    assert_eq!(wrong(&allowed, &BTreeMap::new()).len(), 1);
    assert_eq!(wrong(&allowed, &BTreeMap::from([(1, 3), (2, 1), (3, 1)])).len(), 3);
}
