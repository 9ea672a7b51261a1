//! Which store is primary, known at once and followed within a second.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use sqlx::PgConnection;
use sqlx::postgres::PgListener;
use tokio::sync::{Notify, watch};

use crate::config::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::phase::{self, Phase, Route, State};
use crate::store::Postgres;

/// How often the route is asked for where no notification comes, as behind a connection pooler.
const POLL: Duration = Duration::from_millis(400);

/// How long an answer may take before the server counts as away.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// How long to wait before a server that was away is tried again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(250);

/// The route as it is known at this moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Routed {
    /// The primary store. Before the first answer `SQLite`, which its fence guards.
    pub route: Route,
    /// The phase.
    pub phase: Phase,
    /// Rises with every change of phase or route.
    pub generation: i64,
    /// How long ago Postgres confirmed it; None: Postgres has not answered yet.
    pub age: Option<Duration>,
    /// Why the newest question got no answer, if it got none.
    pub trouble: Option<String>,
}

/// Asks `toolkit.phase` for a pack's route and remembers the answer.
///
/// It listens on `toolkit_phase` and polls beside it, so that a flip is seen within a second
/// either way. Without an answer the last known route stays, and [`Routed::age`] says how old it
/// is: the route never changes by itself, nor back to a generation before one that was seen (a
/// server restored from a backup, or another database behind the same name).
///
/// Clones share one task, which ends with the last of them.
#[derive(Debug, Clone)]
pub struct ReadRouter {
    shared: Arc<Shared>,
    _task: Arc<Task>,
}

#[derive(Debug)]
struct Shared {
    pack: String,
    settings: Settings,
    known: watch::Sender<Known>,
    ask: Notify,
    postgres: OnceLock<Arc<Postgres>>,
}

#[derive(Debug, Clone, Default)]
struct Known {
    state: Option<State>,
    answered: Option<Instant>,
    trouble: Option<String>,
    /// Questions that were answered or failed.
    asked: u64,
}

