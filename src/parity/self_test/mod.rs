//! The verifier is verified: on a scratch database, every class of drift is planted, one at a time
//! and mixed, in every type, and every way of verifying has to find exactly that.
//!
//! The data is the self-test's own, and so are its database, which is dropped at the end, and its
//! source, in a folder for temporary files. Nothing of the user's is read or written.

mod bench;
mod case;
mod casts;
#[cfg(feature = "embedded-qdrant")]
mod derived;
mod fixture;
mod plants;
mod report;
mod rows;
mod weakened;

pub use case::{Finding, Outcome, Way};
pub use report::{CaseResult, CastResult, ClassResult, Report, WayResult};

use std::time::Instant;

use rand::SeedableRng as _;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use sqlx::{Connection as _, Executor as _};

use crate::config::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::parity::self_test::bench::Bench;
use crate::parity::self_test::case::Case;
use crate::store::{Postgres, quote_ident, sql};

/// Rounds in which several plants are made at once.
const MIXED_ROUNDS: usize = 8;

/// Plants at once.
const MIXED_SIZES: [usize; 4] = [2, 3, 5, 9];

/// What a caller decides.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Seed of the draws.
    pub seed: u64,
    /// Only this class, whose cases are expected without being planted: the self-test has to fail.
    pub forget: Option<String>,
}

/// Runs the self-test in a scratch database on the server, dropped at the end whatever happens.
///
/// Fails with [`ErrorKind::StoreDenied`] where the role may not create databases.
pub async fn run(
    settings: &Settings,
    postgres: &Postgres,
    options: &Options,
    stop: &Stop,
) -> Result<Report> {
    let name = format!("toolkit_self_test_{}", uuid::Uuid::new_v4().simple());
    create(postgres, &name).await?;
    let outcome = in_database(settings, postgres, &name, options, stop).await;
    let dropped = drop_database(postgres, &name).await;
    let report = outcome?;
    dropped?;
    Ok(report)
}

async fn create(postgres: &Postgres, name: &str) -> Result<()> {
    let mut conn = postgres.dedicated().await?;
    let statement =
        format!("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0", quote_ident(name));
    let created = conn.execute(sql(statement)).await.map_err(Error::from);
    conn.close().await?;
    created.map(drop).map_err(|error| match error.kind() {
        ErrorKind::StoreDenied => Error::new(
            ErrorKind::StoreDenied,
            "the self-test works in a database of its own, and this role may not create one",
        )
        .advice(
            "let a superuser run `ALTER ROLE ... CREATEDB`, or leave out the database URL: the \
             self-test then runs in the private cluster",
        )
        .because(error),
        _ => error.context("creating the self-test's database"),
    })
}

async fn drop_database(postgres: &Postgres, name: &str) -> Result<()> {
    let mut conn = postgres.dedicated().await?;
    let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quote_ident(name));
    let dropped = conn.execute(sql(statement)).await.map_err(Error::from);
    conn.close().await?;
    dropped.map(drop).map_err(|error| {
        error
            .context(format!("the self-test's database {name} was not dropped"))
            .advice(format!("drop it: DROP DATABASE {} WITH (FORCE)", quote_ident(name)))
    })
}

async fn in_database(
    settings: &Settings,
    postgres: &Postgres,
    name: &str,
    options: &Options,
    stop: &Stop,
) -> Result<Report> {
    let started = Instant::now();
    let scratch = postgres.in_database(settings, name).await?;
    let mut bench = Bench::set_up(settings, &scratch, options.seed, stop).await?;
    let mut not_tried = Vec::new();
    if !cfg!(feature = "embedded-qdrant") {
        let what = "points, vectors and sidecars: this build has no engine to hold them";
        not_tried.push(what.to_owned());
    }
    if !bench.has_ltree {
        not_tried.push("ltree: its extension is not there".to_owned());
    }
    let mut results = Vec::new();
    for mut case in cases(bench.has_ltree, options.seed) {
        let is_planted = options.forget.is_none();
        if is_planted || options.forget.as_deref() == Some(case.class) {
            let said = bench.attempt(&mut case, is_planted).await?;
            results.push(CaseResult::new(case, said));
        }
    }
    let casts = match &options.forget {
        None => casts::run(&mut bench).await?,
        Some(_) => Vec::new(),
    };
    bench.close().await?;
    #[cfg(feature = "embedded-qdrant")]
    if options.forget.is_none() {
        results.extend(in_database_of_derived(settings, postgres, options.seed, stop).await?);
    }
    scratch.close().await?;
    let seconds = started.elapsed().as_secs_f64();
    let database = name.to_owned();
    Ok(Report::new(database, options.seed, results, casts, not_tried, seconds))
}

