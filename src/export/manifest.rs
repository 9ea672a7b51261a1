//! What an archive says of itself.

use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// Version of the archive's form.
pub const ARCHIVE_VERSION: u32 = 2;

/// The oldest version that is read: it has no positions of sequences.
const ARCHIVE_VERSION_MIN: u32 = 1;

/// The file that makes a folder an archive.
pub const MANIFEST: &str = "manifest.json";

/// Digests of all other files, as `sha256sum` writes them.
pub const SUMS: &str = "SHA256SUMS";

/// What rows are written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum DataFormat {
    /// A JSON object a line, every value its text or null.
    Jsonl,
    /// RFC 4180 with a header; nothing between the commas is NULL, "" the empty text.
    Csv,
    /// Tables of one `SQLite` file.
    Sqlite,
}

impl DataFormat {
    /// How its files' names end.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Sqlite => "sqlite",
        }
    }
}

/// An archive's table of contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`ARCHIVE_VERSION`].
    pub archive_version: u32,
    /// How rows are written.
    pub data_format: DataFormat,
    /// Version of the canonical encoding that roots are in.
    pub encoding_version: i32,
    /// The pack.
    pub pack: PackFacts,
    /// Its migrations, all of which were applied.
    pub migrations: Vec<MigrationFacts>,
    /// Its tables by name.
    pub tables: Vec<TableFacts>,
    /// Where the sequences behind their columns stood, by name.
    #[serde(default)]
    pub sequences: Vec<SequenceFacts>,
    /// Every file but this one and the digests, by name.
    pub files: Vec<FileFacts>,
}

/// A pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackFacts {
    /// Name.
    pub name: String,
    /// Version.
    pub version: i32,
    /// SHA-256 of `pack.toml`, line endings normalised.
    pub fingerprint: String,
}

/// A migration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MigrationFacts {
    /// Its file's name, `V1__name.sql`.
    pub file: String,
    /// The checksum its history keeps.
    pub checksum: String,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableFacts {
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
    /// The file with its rows.
    pub file: String,
    /// The table of that file, where a file holds several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_as: Option<String>,
    /// Its columns in order, generated ones left out.
    pub columns: Vec<ColumnFacts>,
    /// The columns rows are ordered by; none: by all of them.
    pub key: Vec<String>,
    /// How many rows.
    pub rows: u64,
    /// Root over the canonical rows, as parity has it.
    pub root: String,
    /// The same with the scale of numerics, which is no difference to parity.
    pub exact_root: String,
}

