//! Stores that Postgres is compared with besides its sources: what a pack derives from its tables.
//!
//! Such a comparison yields [`Compared`]: slices with counts and roots, and differences, as that of
//! the sources does, so that reports, stored results and exit codes are the same for all. Postgres is
//! the side that is right: *missing* is in Postgres and not in the other store.

use serde::{Deserialize, Serialize};

use crate::parity::difference::Difference;
use crate::parity::report::{Report, UnitResult, Verdict};

/// What Postgres is compared with.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Against {
    /// The pack's sources.
    #[default]
    Source,
    /// The file of ingestion state beside an artifact.
    Sidecar,
    /// The collection of points.
    Qdrant,
    /// The table of edges.
    Graph,
}

impl Against {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Source, Self::Sidecar, Self::Qdrant, Self::Graph];

    /// As given on the command line, and as the stream of a difference.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Sidecar => "sidecar",
            Self::Qdrant => "qdrant",
            Self::Graph => "graph",
        }
    }

    /// Which one a difference or a planned action of this stream is about; streams of a pack are
    /// the sources'.
    #[must_use]
    pub fn of_stream(stream: &str, target: &str) -> Self {
        // A pack's own stream may bear such a name; its tables are then of no such schema.
        let is_slice = target.strip_prefix(stream).is_some_and(|rest| rest.starts_with('.'));
        let named = Self::ALL.into_iter().find(|against| against.name() == stream);
        named.filter(|_| is_slice).unwrap_or_default()
    }

    /// The two sides: the one that is right, and the one that has to follow.
    #[must_use]
    pub fn sides(self) -> (&'static str, &'static str) {
        match self {
            Self::Source => ("source", "postgres"),
            Self::Sidecar => ("postgres", "sidecar"),
            Self::Qdrant => ("postgres", "qdrant"),
            Self::Graph => ("junctions", "graph_edge"),
        }
    }
}

/// A store besides the sources that was compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreResult {
    /// Which one.
    pub against: Against,
    /// Where it is, without secrets.
    pub place: String,
    /// Things that differ only because the store has not been told yet.
    pub on_the_way: u64,
    /// What was compared of it, and what could not be, a sentence each.
    pub notes: Vec<String>,
}

/// What a comparison with one store besides the sources found.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    /// The store.
    pub store: StoreResult,
    /// Its slices.
    pub units: Vec<UnitResult>,
    /// Its differences, up to the limit.
    pub differences: Vec<Difference>,
}

impl Report {
    /// Takes in what was found in another store.
    pub(crate) fn add(&mut self, compared: Compared) {
        self.differing_rows += compared.units.iter().map(UnitResult::differing).sum::<u64>();
        if self.differing_rows > 0 {
            self.verdict = Verdict::Differences;
        }
        self.against.push(compared.store.against);
        self.units.extend(compared.units);
        self.differences.extend(compared.differences);
        self.stores.push(compared.store);
    }

    /// A report of stores besides the sources alone.
    pub(crate) fn of_stores(pack: &str, snapshot_lsn: String, snapshot_at: String) -> Self {
        Self {
            run_id: uuid::Uuid::new_v4().to_string(),
            pack: pack.to_owned(),
            level: "full".to_owned(),
            digests: "client".to_owned(),
            against: Vec::new(),
            verdict: Verdict::Clean,
            streams: Vec::new(),
            units: Vec::new(),
            differences: Vec::new(),
            differing_rows: 0,
            independent: Vec::new(),
            not_checked: Vec::new(),
            outside_slices: Vec::new(),
            unmapped_columns: Vec::new(),
            changed_sources: Vec::new(),
            left_out: Vec::new(),
            changing_triggers: Vec::new(),
            snapshot_lsn,
            snapshot_at,
            settling: None,
            documents: None,
            stores: Vec::new(),
            seconds: 0.0,
        }
    }

    /// What a slice was compared with.
    #[must_use]
    pub fn against_of(&self, target: &str) -> Against {
        let unit = self.units.iter().find(|unit| unit.target == target);
        unit.map_or_else(Against::default, |unit| unit.against)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_of_a_pack_that_bears_a_stores_name_is_a_source() {
        assert_eq!(Against::of_stream("qdrant", "qdrant.anime"), Against::Qdrant);
        assert_eq!(Against::of_stream("qdrant", "public.points"), Against::Source);
        assert_eq!(Against::of_stream("users", "users.rows"), Against::Source);
    }
}
