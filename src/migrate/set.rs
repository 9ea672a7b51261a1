//! A pack's migrations: embedded in the binary, or read from a folder.

use std::path::Path;

use refinery_core::{Migration as Inner, SchemaVersion};

use super::CONTROL_PACK;
use super::lexer::{self, Statement};
use crate::{Error, ErrorKind, Result};

/// First line of a file whose statements run one by one, outside a transaction.
pub const NO_TRANSACTION_HEADER: &str = "-- toolkit: no-transaction";

/// A pack's name and its migrations' file names and texts.
type BuiltinPack = (&'static str, &'static [(&'static str, &'static str)]);

macro_rules! embedded {
    ($($file:literal),+ $(,)?) => {
        &[$((
            $file,
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/", $file)),
        )),+]
    };
}

/// The packs that come with the binary, control schema first.
const BUILTIN: &[BuiltinPack] = &[
    (
        CONTROL_PACK,
        embedded![
            "toolkit/V1__control.sql",
            "toolkit/V2__leases.sql",
            "toolkit/V3__targets.sql",
            "toolkit/V4__miscast.sql",
            "toolkit/V5__rejects.sql",
            "toolkit/V6__capture.sql",
            "toolkit/V7__reverse.sql",
            "toolkit/V8__phase.sql",
            "toolkit/V9__maintain.sql",
            "toolkit/V10__files_and_seals.sql",
            "toolkit/V11__corrected.sql",
            "toolkit/V12__run_control.sql",
            "toolkit/V13__early.sql",
        ],
    ),
    (
        "anime",
        embedded![
            "anime/V1__entities.sql",
            "anime/V2__relations.sql",
            "anime/V3__ingestion.sql",
            "anime/V4__graph.sql",
            "anime/V5__compression.sql",
            "anime/V6__outbox_versions.sql",
            "anime/V7__outbox_notify.sql",
            "anime/V8__dedup.sql",
            "anime/V9__graph_queries.sql",
            "anime/V10__graph_pairs.sql",
        ],
    ),
    (
        "unified",
        embedded![
            "unified/V1__schemas_and_ingestion.sql",
            "unified/V2__enrichment.sql",
            "unified/V3__indexing.sql",
            "unified/V4__workflow.sql",
            "unified/V5__retrieval.sql",
            "unified/V6__observability.sql",
            "unified/V7__compression.sql",
        ],
    ),
    (
        "webtoon",
        embedded![
            "webtoon/V1__stories_and_scenes.sql",
            "webtoon/V2__characters.sql",
            "webtoon/V3__artifacts.sql",
            "webtoon/V4__styles_episodes_audit.sql",
            "webtoon/V5__allocation.sql",
            "webtoon/V6__questions.sql",
            "webtoon/V7__compression.sql",
            "webtoon/V8__soft_references_in_lists.sql",
        ],
    ),
    // Last: it needs an extension that a server may lack, and the others are migrated by then.
    (
        "media",
        embedded![
            "media/V1__media.sql",
            "media/V2__users_and_auth.sql",
            "media/V3__interaction.sql",
            "media/V4__typed_attributes_expand.sql",
            "media/V5__typed_attributes_backfill.sql",
            "media/V6__typed_attributes_verify.sql",
            "media/V7__typed_attributes_contract.sql",
            "media/V8__compression.sql",
        ],
    ),
];

/// Names of the built-in packs, the control schema's first.
pub fn builtin_packs() -> impl Iterator<Item = &'static str> {
    BUILTIN.iter().map(|(pack, _)| *pack)
}

/// The built-in pack of that name.
#[must_use]
pub fn builtin(pack: &str) -> Option<MigrationSet> {
    let (_, files) = BUILTIN.iter().find(|(name, _)| *name == pack)?;
    let files = files.iter().map(|(path, sql)| {
        let name = path.rsplit('/').next().unwrap_or(path);
        (name.to_owned(), (*sql).to_owned())
    });
    // Every test that migrates proves that the embedded files are sound.
    MigrationSet::new(pack, files).ok()
}

