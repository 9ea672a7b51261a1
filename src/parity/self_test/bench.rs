//! Where cases are tried: a scratch database with a finished backfill, and its source.

use std::path::PathBuf;
use std::sync::Arc;

use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Executor as _};

use crate::backfill;
use crate::cast::Bug;
use crate::config::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::manners::Pace;
use crate::pack::{self, OpenedPack, Pack};
use crate::parity::self_test::case::{Case, Outcome, Way, judge};
use crate::parity::self_test::fixture;
use crate::parity::self_test::weakened::same_eight_bits;
use crate::parity::target::TargetWalk;
use crate::parity::verify::examine;
use crate::parity::{Digests, Independent, Level, Options, Report};
use crate::store::{Postgres, sql};

/// Keys of the way that samples only a few.
const FEW_KEYS: usize = 5;

/// Differences named at most; more than all rows and columns of the fixture.
const DIFFERENCES_MAX: usize = 10_000;

/// What one way said about a case, with what was wrong.
pub(super) type Said = (Way, Outcome, Option<String>);

pub(super) struct Bench<'a> {
    settings: Settings,
    postgres: &'a Postgres,
    /// Plants.
    hand: PgConnection,
    /// Verifies.
    eye: PgConnection,
    folder: tempfile::TempDir,
    opened: Arc<OpenedPack>,
    stop: &'a Stop,
    seed: u64,
    pub(super) has_ltree: bool,
}

impl<'a> Bench<'a> {
    /// Prepares the scratch database behind `postgres` and loads the fixture.
    pub(super) async fn set_up(
        settings: &Settings,
        postgres: &'a Postgres,
        seed: u64,
        stop: &'a Stop,
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let settings = Settings { state_dir: folder.path().join("state"), ..settings.clone() };
        let mut hand = postgres.dedicated().await?;
        let has_ltree = hand.execute("CREATE EXTENSION ltree").await.is_ok();
        let options = crate::migrate::Options { stop: stop.clone(), ..Default::default() };
        crate::migrate::up(&mut hand, &[crate::migrate::CONTROL_PACK], &options).await?;
        hand.execute(sql(fixture::target_sql(has_ltree))).await?;
        std::fs::create_dir(folder.path().join("app"))?;
        std::fs::write(folder.path().join("pack.toml"), fixture::pack_text(has_ltree))?;
        let source = folder.path().join("app").join("state.sqlite");
        fixture::write_source(&source, has_ltree)?;
        std::fs::copy(&source, folder.path().join("pristine.sqlite"))?;
        let opened = open(&settings, postgres, &folder.path().join("app"), folder.path()).await?;
        let eye = postgres.dedicated().await?;
        let opened = Arc::new(opened);
        let mut bench =
            Self { settings, postgres, hand, eye, folder, opened, stop, seed, has_ltree };
        bench.backfill(&[]).await?;
        bench.hand.execute(sql(fixture::keep_sql())).await?;
        bench.hand.execute("SET synchronous_commit = off").await?;
        Ok(bench)
    }

    pub(super) async fn close(self) -> Result<()> {
        self.hand.close().await?;
        self.eye.close().await?;
        Ok(())
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("app")
    }

    /// The pack as it is now, with bugs planted in the casts of columns of `everything`.
    pub(super) async fn open_with(&self, bugs: &[(&str, Bug)]) -> Result<OpenedPack> {
        let mut opened =
            open(&self.settings, self.postgres, &self.root(), self.folder.path()).await?;
        for column in &mut opened.plan.streams[0].outputs[0].columns {
            if let Some((_, bug)) = bugs.iter().find(|(name, _)| *name == column.name) {
                column.cast.plant(*bug);
            }
        }
        Ok(opened)
    }

