//! What is applied, what is pending, and what stands in the way. Nothing here writes.

use refinery_core::{Migration as Inner, SchemaVersion};
use serde::Serialize;
use sqlx::PgConnection;

use super::optional::{Optional, available};
use super::set::{Migration, MigrationSet, builtin, builtin_or_error};
use super::{CONTROL_PACK, history};
use crate::{Error, ErrorKind, Result};

/// How a migration stands in a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Applied, with exactly this text.
    Applied,
    /// Not applied yet.
    Pending,
    /// Applied with another name or text than the file has now.
    Divergent,
    /// Applied, but there is no file for it.
    Missing,
    /// Not applied, although a later version is.
    OutOfOrder,
}

/// One line of [`Status`].
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// The version.
    pub version: SchemaVersion,
    /// The name, as in the file, or in the history where there is no file.
    pub name: String,
    /// The file, if there is one.
    pub file_name: Option<String>,
    /// When it was applied, RFC 3339.
    pub applied_on: Option<String>,
    /// How it stands.
    pub state: State,
}

/// A pack's migrations in one database.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// The pack.
    pub pack: String,
    /// Every known version, in order.
    pub entries: Vec<Entry>,
}

impl Status {
    fn compute(set: &MigrationSet, history: &[Inner]) -> Self {
        let newest = history.iter().map(Inner::version).max();
        let of_file = |file: &Migration| {
            let applied = history.iter().find(|row| row.version() == file.version());
            let state = match applied {
                Some(row) if *row == file.inner => State::Applied,
                Some(_) => State::Divergent,
                None if newest.is_some_and(|newest| newest > file.version()) => State::OutOfOrder,
                None => State::Pending,
            };
            Entry {
                version: file.version(),
                name: file.name().to_owned(),
                file_name: Some(file.file_name.clone()),
                applied_on: applied.and_then(applied_on),
                state,
            }
        };
        let has_file =
            |row: &Inner| set.migrations.iter().any(|file| file.version() == row.version());
        let without_file = history.iter().filter(|row| !has_file(row)).map(|row| Entry {
            version: row.version(),
            name: row.name().to_owned(),
            file_name: None,
            applied_on: applied_on(row),
            state: State::Missing,
        });
        let mut entries: Vec<Entry> =
            set.migrations.iter().map(of_file).chain(without_file).collect();
        entries.sort_by_key(|entry| entry.version);
        Self { pack: set.pack.clone(), entries }
    }

    /// Whether everything is applied and nothing diverges.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.entries.iter().all(|entry| entry.state == State::Applied)
    }

    /// The first thing that forbids migrating.
    pub fn check(&self) -> Result<()> {
        self.entries.iter().find_map(|entry| self.objection(entry)).map_or(Ok(()), Err)
    }

    fn objection(&self, entry: &Entry) -> Option<Error> {
        let Entry { version, name, .. } = entry;
        let pack = &self.pack;
        let file = entry.file_name.clone().unwrap_or_else(|| format!("V{version}__{name}.sql"));
        let when = entry.applied_on.as_deref().unwrap_or("an unknown date");
        let next = self.entries.last().map_or(1, |last| last.version + 1);
        let (detail, advice) = match entry.state {
            State::Applied | State::Pending => return None,
            State::Divergent => (
                format!(
                    "pack {pack}: migration V{version} ({name}) was applied on {when} with another \
                     name or text than file {file} has now"
                ),
                format!(
                    "restore {file} as it was applied, and put the change into a new file \
                     V{next}__<name>.sql"
                ),
            ),
            State::Missing => (
                format!(
                    "pack {pack}: migration V{version} ({name}) was applied on {when}, but there \
                     is no file {file}"
                ),
                format!(
                    "restore {file}; if a newer version of the toolkit or of the pack applied it, \
                     use that version"
                ),
            ),
            State::OutOfOrder => (
                format!(
                    "pack {pack}: migration V{version} ({name}) in file {file} is not applied, but \
                     a later version is"
                ),
                format!("rename {file} to V{next}__{name}.sql, so that every database applies it"),
            ),
        };
        Some(Error::new(ErrorKind::Migration, detail).advice(advice))
    }
}

