//! The server's spelling of values whose type is known only as text.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use sqlx::PgPool;
use tokio::runtime::Handle;

use super::sql;
use crate::cast::spelling::{Spelling, Unspelled};
use crate::error::Error;

/// Bytes of texts and spellings that are remembered; then all are forgotten.
const REMEMBERED_BYTES_MAX: usize = 8 << 20;

/// Asks the server, once per distinct text as long as memory allows. Blocking: for threads that
/// read sources, never for a thread that drives the runtime.
pub struct ServerSpelling {
    pool: PgPool,
    runtime: Handle,
    known: Mutex<Known>,
    failure: Mutex<Option<Error>>,
}

#[derive(Default)]
struct Known {
    spellings: HashMap<(String, String), Result<String, Unspelled>>,
    bytes: usize,
}

impl std::fmt::Debug for ServerSpelling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerSpelling").finish_non_exhaustive()
    }
}

impl ServerSpelling {
    /// A speller over pinned sessions of `pool`; to be made inside the runtime.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        let (known, failure) = (Mutex::default(), Mutex::new(None));
        Self { pool, runtime: Handle::current(), known, failure }
    }

    /// Why the server could not be asked, once.
    pub fn take_failure(&self) -> Option<Error> {
        self.failure.lock().ok()?.take()
    }

    /// How the type `base` writes the value that `text` is, as far as `declared` (with its length,
    /// or the domain) holds it. For callers inside the runtime.
    pub async fn ask(&self, base: &str, declared: &str, text: &str) -> Result<String, Unspelled> {
        // The types' names are the catalog's own, from format_type.
        let statement =
            format!("SELECT ($1::text::{base})::text, (($1::text::{base})::{declared})::text");
        let asked: Result<(String, String), sqlx::Error> =
            sqlx::query_as(sql(statement)).bind(text).fetch_one(&self.pool).await;
        let error = match asked {
            Ok((spelled, held)) if spelled == held => return Ok(spelled),
            Ok(_) => return Err(Unspelled::TooLong),
            Err(error) => error,
        };
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        match code {
            Some(code) if ["22", "23"].iter().any(|class| code.starts_with(class)) => {
                Err(Unspelled::NoValue { sqlstate: code.into_owned() })
            }
            _ => {
                if let Ok(mut failure) = self.failure.lock() {
                    failure.get_or_insert_with(|| error.into());
                }
                Err(Unspelled::NotAsked)
            }
        }
    }

    /// The spelling of one column.
    #[must_use]
    pub fn of_column(self: &Arc<Self>, base: &str, declared: &str) -> Arc<dyn Spelling> {
        let (base, declared) = (base.to_owned(), declared.to_owned());
        Arc::new(ColumnSpelling { server: Arc::clone(self), base, declared })
    }
}

/// The types of one column, and who is asked about them.
#[derive(Debug)]
struct ColumnSpelling {
    server: Arc<ServerSpelling>,
    base: String,
    declared: String,
}

impl Spelling for ColumnSpelling {
    fn respell(&self, text: &str) -> Result<String, Unspelled> {
        let server = &self.server;
        let question = (self.declared.clone(), text.to_owned());
        let remembered =
            server.known.lock().ok().and_then(|known| known.spellings.get(&question).cloned());
        if let Some(answer) = remembered {
            return answer;
        }
        let answer = server.runtime.block_on(server.ask(&self.base, &self.declared, text));
        if answer != Err(Unspelled::NotAsked)
            && let Ok(mut known) = server.known.lock()
        {
            let bytes = 2 * (self.declared.len() + text.len()) + 64;
            if known.bytes + bytes > REMEMBERED_BYTES_MAX {
                *known = Known::default();
            }
            known.bytes += bytes;
            known.spellings.insert(question, answer.clone());
        }
        answer
    }
}