    /// Loads the source, by casts with these bugs; everything but the known reject must be stored.
    pub(super) async fn backfill(&mut self, bugs: &[(&str, Bug)]) -> Result<()> {
        let pack = find_pack(self.folder.path())?;
        let options = backfill::Options::default();
        let mut ready =
            backfill::prepare(&self.settings, self.postgres, pack, &[self.root()], options).await?;
        ready.opened = Arc::new(self.open_with(bugs).await?);
        let report = backfill::run(self.postgres, &ready, self.stop, &|_| ()).await?;
        if report.rejects == 1 {
            return Ok(());
        }
        let example: Option<String> = sqlx::query_scalar(
            "SELECT concat_ws(', ', stream, column_name, reason, detail) FROM toolkit.reject \
             ORDER BY stream = 'log' LIMIT 1",
        )
        .fetch_optional(&mut self.hand)
        .await?;
        Err(Error::new(
            ErrorKind::Bug,
            format!(
                "the self-test's fixture has {} rejects instead of 1: {}",
                report.rejects,
                example.unwrap_or_default()
            ),
        ))
    }

    /// Empties the tables.
    pub(super) async fn clear(&mut self) -> Result<()> {
        self.hand.execute("TRUNCATE everything, customers, orders, archive, log").await?;
        Ok(())
    }

    /// Brings target and source back to what they were.
    pub(super) async fn restore(&mut self, case: &Case) -> Result<()> {
        if !case.plant.is_empty() {
            self.hand.execute(sql(fixture::restore_sql())).await?;
        }
        if !case.undo.is_empty() {
            self.hand.execute(sql(case.undo.clone())).await?;
        }
        if !case.in_source.is_empty() {
            let kept = self.folder.path().join("pristine.sqlite");
            std::fs::copy(kept, self.root().join("state.sqlite"))?;
            self.opened = Arc::new(self.open_with(&[]).await?);
        }
        Ok(())
    }

    /// Plants a case, looks at it in every way, and restores what was there.
    pub(super) async fn attempt(&mut self, case: &mut Case, is_planted: bool) -> Result<Vec<Said>> {
        self.stop.check()?;
        let problem = if is_planted { self.plant(case).await? } else { None };
        // Cases beyond single values, and the mixed ones, look at every table.
        let streams: Vec<String> = case.values_of().map(stream_of).into_iter().collect();
        let mut said = Vec::new();
        for way in case.ways() {
            let report = self.verify(way, &streams).await?;
            let (outcome, detail) = judge(case, way, &report);
            said.push(match &problem {
                Some(problem) => (way, Outcome::Missed, Some(problem.clone())),
                None => (way, outcome, detail),
            });
        }
        self.restore(case).await?;
        Ok(said)
    }

    /// Plants a case; says what is wrong with it if it cannot prove anything.
    async fn plant(&mut self, case: &mut Case) -> Result<Option<String>> {
        let before = self.weak_sum(case).await?;
        if case.plant.is_empty() && case.weak.is_some() {
            case.plant = self.plant_of_eight_bits().await?;
        }
        if !case.plant.is_empty() {
            let done = self.hand.execute(sql(case.plant.clone())).await.map_err(|error| {
                Error::from(error).context(format!("planting `{}`", case.plant))
            })?;
            let has_to_change = case.is_drift() || case.plant.starts_with("UPDATE");
            if has_to_change && done.rows_affected() == 0 {
                return Ok(Some(format!("`{}` changed no row", case.plant)));
            }
        }
        if !case.in_source.is_empty() {
            self.change_source(&case.in_source)?;
            self.opened = Arc::new(self.open_with(&[]).await?);
        }
        let is_blind = before == self.weak_sum(case).await?;
        Ok((!is_blind).then(|| "the weak hash sees it too".to_owned()))
    }

    fn change_source(&self, statements: &str) -> Result<()> {
        let file = rusqlite::Connection::open(self.root().join("state.sqlite"));
        file.and_then(|file| file.execute_batch(statements)).map_err(|error| {
            Error::new(ErrorKind::Bug, "the self-test's source was not changed").because(error)
        })
    }

    async fn weak_sum(&mut self, case: &Case) -> Result<u128> {
        let Some((weak, table)) = &case.weak else { return Ok(0) };
        let tuples = self.tuples(table).await?;
        let (stream, output) = self.feed(table)?;
        let layout = &self.opened.plan.streams[stream].outputs[output].layout;
        Ok(weak.fold(layout, &tuples))
    }

