//! What every command of the phase machine works with.

use std::path::PathBuf;
use std::sync::Arc;

use sqlx::postgres::PgConnection;

use super::basis::{Basis, source_schema};
use crate::config::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::pack::{OpenedPack, Pack, join_error};
use crate::shell::shell_word;
use crate::source::discover::discover;
use crate::store::Postgres;

/// A pack, the server, and where the sources are.
#[derive(Debug, Clone)]
pub struct Scene<'a> {
    /// The settings.
    pub settings: &'a Settings,
    /// The server.
    pub postgres: &'a Postgres,
    /// The pack.
    pub pack: &'a Pack,
    /// Where its sources are; empty: where they were when they were last captured or verified.
    pub roots: Vec<PathBuf>,
    /// Set when somebody asks to stop.
    pub stop: &'a Stop,
}

impl Scene<'_> {
    /// The pack's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.pack.name()
    }

    /// Fills `roots` with what earlier commands recorded, where the caller named none.
    pub(super) async fn remember_roots(&mut self, conn: &mut PgConnection) -> Result<()> {
        if !self.roots.is_empty() {
            return Ok(());
        }
        let known: bool =
            sqlx::query_scalar("SELECT to_regclass('toolkit.parity_run') IS NOT NULL")
                .fetch_one(&mut *conn)
                .await?;
        if !known {
            return Ok(());
        }
        let recorded: Option<Vec<String>> =
            sqlx::query_scalar(include_str!("../sql/phase/roots.sql"))
                .bind(self.name())
                .fetch_optional(conn)
                .await?;
        self.roots = recorded.into_iter().flatten().map(PathBuf::from).collect();
        Ok(())
    }

    /// Opens the pack with its sources.
    pub(super) async fn open(&self) -> Result<Arc<OpenedPack>> {
        if self.roots.is_empty() {
            return Err(self.no_source());
        }
        crate::pack::open_as_recorded(self.settings, self.postgres, self.pack.clone(), &self.roots)
            .await
            .map(Arc::new)
    }

    fn no_source(&self) -> Error {
        Error::new(
            ErrorKind::Usage,
            format!("where the sources of the pack {} are is not known yet", self.name()),
        )
        .advice("name their folder with --source")
    }

    /// What evidence depends on, as it is now; without the sources' schemas where they cannot be
    /// looked at.
    pub(super) async fn basis(&self, conn: &mut PgConnection) -> Result<Basis> {
        let fingerprint = self.pack.fingerprint();
        let source = if self.roots.is_empty() {
            None
        } else {
            let (pack, roots) = (self.pack.clone(), self.roots.clone());
            let reading = move || source_schema(&discover(&pack, &roots)?);
            Some(tokio::task::spawn_blocking(reading).await.map_err(join_error)??)
        };
        Basis::now(conn, self.pack, &fingerprint, source).await
    }

    /// As [`Scene::basis`], where the sources do not matter any more.
    pub(super) async fn basis_without_sources(&self, conn: &mut PgConnection) -> Result<Basis> {
        Basis::now(conn, self.pack, &self.pack.fingerprint(), None).await
    }

    /// A command line that needs no sources.
    pub(super) fn command_without_sources(&self, what: &str) -> String {
        command_without_sources(self.pack, what)
    }

    /// A command line for the operator, with pack and sources as they have to be typed.
    pub(super) fn command(&self, what: &str) -> String {
        command(self.pack, &self.roots, what)
    }
}

fn command_without_sources(pack: &Pack, what: &str) -> String {
    format!("toolkit {what} --pack {}", pack_word(pack))
}

/// The pack as a command takes it.
pub(super) fn pack_word(pack: &Pack) -> String {
    match &pack.folder {
        Some(folder) => shell_word(&folder.display().to_string()),
        None => pack.name().to_owned(),
    }
}

/// As [`Scene::command`], where there is no scene.
pub(super) fn command(pack: &Pack, roots: &[PathBuf], what: &str) -> String {
    let mut line = command_without_sources(pack, what);
    for root in roots {
        line.push_str(&format!(" --source {}", shell_word(&root.display().to_string())));
    }
    if roots.is_empty() {
        line.push_str(" --source FOLDER");
    }
    line
}
