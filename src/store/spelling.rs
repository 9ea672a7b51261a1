//! The server's spelling of values whose type is known only as text.

use std::collections::HashMap;
use std::sync::Mutex;

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

    /// As [`Spelling::respell`], for callers inside the runtime.
    pub async fn ask(&self, ty: &str, text: &str) -> Result<String, Unspelled> {
        // The type's name is the catalog's own, from format_type.
        let statement = format!("SELECT ($1::text::{ty})::text");
        let asked: Result<String, sqlx::Error> =
            sqlx::query_scalar(sql(statement)).bind(text).fetch_one(&self.pool).await;
        let error = match asked {
            Ok(spelled) => return Ok(spelled),
            Err(error) => error,
        };
        let code = error.as_database_error().and_then(|error| error.code());
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
}

impl Spelling for ServerSpelling {
    fn respell(&self, ty: &str, text: &str) -> Result<String, Unspelled> {
        let question = (ty.to_owned(), text.to_owned());
        let remembered =
            self.known.lock().ok().and_then(|known| known.spellings.get(&question).cloned());
        if let Some(answer) = remembered {
            return answer;
        }
        let answer = self.runtime.block_on(self.ask(ty, text));
        if answer != Err(Unspelled::NotAsked)
            && let Ok(mut known) = self.known.lock()
        {
            let bytes = 2 * (ty.len() + text.len()) + 64;
            if known.bytes + bytes > REMEMBERED_BYTES_MAX {
                *known = Known::default();
            }
            known.bytes += bytes;
            known.spellings.insert(question, answer.clone());
        }
        answer
    }
}