    /// A change of the name of customer `c9` that a digest of eight bits does not see.
    async fn plant_of_eight_bits(&mut self) -> Result<String> {
        let tuples = self.tuples("public.customers").await?;
        let (stream, output) = self.feed("public.customers")?;
        let output = &self.opened.plan.streams[stream].outputs[output];
        let position = |name| output.columns.iter().position(|column| column.name == name);
        let (id, name) = (position("id").unwrap_or(0), position("name").unwrap_or(1));
        let found = tuples.iter().find_map(|tuple| {
            let range = crate::canonical::fields_of(tuple).into_iter().nth(id)??;
            (&tuple[range] == b"c9").then(|| same_eight_bits(&output.layout, tuple, name))?
        });
        let text = found.ok_or_else(|| {
            Error::new(ErrorKind::Bug, "no change was found that eight bits do not see")
        })?;
        Ok(format!("UPDATE customers SET name = '{text}' WHERE id = 'c9'"))
    }

    fn unit(&self, table: &str) -> Result<usize> {
        let mut units = self.opened.plan.units.iter();
        units.position(|unit| unit.name == table).ok_or_else(|| {
            Error::new(ErrorKind::Bug, format!("the self-test's pack has no {table}"))
        })
    }

    fn feed(&self, table: &str) -> Result<(usize, usize)> {
        Ok(self.opened.plan.units[self.unit(table)?].feeds[0])
    }

    /// The COPY tuples of a table.
    async fn tuples(&mut self, table: &str) -> Result<Vec<Vec<u8>>> {
        let unit = &self.opened.plan.units[self.unit(table)?];
        let (stream, output) = unit.feeds[0];
        let output = &self.opened.plan.streams[stream].outputs[output];
        let pace = &Pace::free();
        let walk = TargetWalk { unit, output, stop: self.stop, pace };
        let mut tuples = Vec::new();
        walk.all(&mut self.eye, &mut |held| {
            tuples.push(held.tuple.to_vec());
            Ok(())
        })
        .await?;
        Ok(tuples)
    }

    /// Verifies in one way, the casts aside.
    async fn verify(&mut self, way: Way, streams: &[String]) -> Result<Report> {
        let seed = self.seed;
        let level = match way {
            Way::Counts => Level::Counts,
            Way::Sample => Level::Sample { n: 4096, seed },
            Way::FewKeys => Level::Sample { n: FEW_KEYS, seed },
            // What is derived is compared whole.
            _ => Level::Full,
        };
        let options = Options {
            snapshot: None,
            level,
            streams: streams.to_vec(),
            differences_max: DIFFERENCES_MAX,
            digests: if way == Way::Server { Digests::Server } else { Digests::Client },
            spool_bytes_max: if way == Way::ReRead { 0 } else { 1 << 20 },
            independent: Independent::Sample { n: 0, seed },
            settle: crate::parity::Settle::No,
            purpose: crate::parity::Purpose::default(),
            manners: crate::manners::Manners::default(),
        };
        let opened = Arc::clone(&self.opened);
        let in_server = way == Way::Server;
        Ok(examine(&mut self.eye, &opened, &options, in_server, self.stop).await?.report)
    }

    /// Verifies at level full by casts with these bugs, and reads every value a second way.
    pub(super) async fn read_twice(&mut self, bugs: &[(&str, Bug)]) -> Result<Report> {
        let opened = Arc::new(self.open_with(bugs).await?);
        let options = Options {
            streams: vec!["everything".to_owned()],
            differences_max: DIFFERENCES_MAX,
            independent: Independent::All,
            ..Options::default()
        };
        Ok(examine(&mut self.eye, &opened, &options, false, self.stop).await?.report)
    }

    /// Columns of `everything` with their types, but for the key.
    pub(super) fn types(&self) -> Vec<(String, crate::cast::PgType)> {
        let columns = &self.opened.plan.streams[0].outputs[0].columns;
        let columns = columns.iter().filter(|column| column.name != "id");
        columns.map(|column| (column.name.clone(), column.cast.ty().clone())).collect()
    }
}

/// The stream that feeds a table.
fn stream_of(table: &str) -> String {
    table.trim_start_matches("public.").to_owned()
}

fn find_pack(folder: &std::path::Path) -> Result<Pack> {
    Pack::find(&folder.to_string_lossy())
}

async fn open(
    settings: &Settings,
    postgres: &Postgres,
    root: &std::path::Path,
    folder: &std::path::Path,
) -> Result<OpenedPack> {
    pack::open(settings, postgres, find_pack(folder)?, &[root.to_path_buf()]).await
}