/// As [`builtin`], with the error that names the packs there are.
pub fn builtin_or_error(pack: &str) -> Result<MigrationSet> {
    builtin(pack).ok_or_else(|| {
        let known: Vec<&str> = builtin_packs().collect();
        Error::new(ErrorKind::Usage, format!("there is no built-in pack {pack:?}")).advice(format!(
            "built in are {}; give a pack of your own with --pack {pack} --dir DIR",
            known.join(", ")
        ))
    })
}

/// Reads the migrations of `pack` from `dir`: every `*.sql` there, which must be named
/// `V<version>__<name>.sql`. Other files (a `pack.toml`) are left alone; sub-folders are not read.
///
/// A file name that is almost right is an error, because a migration that is silently not applied
/// is found much later.
pub fn from_directory(pack: &str, dir: &Path) -> Result<MigrationSet> {
    if pack == CONTROL_PACK {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("pack {CONTROL_PACK} is the toolkit's own and cannot be read from a folder"),
        ));
    }
    let unreadable = |error: std::io::Error, path: &Path| {
        Error::new(ErrorKind::Io, format!("cannot read {}: {error}", path.display())).because(error)
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|error| unreadable(error, dir))? {
        let path = entry.map_err(|error| unreadable(error, dir))?.path();
        let is_sql = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("sql"));
        if !is_sql || path.is_dir() {
            continue;
        }
        let text = std::fs::read_to_string(&path).map_err(|error| unreadable(error, &path))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.push((name, text));
    }
    if files.is_empty() {
        return Err(Error::new(
            ErrorKind::Migration,
            format!("there is no V<version>__<name>.sql in {}", dir.display()),
        ));
    }
    MigrationSet::new(pack, files)
}

/// One migration file.
#[derive(Debug, Clone)]
pub struct Migration {
    /// Name of its file, `V<version>__<name>.sql`.
    pub file_name: String,
    /// False: its statements run one by one, outside a transaction.
    pub transactional: bool,
    pub(super) inner: Inner,
}