/// Another scratch database, with the pack that derives something from its tables.
#[cfg(feature = "embedded-qdrant")]
async fn in_database_of_derived(
    settings: &Settings,
    postgres: &Postgres,
    seed: u64,
    stop: &Stop,
) -> Result<Vec<CaseResult>> {
    let name = format!("toolkit_self_test_{}", uuid::Uuid::new_v4().simple());
    create(postgres, &name).await?;
    let outcome = async {
        let scratch = postgres.in_database(settings, &name).await?;
        let results = derived::run(settings, &scratch, seed, stop).await;
        scratch.close().await?;
        results
    };
    let outcome = outcome.await;
    let dropped = drop_database(postgres, &name).await;
    let results = outcome?;
    dropped?;
    Ok(results)
}

/// All cases, the mixed ones by the seed.
fn cases(has_ltree: bool, seed: u64) -> Vec<Case> {
    let columns = fixture::columns(has_ltree);
    let mut cases = single(&columns);
    let mixed = mixed(&cases, seed);
    cases.extend(rows::cancelling());
    cases.extend(rows::elsewhere());
    cases.extend(mixed);
    cases.extend(rows::harmless(&columns));
    cases
}

/// Plants in the rows of the target, each by itself.
fn single(columns: &[fixture::Column]) -> Vec<Case> {
    let mut cases = rows::cases();
    cases.extend(plants::swapped_columns());
    cases.extend(columns.iter().flat_map(plants::cases));
    cases
}

/// Several plants at once, so chosen that each is to be found as if it were alone.
fn mixed(cases: &[Case], seed: u64) -> Vec<Case> {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let fitting = cases.iter().filter(|case| case.undo.is_empty() && !case.stands_alone);
    let (values, rows): (Vec<&Case>, Vec<&Case>) =
        fitting.partition(|case| case.values_of().is_some());
    (0..MIXED_ROUNDS)
        .map(|round| {
            let size = MIXED_SIZES.choose(&mut random).copied().unwrap_or(2);
            let (mut values, mut rows) = (values.clone(), rows.clone());
            values.shuffle(&mut random);
            rows.shuffle(&mut random);
            // Single values are most of the cases; every other plant is of whole rows.
            let drawn = rows.into_iter().zip(values).flat_map(|(row, value)| [row, value]);
            let mut together = Case::default();
            let mut parts = Vec::new();
            for case in drawn {
                if parts.len() < size && parts.iter().all(|part: &&Case| case.goes_with(part)) {
                    parts.push(case);
                    together = together.and(case);
                }
            }
            Case {
                class: "several at once",
                place: format!("round {} of {MIXED_ROUNDS}: {size} plants", round + 1),
                ..together
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parity::Kind;

    #[test]
    fn plants_made_together_touch_different_rows_or_columns() {
        for seed in 0..50 {
            for case in mixed(&single(&fixture::columns(true)), seed) {
                let in_parts = case.plant.matches(";\n").count();
                assert!(in_parts >= 2 && case.expected.len() >= 2, "{case:?}");
            }
        }
        let changed = |column| Case {
            expected: [Finding::changed("t", "id=1", column)].into(),
            ..Case::default()
        };
        let lost =
            Case { expected: [Finding::row(Kind::Missing, "t", "id=1")].into(), ..Case::default() };
        assert!(changed("a").goes_with(&changed("b")));
        assert!(!changed("a").goes_with(&changed("a")));
        assert!(!changed("a").goes_with(&lost) && !lost.goes_with(&changed("a")));
    }

    #[test]
    fn the_same_seed_draws_the_same_plants() {
        let plants = |seed| -> Vec<String> {
            cases(true, seed).into_iter().map(|case| case.plant).collect()
        };
        assert_eq!(plants(5), plants(5));
        assert_ne!(plants(5), plants(6));
    }
}