fn applied_on(row: &Inner) -> Option<String> {
    use time::format_description::well_known::Rfc3339;
    row.applied_on().and_then(|time| time.replace_nanosecond(0).ok()?.format(&Rfc3339).ok())
}

/// What is to be applied for one pack.
#[derive(Debug, Clone)]
pub struct Stage {
    /// The pack's migrations, applied ones included.
    pub set: MigrationSet,
    /// The versions to apply, in order.
    pub pending: Vec<SchemaVersion>,
}

impl Stage {
    /// Pure: what of `set` is pending, given its history. Refuses divergent and missing migrations.
    pub(super) fn compute(set: &MigrationSet, history: &[Inner]) -> Result<Self> {
        let status = Status::compute(set, history);
        status.check()?;
        let pending = status.entries.into_iter().filter(|entry| entry.state == State::Pending);
        Ok(Self { set: set.clone(), pending: pending.map(|entry| entry.version).collect() })
    }

    /// The pending migrations.
    pub fn migrations(&self) -> impl Iterator<Item = &Migration> {
        self.set.migrations.iter().filter(|file| self.pending.contains(&file.version()))
    }
}

/// What [`super::apply`] will do: pack by pack, the control schema first.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The packs in the order they are migrated.
    pub stages: Vec<Stage>,
    /// What the pending migrations can use of the server's optional parts.
    pub optional: Vec<Optional>,
}

impl Plan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stages.iter().all(|stage| stage.pending.is_empty())
    }
}

/// How `set` stands in the database; divergent and missing migrations are entries, not errors.
pub async fn status(connection: &mut PgConnection, set: &MigrationSet) -> Result<Status> {
    Ok(Status::compute(set, &history::read(connection, set).await?))
}

/// What is pending of `sets`; the control schema is put first whether it is among them or not.
/// Refuses divergent, missing and out-of-order migrations.
pub async fn plan(connection: &mut PgConnection, sets: &[MigrationSet]) -> Result<Plan> {
    let control = builtin(CONTROL_PACK)
        .ok_or_else(|| Error::new(ErrorKind::Bug, "the embedded control schema is not sound"))?;
    let others = sets.iter().filter(|set| set.pack != CONTROL_PACK);
    let mut stages = Vec::with_capacity(sets.len() + 1);
    for set in std::iter::once(&control).chain(others) {
        stages.push(Stage::compute(set, &history::read(connection, set).await?)?);
    }
    let pending: Vec<&str> =
        stages.iter().flat_map(Stage::migrations).map(Migration::sql).collect();
    let optional = available(connection, &pending).await?;
    Ok(Plan { stages, optional })
}

/// Errors unless every migration of the built-in `pack`, and of the control schema, is applied.
pub async fn require_current(connection: &mut PgConnection, pack: &str) -> Result<()> {
    require_current_set(connection, &builtin_or_error(pack)?).await
}

/// As [`require_current`], for a pack from a folder.
pub async fn require_current_set(connection: &mut PgConnection, set: &MigrationSet) -> Result<()> {
    let plan = plan(connection, std::slice::from_ref(set)).await?;
    let Some((stage, first)) =
        plan.stages.iter().find_map(|stage| stage.migrations().next().map(|first| (stage, first)))
    else {
        return Ok(());
    };
    Err(Error::new(
        ErrorKind::Migration,
        format!(
            "pack {} is not fully migrated: {} of {} migrations are pending, the first is {}",
            stage.set.pack,
            stage.pending.len(),
            stage.set.migrations.len(),
            first.file_name
        ),
    )
    .advice(format!("run `toolkit migrate up --pack {}`", set.pack)))
}
