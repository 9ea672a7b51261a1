//! A pack, its sources and a migrated target of one test's own, driven through the library, and
//! through the built binary where exit codes and output are the promise.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;

use sqlx::Executor as _;
use toolkit::demo::{Generated, Shape, generate};
use toolkit::interrupt::Stop;
use toolkit::pack::{OpenedPack, Pack};
use toolkit::parity::{Difference, Digests, Level, Options, Report};
use toolkit::store::{Postgres, sql};
use toolkit::{Result, backfill, migrate, pack, parity};

use super::{TestDatabase, toolkit};

/// See the module.
pub(crate) struct World {
    pub(crate) database: TestDatabase,
    pub(crate) postgres: Postgres,
    pub(crate) source: PathBuf,
    /// Name of a built-in pack, or folder of one's own.
    pub(crate) pack: String,
}

impl World {
    async fn new(packs: &[&str], pack: &str) -> Self {
        let database = TestDatabase::create().await;
        let postgres = Postgres::connect(&database.settings()).await.unwrap();
        let mut conn = postgres.dedicated().await.unwrap();
        migrate::up(&mut conn, packs, &migrate::Options::default()).await.unwrap();
        let source = database.folder().join("app");
        std::fs::create_dir_all(&source).unwrap();
        Self { database, postgres, source, pack: pack.to_owned() }
    }

    /// The pack `unified` with generated sources, copied.
    pub(crate) async fn generated(seed: u64, shape: &Shape) -> (Self, Generated) {
        let world = Self::new(&["unified"], "unified").await;
        let generated = generate(&world.source, seed, shape).unwrap();
        (world, generated)
    }

    /// The pack `unified` over a folder that is there already.
    pub(crate) async fn unified(source: &Path) -> Self {
        Self::builtin("unified", source).await
    }

    /// A built-in pack, migrated, over a folder that is there already.
    pub(crate) async fn builtin(pack: &str, source: &Path) -> Self {
        Self { source: source.to_path_buf(), ..Self::new(&[pack], pack).await }
    }

    /// The pack `webtoon` with a generated source.
    pub(crate) async fn webtoon(seed: u64, artifacts: usize) -> Self {
        let world = Self::new(&["webtoon"], "webtoon").await;
        toolkit::demo::generate::webtoon(&world.source, seed, artifacts).unwrap();
        world
    }

    /// A pack of one's own: its `pack.toml`, its target and its `app.sqlite`, as SQL.
    pub(crate) async fn own(pack: &str, target: &str, source: &str) -> Self {
        let mut world = Self::new(&["toolkit"], "").await;
        let folder = world.database.folder().join("pack");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("pack.toml"), pack).unwrap();
        folder.to_str().unwrap().clone_into(&mut world.pack);
        world.sql(target).await;
        world.sqlite(source);
        world
    }

    /// Runs SQL in the source.
    pub(crate) fn sqlite(&self, statements: &str) {
        let file = rusqlite::Connection::open(self.source.join("app.sqlite")).unwrap();
        file.execute_batch(statements).unwrap_or_else(|error| panic!("{statements}: {error}"));
    }

    /// Runs SQL in the target; returns the rows affected.
    pub(crate) async fn sql(&self, statements: &str) -> u64 {
        let mut conn = self.postgres.dedicated().await.unwrap();
        let done = conn.execute(sql(statements.to_owned())).await;
        done.unwrap_or_else(|error| panic!("{statements}: {error}")).rows_affected()
    }

    /// One text from the target.
    pub(crate) async fn text(&self, query: &str) -> String {
        let found: Option<Option<String>> = sqlx::query_scalar(sql(query.to_owned()))
            .fetch_optional(self.postgres.pool())
            .await
            .unwrap_or_else(|error| panic!("{query}: {error}"));
        found.flatten().unwrap_or_else(|| "NULL".to_owned())
    }

    pub(crate) async fn open(&self) -> Result<Arc<OpenedPack>> {
        let settings = self.database.settings();
        let roots = std::slice::from_ref(&self.source);
        pack::open(&settings, &self.postgres, Pack::find(&self.pack)?, roots).await.map(Arc::new)
    }

    pub(crate) async fn backfill(&self) -> backfill::Report {
        let (settings, pack) = (self.database.settings(), Pack::find(&self.pack).unwrap());
        let roots = std::slice::from_ref(&self.source);
        let options = backfill::Options::default();
        let ready = backfill::prepare(&settings, &self.postgres, pack, roots, options).await;
        backfill::run(&self.postgres, &ready.unwrap(), &Stop::new(), &|_| ()).await.unwrap()
    }

    /// Verifies. A full verification runs in every way there is, and must find the same in each:
    /// digests of client and server, second pass from disk and from the stores.
    pub(crate) async fn verify_at(&self, level: Level) -> Report {
        let options = Options { level, differences_max: 1000, ..Options::default() };
        let report = self.verify_with(&options).await;
        if level == Level::Full {
            for digests in [Digests::Client, Digests::Server] {
                let options = Options { digests, spool_bytes_max: 0, ..options.clone() };
                let other = self.verify_with(&options).await;
                assert_eq!(lines(&other.differences), lines(&report.differences), "{digests:?}");
                assert_eq!(found(&other), found(&report), "{digests:?}");
            }
        }
        report
    }

    /// Verifies in one way.
    pub(crate) async fn verify_with(&self, options: &Options) -> Report {
        let opened = self.open().await.unwrap();
        parity::verify(&self.postgres, opened, options, &Stop::new()).await.unwrap()
    }

    pub(crate) async fn verify(&self) -> Report {
        self.verify_at(Level::Full).await
    }

    /// Verifies, and shows what differs if anything does.
    pub(crate) async fn assert_clean(&self) -> Report {
        let report = self.verify().await;
        assert_eq!(report.differing_rows, 0, "{:#?}", report.differences);
        report
    }

    /// A command of the built binary on this pack's target.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        toolkit()
            .args(["--database-url", self.database.url(), "--state-dir"])
            .arg(self.database.folder().join("state"))
            .args(arguments)
            .current_dir(self.database.folder())
            .output()
            .expect("toolkit")
    }

    /// `verify-parity` of the built binary.
    pub(crate) fn verify_parity(&self, more: &[&str]) -> Output {
        let source = self.source.to_str().unwrap();
        let mut arguments = vec!["--format", "json", "verify-parity", "--pack", &self.pack];
        arguments.extend(["--source", source]);
        arguments.extend(more);
        self.run(&arguments)
    }
}

/// What a verification counted.
fn found(report: &Report) -> String {
    format!("{:?} {:?} {}", report.units, report.streams, report.differing_rows)
}

/// Differences as one line each: `kind target key column: source -> target`.
pub(crate) fn lines(differences: &[Difference]) -> Vec<String> {
    differences
        .iter()
        .map(|difference| {
            let key: Vec<String> = difference
                .key
                .iter()
                .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or("NULL")))
                .collect();
            let shown = |value: &Option<String>| {
                value.as_ref().map_or_else(|| "NULL".to_owned(), |text| format!("'{text}'"))
            };
            let head =
                format!("{} {} {}", difference.kind.name(), difference.target, key.join(","));
            difference.column.as_ref().map_or(head.clone(), |column| {
                let (left, right) = (&difference.source_value, &difference.target_value);
                format!("{head} {column}: {} -> {}", shown(left), shown(right))
            })
        })
        .collect()
}