/// Ends with its last owner.
#[derive(Debug)]
struct Task(tokio::task::JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl ReadRouter {
    /// Begins to follow the route of `pack`, the name in its `pack.toml`, and waits for the first
    /// answer at most `connect_timeout_ms` of the settings. A server that does not answer is no
    /// failure: it is asked again, and [`Routed::age`] is None until it answers.
    ///
    /// Must be called within a tokio runtime.
    pub async fn start(settings: &Settings, pack: &str) -> Result<Self> {
        let shared = Arc::new(Shared {
            pack: pack.to_owned(),
            settings: settings.clone(),
            known: watch::Sender::new(Known::default()),
            ask: Notify::new(),
            postgres: OnceLock::new(),
        });
        let task = tokio::spawn(follow(Arc::clone(&shared)));
        let this = Self { shared, _task: Arc::new(Task(task)) };
        this.answer_after(0, Duration::from_millis(settings.connect_timeout_ms.into())).await;
        Ok(this)
    }

    /// The pack it follows.
    #[must_use]
    pub fn pack(&self) -> &str {
        &self.shared.pack
    }

    /// The route as it is known, without waiting.
    #[must_use]
    pub fn routed(&self) -> Routed {
        let known = self.shared.known.borrow();
        let (route, phase, generation) = match &known.state {
            Some(state) => (state.reads, state.phase, state.generation),
            None => (Route::Sqlite, Phase::Bootstrap, 0),
        };
        let age = known.answered.map(|at| at.elapsed());
        Routed { route, phase, generation, age, trouble: known.trouble.clone() }
    }

    /// The primary store as it is known, without waiting.
    #[must_use]
    pub fn route(&self) -> Route {
        self.routed().route
    }

    /// Asks now, waits for the answer at most `within`, and returns what is known then.
    pub async fn refresh(&self, within: Duration) -> Routed {
        let before = self.shared.known.borrow().asked;
        self.shared.ask.notify_one();
        self.answer_after(before, within).await;
        self.routed()
    }

    /// Returns when the route is another than `route`, or after `within`.
    pub async fn flipped_from(&self, route: Route, within: Duration) -> Routed {
        let mut known = self.shared.known.subscribe();
        let flipped =
            known.wait_for(|known| known.state.as_ref().is_some_and(|state| state.reads != route));
        let _ = tokio::time::timeout(within, flipped).await;
        self.routed()
    }

    /// The server, once it has been reached.
    pub fn postgres(&self) -> Result<Arc<Postgres>> {
        self.shared.postgres.get().cloned().ok_or_else(|| {
            let trouble = self.routed().trouble.unwrap_or_default();
            Error::new(
                ErrorKind::StoreUnreachable,
                format!("PostgreSQL has not answered: {trouble}"),
            )
            .advice("wait for the server; the route is asked for again all the while")
        })
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    async fn answer_after(&self, before: u64, within: Duration) {
        let mut known = self.shared.known.subscribe();
        let _ = tokio::time::timeout(within, known.wait_for(|known| known.asked > before)).await;
    }
}

/// Asks for ever, and says what came of it.
async fn follow(shared: Arc<Shared>) {
    loop {
        let Err(error) = attend(&shared).await;
        shared.known.send_modify(|known| {
            known.trouble = Some(error.detail().to_owned());
            known.asked += 1;
        });
        tokio::select! {
            () = tokio::time::sleep(RECONNECT_PAUSE) => {}
            () = shared.ask.notified() => tokio::time::sleep(RECONNECT_PAUSE / 10).await,
        }
    }
}

/// Asks as long as the server answers.
async fn attend(shared: &Shared) -> Result<std::convert::Infallible> {
    let postgres = reach(shared).await?;
    let mut conn = soon("a connection", postgres.dedicated()).await?;
    let mut listener = soon("LISTEN", async {
        let mut listener = PgListener::connect_with(postgres.pool()).await?;
        listener.eager_reconnect(false);
        listener.listen(phase::CHANNEL).await?;
        Ok(listener)
    })
    .await?;
    loop {
        shared.learn(ask(&mut conn, &shared.pack).await?)?;
        tokio::select! {
            heard = listener.try_recv() => {
                if heard?.is_none() {
                    return Err(Error::new(
                        ErrorKind::StoreUnreachable,
                        "the connection to PostgreSQL broke",
                    ));
                }
            }
            () = tokio::time::sleep(POLL) => {}
            () = shared.ask.notified() => {}
        }
    }
}

async fn reach(shared: &Shared) -> Result<Arc<Postgres>> {
    if let Some(postgres) = shared.postgres.get() {
        return Ok(Arc::clone(postgres));
    }
    let postgres = Arc::new(Postgres::connect(&shared.settings).await?);
    Ok(Arc::clone(shared.postgres.get_or_init(|| postgres)))
}

async fn ask(conn: &mut PgConnection, pack: &str) -> Result<State> {
    soon("the route", phase::current(conn, pack)).await
}

/// A server that takes connections and answers nothing is away, too.
async fn soon<T>(what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(ANSWER_MAX, work).await.unwrap_or_else(|_| {
        let limit = ANSWER_MAX.as_millis();
        Err(Error::new(ErrorKind::StoreUnreachable, format!("no answer ({what}) in {limit} ms")))
    })
}

impl Shared {
    fn learn(&self, state: State) -> Result<()> {
        let last = self.known.borrow().state.as_ref().map(|state| state.generation);
        if last.is_some_and(|last| state.generation < last) {
            return Err(Error::new(
                ErrorKind::StoreFailed,
                format!(
                    "toolkit.phase is at generation {} of pack {}, and was at {} before: it is \
                     another database, or an older copy of it",
                    state.generation,
                    self.pack,
                    last.unwrap_or_default()
                ),
            ));
        }
        self.known.send_modify(|known| {
            known.state = Some(state);
            known.answered = Some(Instant::now());
            known.trouble = None;
            known.asked += 1;
        });
        Ok(())
    }
}
