//! Packs: one application's schema and mapping. `pack.toml` is parsed ([`manifest`]), compiled
//! against a live database into typed plans ([`plan`], [`compile`]), and checked.

pub mod builtin;
pub mod check;
pub mod compile;
pub mod fault;
pub mod lint;
pub mod manifest;
pub mod opened;
pub mod plan;
pub mod reference;
pub mod reverse;
pub mod show;
pub mod texts;
pub(crate) mod toml_text;
pub mod units;
pub(crate) mod upkeep;

mod order;

pub use opened::{
    OpenedPack, join_error, open, open_as_recorded, open_for, open_without_sources,
    source_guards_key,
};

use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// A pack as found: its text and its parsed manifest.
#[derive(Debug, Clone)]
pub struct Pack {
    /// Where `pack.toml` stands, or `<built in>/NAME/pack.toml`.
    pub file: PathBuf,
    /// Its text.
    pub text: String,
    /// Its parsed form.
    pub manifest: manifest::Manifest,
    /// Folder of its own migrations; None for built-in packs.
    pub folder: Option<PathBuf>,
}

impl Pack {
    /// Finds a pack by name (built in), by folder, or by the path of its `pack.toml`.
    pub fn find(name_or_path: &str) -> Result<Self> {
        if let Some(text) = builtin::text(name_or_path) {
            let file = PathBuf::from(format!("<built in>/{name_or_path}/pack.toml"));
            let manifest = manifest::parse(text, &file)?;
            return Ok(Self { file, text: text.to_owned(), manifest, folder: None });
        }
        let path = Path::new(name_or_path);
        let file = if path.is_dir() { path.join("pack.toml") } else { path.to_path_buf() };
        if !file.is_file() {
            return Err(Error::new(ErrorKind::Pack, format!("there is no pack `{name_or_path}`"))
                .advice(format!(
                    "built in are: {}; for your own pack give the folder that holds its pack.toml",
                    builtin::NAMES.join(", ")
                )));
        }
        let text =
            std::fs::read_to_string(&file).map_err(|e| Error::from(e).context(file.display()))?;
        let manifest = manifest::parse(&text, &file)?;
        let folder = file.parent().map(Path::to_path_buf);
        let pack = Self { file, text, manifest, folder };
        pack.check_names()?;
        Ok(pack)
    }

    /// The pack's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.manifest.pack.name.get_ref()
    }

    /// The same pack for offline copies of a store that is not primary any more: where the source
    /// would win over another row under the same key, the target's row stays.
    #[must_use]
    pub fn for_history(mut self) -> Self {
        use manifest::ConflictRule;
        let outputs = |stream: &mut manifest::StreamManifest| {
            let inline = std::iter::once(&mut stream.conflict);
            for conflict in
                inline.chain(stream.outputs.iter_mut().map(|output| &mut output.conflict))
            {
                if conflict.rule == ConflictRule::SourceWins {
                    conflict.rule = ConflictRule::TargetWins;
                }
            }
        };
        self.manifest.streams.iter_mut().for_each(outputs);
        self
    }

    /// SHA-256 of `pack.toml`, line endings normalised, hexadecimal.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        hex::encode(crate::canonical::sha256(self.text.replace("\r\n", "\n").as_bytes()))
    }

    /// File and line of a byte offset of `pack.toml`.
    #[must_use]
    pub fn place(&self, offset: usize) -> String {
        format!("{}, line {}", self.file.display(), manifest::line_of(&self.text, offset))
    }

    /// An error at a byte offset of `pack.toml`.
    #[must_use]
    pub fn error_at(&self, offset: usize, detail: impl std::fmt::Display) -> Error {
        Error::new(ErrorKind::Pack, format!("{}: {detail}", self.place(offset)))
    }

    fn check_names(&self) -> Result<()> {
        let header = &self.manifest.pack.name;
        let is_plain = |name: &str| {
            !name.is_empty()
                && name.len() <= 40
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        if !is_plain(header.get_ref()) {
            return Err(self.error_at(
                header.span().start,
                format!(
                    "pack name `{}` must be 1 to 40 of a-z, 0-9 and underscore",
                    header.get_ref()
                ),
            ));
        }
        if self.manifest.streams.is_empty() && self.manifest.documents.is_none() {
            return Err(self.error_at(0, "a pack needs at least one [[stream]]"));
        }
        Ok(())
    }
}
