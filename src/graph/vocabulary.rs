//! The edge types there are. Nothing else reaches a statement.

use crate::error::{Error, ErrorKind, Result};

/// Two steps as one hop: over a studio, over an anime. Never stored.
pub const VIRTUAL: [&str; 2] = ["co_appears", "same_studio"];

/// Which an anime's companies are, and what they are called from its side.
pub(super) const MAKERS: [&str; 3] = ["licensor", "producer", "studio"];

/// Stored types with their inverses, sorted by bytes, as the index is.
const STORED: &[(&str, &str)] = &[
    ("ADAPTATION", "ADAPTATION_OF"),
    ("ADAPTATION_OF", "ADAPTATION"),
    ("ALTERNATE_UNIVERSE", "ALTERNATE_UNIVERSE"),
    ("ALTERNATIVE", "ALTERNATIVE"),
    ("ALTERNATIVE_SETTING", "ALTERNATIVE_SETTING"),
    ("ALTERNATIVE_VERSION", "ALTERNATIVE_VERSION"),
    ("CHARACTER", "CHARACTER_OF"),
    ("CHARACTER_OF", "CHARACTER"),
    ("CONDENSED_VERSION", "CONDENSED_VERSION_OF"),
    ("CONDENSED_VERSION_OF", "CONDENSED_VERSION"),
    ("CROSSOVER", "CROSSOVER"),
    ("FULL_STORY", "SUMMARY"),
    ("OTHER", "OTHER"),
    ("OTHER_FRANCHISE", "OTHER_FRANCHISE"),
    ("PARENT_STORY", "SIDE_STORY"),
    ("PREQUEL", "SEQUEL"),
    ("RECAP", "RECAP_OF"),
    ("RECAP_OF", "RECAP"),
    ("SAME_FRANCHISE", "SAME_FRANCHISE"),
    ("SAME_SETTING", "SAME_SETTING"),
    ("SEQUEL", "PREQUEL"),
    ("SHARED_UNIVERSE", "SHARED_UNIVERSE"),
    ("SIDE_STORY", "PARENT_STORY"),
    ("SPIN_OFF", "SPIN_OFF_OF"),
    ("SPIN_OFF_OF", "SPIN_OFF"),
    ("SUMMARY", "FULL_STORY"),
    ("UNKNOWN", "UNKNOWN_OF"),
    ("UNKNOWN_OF", "UNKNOWN"),
    ("adapted_from", "was_adapted_to"),
    ("appears_in", "features"),
    ("episode_of", "has_episode"),
    ("features", "appears_in"),
    ("has_episode", "episode_of"),
    ("licensor", "produced"),
    ("produced", "studio"),
    ("producer", "produced"),
    ("studio", "produced"),
    ("was_adapted_to", "adapted_from"),
];

/// Every type that may be asked for.
pub fn allowed() -> impl Iterator<Item = &'static str> {
    STORED.iter().map(|(name, _)| *name).chain(VIRTUAL)
}

/// The inverse of a stored type; of `produced` it is one of three.
pub(super) fn inverse(edge_type: &str) -> &'static str {
    STORED.iter().find(|(name, _)| *name == edge_type).map_or("", |(_, inverse)| inverse)
}

/// What a caller wants to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Types {
    /// All that is stored.
    All,
    /// These, each once, sorted by bytes.
    Some(Vec<&'static str>),
}

impl Types {
    /// Empty stands for all that is stored. Names are taken in any case.
    pub(super) fn of(wanted: &[String]) -> Result<Self> {
        if wanted.is_empty() {
            return Ok(Self::All);
        }
        let mut found = Vec::with_capacity(wanted.len());
        for name in wanted {
            // CHARACTER and SUMMARY differ from nothing but case; no two types do.
            let known = allowed().find(|allowed| allowed.eq_ignore_ascii_case(name));
            found.push(known.ok_or_else(|| unknown(name))?);
        }
        found.sort_unstable();
        found.dedup();
        Ok(Self::Some(found))
    }

    /// What is followed from the other end to get to where these lead from; `<role` stands for
    /// who names a company so.
    pub(super) fn backwards(&self) -> Self {
        let Self::Some(names) = self else { return Self::All };
        let mut back: Vec<&'static str> = Vec::new();
        for name in names {
            match *name {
                "produced" => back.extend(MAKERS),
                "studio" => back.push("<studio"),
                "producer" => back.push("<producer"),
                "licensor" => back.push("<licensor"),
                name if VIRTUAL.contains(&name) => back.push(name),
                name => back.push(inverse(name)),
            }
        }
        back.sort_unstable();
        back.dedup();
        Self::Some(back)
    }

    /// The statement for all types, or that for some.
    pub(super) fn statement(&self, all: &'static str, some: &'static str) -> &'static str {
        if matches!(self, Self::All) { all } else { some }
    }

    /// The query with the types as its last argument, where its statement takes them.
    pub(super) fn bound_to<'q>(&self, query: Asked<'q>) -> Asked<'q> {
        match self.bound() {
            None => query,
            Some(names) => query.bind(names),
        }
    }

    /// As it is bound.
    pub(super) fn bound(&self) -> Option<Vec<String>> {
        match self {
            Self::All => None,
            Self::Some(names) => Some(names.iter().map(|name| (*name).to_owned()).collect()),
        }
    }
}

/// A statement with its arguments.
pub(super) type Asked<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

fn unknown(name: &str) -> Error {
    let names: Vec<&str> = allowed().collect();
    Error::new(ErrorKind::Usage, format!("there is no edge type {name:?}"))
        .advice(format!("allowed are {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_sorted_as_the_index_is_and_their_inverses_are_types() {
        assert!(STORED.is_sorted());
        for (name, back) in STORED {
            assert!(STORED.iter().any(|(other, _)| other == back), "{name}");
        }
        for relation in crate::anime::vocabulary::RELATION_TYPES {
            assert!(allowed().any(|name| name == *relation), "{relation}");
        }
    }

    #[test]
    fn an_unknown_type_names_those_that_are_allowed() {
        let error = Types::of(&["SEQUEL; DROP TABLE anime".to_owned()]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.advice_text().unwrap().contains("same_studio"));
    }
}