impl Migration {
    fn new(file_name: String, text: &str) -> Result<Self> {
        let sql = normalize(text);
        let stem = checked_stem(&file_name)?;
        let inner = Inner::unapplied(stem, &sql).map_err(|error| {
            Error::new(ErrorKind::Migration, format!("migration file {file_name}: {error}"))
                .because(error)
        })?;
        let is_header = |line: &str| line.trim_end() == NO_TRANSACTION_HEADER;
        let transactional = !sql.lines().next().is_some_and(is_header);
        if sql.lines().skip(1).any(is_header) {
            return Err(Error::new(
                ErrorKind::Migration,
                format!("migration file {file_name}: {NO_TRANSACTION_HEADER:?} is not on line 1"),
            )
            .advice("make it the first line of the file, once"));
        }
        let migration = Self { file_name, transactional, inner };
        migration.refuse_transaction_control()?;
        Ok(migration)
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> SchemaVersion {
        self.inner.version()
    }

    /// Its name, without version and extension.
    #[must_use]
    pub fn name(&self) -> &str {
        self.inner.name()
    }

    /// Its text, line endings normalised.
    #[must_use]
    pub fn sql(&self) -> &str {
        self.inner.sql().unwrap_or_default()
    }

    /// refinery's checksum over name, version and normalised text.
    #[must_use]
    pub fn checksum(&self) -> u64 {
        self.inner.checksum()
    }

    pub(super) fn statements(&self) -> Vec<Statement> {
        lexer::statements(self.sql())
    }

    /// A COMMIT inside a migration would part its changes from its bookkeeping.
    fn refuse_transaction_control(&self) -> Result<()> {
        const CONTROL: [&str; 6] = ["begin", "start", "commit", "end", "rollback", "abort"];
        for statement in self.statements() {
            let first = statement.tokens.first();
            let Some(word) = CONTROL.iter().find(|word| first.is_some_and(|own| own.is(word)))
            else {
                continue;
            };
            let word = word.to_uppercase();
            return Err(Error::new(
                ErrorKind::Migration,
                format!("migration file {}: it contains {word}", self.file_name),
            )
            .advice(format!(
                "remove it: each migration is one transaction, or, with \
                 {NO_TRANSACTION_HEADER:?} on line 1, none"
            )));
        }
        Ok(())
    }
}

/// A pack's migrations in the order of their versions.
#[derive(Debug, Clone)]
pub struct MigrationSet {
    /// The pack's name: lower-case letters, digits and underscores, at most 40 bytes.
    pub pack: String,
    /// Its migrations by version.
    pub migrations: Vec<Migration>,
}

impl MigrationSet {
    /// A set from file names and texts; refuses a version that occurs twice.
    pub fn new(pack: &str, files: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        check_pack_name(pack)?;
        let mut migrations = files
            .into_iter()
            .map(|(name, text)| {
                Migration::new(name, &text).map_err(|error| error.context(format!("pack {pack}")))
            })
            .collect::<Result<Vec<_>>>()?;
        migrations.sort_by(|a, b| (a.version(), &a.file_name).cmp(&(b.version(), &b.file_name)));
        if let Some([first, second]) =
            migrations.array_windows().find(|[a, b]| a.version() == b.version())
        {
            return Err(Error::new(
                ErrorKind::Migration,
                format!(
                    "pack {pack}: {} and {} are both version {}",
                    first.file_name,
                    second.file_name,
                    first.version()
                ),
            )
            .advice("give the one that is applied nowhere yet the next free version"));
        }
        Ok(Self { pack: pack.to_owned(), migrations })
    }

    /// The tables its files make, and what they rename them to, as (schema, name); some may have
    /// been dropped again. Tables made by code inside the files are not among them.
    #[must_use]
    pub fn tables_made(&self) -> Vec<(String, String)> {
        let mut made = Vec::new();
        for statement in self.migrations.iter().flat_map(Migration::statements) {
            let renamed = lexer::renamed_table(&statement.tokens);
            made.extend(lexer::created_table(&statement.tokens).or(renamed));
        }
        made.sort();
        made.dedup();
        made
    }

    /// The pack's history table; safe to write into SQL, since the pack's name was checked.
    pub(super) fn history_table(&self) -> String {
        format!("{CONTROL_PACK}.migrations_{}", self.pack)
    }
}

/// The name becomes part of a table's name that refinery writes into SQL.
fn check_pack_name(pack: &str) -> Result<()> {
    let is_plain = pack.starts_with(|c: char| c.is_ascii_lowercase())
        && pack.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if is_plain && pack.len() <= 40 {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Usage, format!("{pack:?} is not a pack's name")).advice(
        "use at most 40 lower-case letters, digits and underscores, beginning with a letter",
    ))
}

/// `V12__add_things.sql` -> `V12__add_things`; anything else is refused.
fn checked_stem(file_name: &str) -> Result<&str> {
    let stem = file_name.strip_suffix(".sql");
    let parts = stem.and_then(|stem| stem.strip_prefix('V')).and_then(|stem| stem.split_once("__"));
    let is_sound = parts.is_some_and(|(version, name)| {
        !version.is_empty()
            && version.bytes().all(|byte| byte.is_ascii_digit())
            && !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    });
    stem.filter(|_| is_sound).ok_or_else(|| {
        Error::new(ErrorKind::Migration, format!("{file_name:?} is not a migration's file name"))
            .advice("name it V<version>__<name>.sql: digits, two underscores, letters and digits")
    })
}

/// Without a byte order mark and with LF line endings, so that a checkout with other line endings
/// has the same checksum.
fn normalize(text: &str) -> String {
    text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n")
}
