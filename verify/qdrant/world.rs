//! A migrated database with generated entities, and a collection that is to follow it.

use std::fmt::Write as _;
use std::sync::Arc;

use tokio::task::JoinHandle;
use toolkit::config::Settings;
use toolkit::interrupt::Stop;
use toolkit::qdrant::embed::{Embedder, Hashed};
use toolkit::qdrant::outbox::{self, Options, Tally};
use toolkit::qdrant::parity::{self, Report};
use toolkit::qdrant::{Point, PointId, Target, VectorStore, With};
use toolkit::store::{Postgres, sql};
use toolkit::{Result, migrate};
use uuid::Uuid;

use super::stores::Store;
use crate::support::TestDatabase;

pub(super) struct World {
    pub(super) database: TestDatabase,
    pub(super) postgres: Postgres,
    pub(super) settings: Settings,
    pub(super) target: Target,
    pub(super) embedder: Arc<dyn Embedder>,
    pub(super) stop: Stop,
    // What the store lives in, after the store.
    _kept: Option<Store>,
}

/// A store, with its folder or without.
pub(super) struct Given(Arc<dyn VectorStore>, Option<Store>);

impl From<Store> for Given {
    fn from(store: Store) -> Self {
        Self(Arc::clone(&store.store), Some(store))
    }
}

impl From<Arc<dyn VectorStore>> for Given {
    fn from(store: Arc<dyn VectorStore>) -> Self {
        Self(store, None)
    }
}

pub(super) const OPTIONS: Options = Options { batch: 16, workers: 2 };

pub(super) fn anime(n: u64) -> Uuid {
    Uuid::from_u64_pair(0xa0 << 56 | n << 20, 1)
}

pub(super) fn character(n: u64) -> Uuid {
    Uuid::from_u64_pair(0x50 << 56 | n << 20, 2)
}

impl World {
    /// `count` anime, each with a character and an episode.
    pub(super) async fn new(store: impl Into<Given>, count: u64) -> Self {
        let Given(store, kept) = store.into();
        let database = TestDatabase::create().await;
        let mut settings = database.settings();
        settings.embedding.dimension = 32;
        let target = Target::new(store, &settings).unwrap();
        Self { _kept: kept, ..Self::over(database, settings, target, count).await }
    }

    pub(super) async fn over(
        database: TestDatabase,
        settings: Settings,
        target: Target,
        count: u64,
    ) -> Self {
        let postgres = Postgres::connect(&database.settings()).await.unwrap();
        let mut conn = postgres.dedicated().await.unwrap();
        migrate::up(&mut conn, &["anime"], &migrate::Options::default()).await.unwrap();
        let embedder = Arc::new(Hashed::new(settings.embedding.dimension));
        let stop = Stop::new();
        let world = Self { database, postgres, settings, target, embedder, stop, _kept: None };
        world.insert(0..count).await;
        world
    }

    pub(super) async fn insert(&self, numbers: std::ops::Range<u64>) {
        let mut text = String::new();
        for n in numbers {
            let (a, c) = (anime(n), character(n));
            let e = Uuid::from_u64_pair(0xe0 << 56 | n << 20, 3);
            write!(
                text,
                "INSERT INTO anime (id, title, type, status, year, nsfw, synopsis, meta) VALUES \
                 ('{a}', 'Anime {n}', 'TV', 'FINISHED', {year}, false, 'About {n}.', \
                  '{{\"genres\": [\"Drama\"], \"tags\": [\"t{n}\"], \"synonyms\": [\"A{n}\"]}}'); \
                 INSERT INTO character (id, name) VALUES ('{c}', 'Person {n}'); \
                 INSERT INTO anime_character (anime_id, character_id) VALUES ('{a}', '{c}'); \
                 INSERT INTO episode (id, anime_id, episode_number, title) \
                 VALUES ('{e}', '{a}', 1, 'First of {n}');",
                year = 1990 + n % 30
            )
            .unwrap();
        }
        self.sql(&text).await;
    }

    pub(super) async fn sql(&self, statements: &str) {
        let mut conn = self.postgres.dedicated().await.unwrap();
        let done = sqlx::raw_sql(sql(statements.to_owned())).execute(&mut conn).await;
        done.unwrap_or_else(|error| panic!("{statements}: {error}"));
    }

    pub(super) async fn number(&self, query: &str) -> i64 {
        sqlx::query_scalar(sql(query.to_owned())).fetch_one(self.postgres.pool()).await.unwrap()
    }

    pub(super) async fn pending(&self) -> i64 {
        self.number("SELECT count(*) FROM qdrant_outbox WHERE processed_at IS NULL").await
    }

    pub(super) async fn try_drain(&self) -> Result<Tally> {
        let (postgres, target) = (&self.postgres, &self.target);
        outbox::drain(postgres, target, &self.embedder, OPTIONS, &self.stop).await
    }

    pub(super) async fn drain(&self) -> Tally {
        self.try_drain().await.unwrap()
    }

    /// Workers that follow Postgres until they are asked to stop.
    pub(super) fn follow(self: &Arc<Self>, stop: &Stop) -> JoinHandle<Result<Tally>> {
        let (world, stop) = (Arc::clone(self), stop.clone());
        tokio::spawn(async move {
            let (postgres, target) = (&world.postgres, &world.target);
            outbox::run(postgres, target, &world.embedder, OPTIONS, &stop).await
        })
    }

    /// Removes the collection behind the workers' backs.
    pub(super) async fn lose_collection(&self) {
        let (store, name) = (self.target.store(), self.target.name());
        let behind = store.alias(name).await.unwrap().unwrap();
        store.remove_alias(name).await.unwrap();
        store.remove(&behind).await.unwrap();
    }

    pub(super) async fn parity(&self) -> Report {
        let options = parity::Options {
            embedder: Some(Arc::clone(&self.embedder)),
            ..parity::Options::default()
        };
        parity::verify(&self.postgres, &self.target, &options, &self.stop).await.unwrap()
    }

    /// Parity, and nothing on its way.
    pub(super) async fn assert_same(&self) -> Report {
        let report = self.parity().await;
        assert!(report.is_clean() && report.on_the_way.count == 0, "{report:#?}");
        report
    }

    pub(super) async fn point(&self, id: Uuid) -> Option<Point> {
        let (store, name) = (self.target.store(), self.target.name());
        store.retrieve(name, &[PointId::Uuid(id)], With::ALL).await.unwrap().pop()
    }
}
