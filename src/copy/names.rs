//! Names in Postgres: as in the source, unless Postgres cannot have them.

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};

/// Bytes of a Postgres identifier at most (`NAMEDATALEN` - 1).
const NAME_BYTES_MAX: usize = 63;

/// Every table has these (`src/backend/catalog/heap.c`, `SysAtt`).
const SYSTEM_COLUMNS: [&str; 6] = ["ctid", "xmin", "cmin", "xmax", "cmax", "tableoid"];

/// Names of one namespace that are given out.
#[derive(Debug, Default)]
pub(super) struct Names {
    taken: BTreeSet<String>,
    /// Letters A to Z become small.
    lower: bool,
}

impl Names {
    pub(super) fn new(lower: bool) -> Self {
        Self { taken: BTreeSet::new(), lower }
    }

    /// A name that nothing else here has: `name` itself if it can be.
    pub(super) fn give(&mut self, name: &str, instead: &str) -> String {
        let name = if name.is_empty() { instead } else { name };
        let name = if self.lower { name.to_ascii_lowercase() } else { name.to_owned() };
        let mut given = cut(&name, &name);
        let mut number = 1;
        while !self.taken.insert(given.clone()) {
            number += 1;
            given = cut(&format!("{name}_{number}"), &name);
        }
        given
    }

    /// A column's name.
    pub(super) fn give_column(&mut self, name: &str, instead: &str) -> String {
        let is_system = SYSTEM_COLUMNS
            .iter()
            .any(|system| *system == name || (self.lower && system.eq_ignore_ascii_case(name)));
        if is_system { self.give(&format!("{name}_"), instead) } else { self.give(name, instead) }
    }
}

/// At most 63 bytes; a longer name ends with eight digits of the whole one's digest, so that
/// names that differ further on stay different.
fn cut(name: &str, whole: &str) -> String {
    if name.len() <= NAME_BYTES_MAX {
        return name.to_owned();
    }
    let digest = hex::encode(&Sha256::digest(whole.as_bytes())[..4]);
    let suffix: String = name.strip_prefix(whole).unwrap_or_default().to_owned();
    let room = NAME_BYTES_MAX - digest.len() - 1 - suffix.len();
    format!("{}_{digest}{suffix}", &name[..name.floor_char_boundary(room)])
}

/// The schema for a file of this name, where none is asked for.
pub(super) fn schema_of(stem: &str) -> String {
    let plain: String = stem
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    let plain = plain.trim_matches('_');
    let plain = if plain.is_empty() { "sqlite" } else { plain };
    let plain = &plain[..plain.len().min(40)];
    let is_other = plain.starts_with("pg_")
        || plain.starts_with(|c: char| c.is_ascii_digit())
        || ["toolkit", "information_schema", "public"].contains(&plain);
    if is_other { format!("db_{plain}") } else { plain.to_owned() }
}

/// The pack of a schema: what its bookkeeping is called.
pub(super) fn pack_of(schema: &str) -> String {
    let plain: String = schema
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    if plain == schema && plain.len() <= 35 {
        return format!("copy_{plain}");
    }
    let digest = hex::encode(&Sha256::digest(schema.as_bytes())[..4]);
    format!("copy_{}_{digest}", &plain[..plain.len().min(24)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_that_begin_alike_stay_different() {
        let mut names = Names::new(false);
        let (one, other) = ("x".repeat(80) + "1", "x".repeat(80) + "2");
        let given = [names.give(&one, ""), names.give(&other, ""), names.give(&one, "")];
        assert!(given.iter().all(|name| name.len() <= 63), "{given:?}");
        assert_eq!(given.iter().collect::<BTreeSet<_>>().len(), 3);
        assert!(names.give(&"é".repeat(50), "").len() <= 63);
    }

    #[test]
    fn names_that_postgres_has_for_itself_are_changed() {
        let mut names = Names::new(true);
        assert_eq!(names.give_column("XMin", ""), "xmin_");
        assert_eq!(names.give_column("", "column_2"), "column_2");
        assert_eq!(names.give_column("Select", ""), "select");
    }

    #[test]
    fn every_file_name_gives_a_schema_and_a_pack() {
        for (stem, schema) in [
            ("app", "app"),
            ("My App-2", "my_app_2"),
            ("toolkit", "db_toolkit"),
            ("2024", "db_2024"),
            ("日本", "sqlite"),
        ] {
            assert_eq!(schema_of(stem), schema);
        }
        assert_eq!(pack_of("app"), "copy_app");
        assert!(pack_of(&"Ünï".repeat(20)).len() <= 40);
        assert_ne!(pack_of("A"), pack_of("a"));
    }
}