impl TableFacts {
    /// `schema.table`
    #[must_use]
    pub fn display_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

/// A sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SequenceFacts {
    /// `schema.sequence`, quoted where it has to be.
    pub name: String,
    /// What it gave out last, or will give out first.
    pub last_value: i64,
    /// Whether that was given out.
    pub is_called: bool,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnFacts {
    /// Name.
    pub name: String,
    /// Type as declared.
    #[serde(rename = "type")]
    pub ty: String,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileFacts {
    /// Path below the archive's folder, with forward slashes.
    pub name: String,
    /// Size.
    pub bytes: u64,
    /// Digest, hexadecimal.
    pub sha256: String,
}

impl Manifest {
    /// The text of `manifest.json`.
    pub(super) fn text(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|e| Error::new(ErrorKind::Bug, "a manifest is not JSON").because(e))?;
        Ok(text + "\n")
    }

    /// The text of `SHA256SUMS`; `text` is the manifest's.
    pub(super) fn sums(&self, text: &str) -> String {
        let own = hex::encode(crate::canonical::sha256(text.as_bytes()));
        let files = self.files.iter().map(|file| (file.sha256.as_str(), file.name.as_str()));
        let mut sums = String::new();
        for (sha256, name) in files.chain([(own.as_str(), MANIFEST)]) {
            sums.push_str(&format!("{sha256}  {name}\n"));
        }
        sums
    }

    /// Reads the text of a `manifest.json`. Refuses another version before anything else.
    pub(super) fn parse(text: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Versioned {
            archive_version: u32,
        }
        let no_manifest = |error: serde_json::Error| {
            Error::new(ErrorKind::SourceUnreadable, format!("{MANIFEST} is no manifest: {error}"))
                .because(error)
        };
        let version: Versioned = serde_json::from_str(text).map_err(no_manifest)?;
        if !(ARCHIVE_VERSION_MIN..=ARCHIVE_VERSION).contains(&version.archive_version) {
            return Err(Error::new(
                ErrorKind::RunMismatch,
                format!(
                    "the archive has version {}; this toolkit reads versions \
                     {ARCHIVE_VERSION_MIN} to {ARCHIVE_VERSION}",
                    version.archive_version
                ),
            )
            .advice("import it with the version of the toolkit that wrote it"));
        }
        let manifest: Self = serde_json::from_str(text).map_err(no_manifest)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The `pack.toml` that the archive is of: beside a `SQLite` file, `pack/` has that file for its
    /// source.
    pub(super) fn pack_file(&self) -> &'static str {
        match self.data_format {
            DataFormat::Sqlite => "origin/pack.toml",
            DataFormat::Jsonl | DataFormat::Csv => "pack/pack.toml",
        }
    }

    fn check(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::new(ErrorKind::SourceUnreadable, what));
        let mut seen = std::collections::BTreeSet::new();
        for file in &self.files {
            check_name(&file.name)?;
            if !seen.insert(file.name.as_str()) {
                return wrong(format!("{MANIFEST} lists {} twice", file.name));
            }
        }
        let has = |name: &str| seen.contains(name);
        for needed in ["pack/pack.toml", self.pack_file()] {
            if !has(needed) {
                return wrong(format!("{MANIFEST} lists no {needed}"));
            }
        }
        for migration in &self.migrations {
            check_name(&migration.file)?;
            if !has(&format!("pack/{}", migration.file)) {
                return wrong(format!("{MANIFEST} lists no file of migration {}", migration.file));
            }
        }
        let mut tables = std::collections::BTreeSet::new();
        for table in &self.tables {
            if !has(&table.file) {
                return wrong(format!("{MANIFEST} lists no file of {}", table.display_name()));
            }
            if !tables.insert((&table.schema, &table.name)) {
                return wrong(format!("{MANIFEST} has {} twice", table.display_name()));
            }
            if table.stored_as.is_some() != (self.data_format == DataFormat::Sqlite) {
                return wrong(format!("{MANIFEST}: {} is in no table", table.display_name()));
            }
            if table.columns.is_empty() {
                return wrong(format!("{MANIFEST}: {} has no columns", table.display_name()));
            }
        }
        if self.encoding_version != crate::canonical::ENCODING_VERSION {
            return Err(Error::new(
                ErrorKind::RunMismatch,
                format!(
                    "the archive's digests are in canonical encoding {}; this toolkit has {}",
                    self.encoding_version,
                    crate::canonical::ENCODING_VERSION
                ),
            )
            .advice("import it with the version of the toolkit that wrote it"));
        }
        Ok(())
    }
}

/// Refuses a name that could lead out of the archive.
pub(super) fn check_name(name: &str) -> Result<()> {
    let is_plain = !name.is_empty()
        && !name.contains(['\\', '\0', '\n', '\r'])
        && !name.split('/').any(str::is_empty)
        && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
        && name != MANIFEST
        && name != SUMS;
    if is_plain {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::SourceUnreadable,
        format!("{MANIFEST} names the file {name:?}, which is no path inside the archive"),
    )
    .advice("it was not written by this toolkit; nothing of it was used"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_lead_out_of_an_archive_are_refused() {
        for name in ["data/001-a.b.jsonl", "pack/V1__a.sql", "a..b"] {
            check_name(name).unwrap();
        }
        for name in
            ["", "/etc/passwd", "../a", "data/../../a", "./a", "a//b", "a/", "a\\b", MANIFEST, SUMS]
        {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }
}
