//! What is derived from the pack's tables, compared with them: the sidecars, the collection and the
//! graph's edges.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;

use crate::anime::PACK;
use crate::anime::sidecar::{self, Differences, Parity, path_of};
use crate::config::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::pack::Pack;
use crate::parity::{
    Against, Compared, Difference, Kind, Report, StoreResult, Stored, UnitResult, amend,
    begin_snapshot, snapshot_time, store_report,
};
use crate::qdrant::embed::recomputing;
use crate::qdrant::{Target, open, parity};
use crate::store::Postgres;

/// What a caller decides.
#[derive(Debug, Clone)]
pub struct Options {
    /// Differing things named at most, of each store; all are counted.
    pub differences_max: usize,
    /// How long what is on its way to Qdrant is waited for.
    pub settle: Duration,
}

/// Compares the wanted stores with Postgres; the sources are not among them. Sidecars are those
/// beside `artifacts`.
pub async fn compare(
    settings: &Settings,
    postgres: &Postgres,
    wanted: &[Against],
    artifacts: &[PathBuf],
    options: &Options,
    stop: &Stop,
) -> Result<Vec<Compared>> {
    let mut conn = postgres.dedicated().await?;
    crate::migrate::require_current(&mut conn, PACK).await?;
    let mut compared = Vec::new();
    if wanted.contains(&Against::Sidecar) {
        compared.push(stop.unless(compare_sidecars(&mut conn, artifacts, options)).await?);
    }
    if wanted.contains(&Against::Qdrant) {
        let target = Target::new(open(settings).await?, settings)?;
        compared.push(compare_points(settings, postgres, &target, options, stop).await?);
    }
    if wanted.contains(&Against::Graph) {
        let edges = crate::graph::parity::compare(&mut conn, options.differences_max);
        compared.push(stop.unless(edges).await?);
    }
    Ok(compared)
}

/// The artifacts that are found in the given places.
pub async fn artifacts(
    postgres: &Postgres,
    pack: &Pack,
    roots: &[PathBuf],
) -> Result<Vec<PathBuf>> {
    let mut conn = postgres.dedicated().await?;
    crate::migrate::require_current(&mut conn, PACK).await?;
    let found = crate::anime::ingest::artifacts(&mut conn, pack, roots).await?;
    Ok(found.into_iter().map(|artifact| artifact.source.path).collect())
}

/// Compares every sidecar that is there; there has to be one.
pub(crate) async fn compare_sidecars(
    conn: &mut PgConnection,
    artifacts: &[PathBuf],
    options: &Options,
) -> Result<Compared> {
    let places = artifacts.iter().map(|artifact| (artifact, path_of(artifact)));
    let (there, missing): (Vec<_>, Vec<_>) = places.partition(|(_, path)| path.is_file());
    if there.is_empty() {
        let beside: Vec<String> = artifacts.iter().map(|path| path.display().to_string()).collect();
        return Err(Error::new(
            ErrorKind::SourceMissing,
            format!("there is no sidecar beside {}", beside.join(", ")),
        )
        .advice("write it with `toolkit sidecar write --source FILE`, or name its artifact"));
    }
    let mut found = Found::default();
    for (artifact, path) in there {
        let parity = sidecar::check(conn, artifact, &path).await?;
        found.add(&parity, options.differences_max);
    }
    let no_sidecar = missing.iter().map(|(path, _)| format!("{} has no sidecar", path.display()));
    found.notes.extend(no_sidecar);
    Ok(Compared {
        store: StoreResult {
            against: Against::Sidecar,
            place: found.places.join(", "),
            on_the_way: 0,
            notes: found.notes,
        },
        units: found.units.into_iter().collect(),
        differences: found.differences,
    })
}

/// What sidecars hold, as slices and differences.
#[derive(Default)]
struct Found {
    places: Vec<String>,
    notes: Vec<String>,
    units: Vec<UnitResult>,
    differences: Vec<Difference>,
}

impl Found {
    fn add(&mut self, parity: &Parity, differences_max: usize) {
        let place = parity.file.display().to_string();
        self.notes.push(format!("{place}: SHA-256 {}", parity.sha256));
        let of_artifact = Differences {
            equal: u64::from(parity.is_of_artifact),
            stale: if parity.is_of_artifact { Vec::new() } else { vec![place.clone()] },
            ..Differences::default()
        };
        let slices = [
            ("artifact", "file", &of_artifact),
            ("ingestion_runs", "id", &parity.runs),
            ("anime_ingestion_state", "anime_id", &parity.anime),
        ];
        for (table, key, differences) in slices {
            let target = format!("{}.{table}", Against::Sidecar.name());
            let known = self.units.iter().position(|unit| unit.target == target);
            let at = known.unwrap_or_else(|| {
                let against = Against::Sidecar;
                let target = target.clone();
                self.units.push(UnitResult { target, against, ..UnitResult::default() });
                self.units.len() - 1
            });
            let unit = &mut self.units[at];
            let (missing, extra, stale) = (
                differences.missing.len() as u64,
                differences.extra.len() as u64,
                differences.stale.len() as u64,
            );
            unit.source_rows += differences.equal + missing + stale;
            unit.target_rows += differences.equal + extra + stale;
            unit.missing += missing;
            unit.extra += extra;
            unit.changed += stale;
            if unit.differing() == 0 {
                // Equal state gives equal bytes: the file is its own root.
                unit.source_root = Some(parity.sha256.clone());
                unit.target_root = Some(parity.sha256.clone());
            }
            for (kind, ids) in [
                (Kind::Missing, &differences.missing),
                (Kind::Extra, &differences.extra),
                (Kind::Changed, &differences.stale),
            ] {
                for id in ids {
                    if self.differences.len() < differences_max {
                        self.differences.push(difference(&target, kind, (key, id), &place));
                    }
                }
            }
        }
        self.places.push(place);
    }
}

fn difference(target: &str, kind: Kind, (key, id): (&str, &str), place: &str) -> Difference {
    let is_artifact = key == "file";
    let column = (kind == Kind::Changed).then(|| {
        let what = if is_artifact { "the artifact's SHA-256" } else { "(the entry)" };
        what.to_owned()
    });
    let key = serde_json::Map::from_iter([(key.to_owned(), id.into())]);
    Difference {
        column,
        locator: (!is_artifact).then(|| place.to_owned()),
        ..Difference::of_row(Against::Sidecar.name(), target.to_owned(), kind, key)
    }
}

/// Compares the collection; it has to be there, and made of what the settings say.
pub(crate) async fn compare_points(
    settings: &Settings,
    postgres: &Postgres,
    target: &Target,
    options: &Options,
    stop: &Stop,
) -> Result<Compared> {
    target.check_there().await?;
    let listed = parity::Options {
        listed_max: options.differences_max,
        embedder: recomputing(settings),
        settle: options.settle,
    };
    let report = parity::verify(postgres, target, &listed, stop).await?;
    Ok(report.compared(&target.store().describe(), options.differences_max))
}

/// Adds what was found in other stores to the comparison of the sources, or makes a report of it
/// alone, and stores the result.
pub async fn record(
    postgres: &Postgres,
    pack: &Pack,
    roots: &[PathBuf],
    sources: Option<Report>,
    compared: Vec<Compared>,
    (started, options): (Instant, &Options),
) -> Result<Report> {
    let mut conn = postgres.dedicated().await?;
    if let Some(mut report) = sources {
        let added: usize = compared.iter().map(|one| one.differences.len()).sum();
        for one in compared {
            report.add(one);
        }
        report.seconds = started.elapsed().as_secs_f64();
        amend(&mut conn, &report, added).await?;
        return Ok(report);
    }
    let (lsn, snapshot) = begin_snapshot(&mut conn, None).await?;
    let at = snapshot_time(&mut conn).await?;
    sqlx::raw_sql("COMMIT").execute(&mut conn).await?;
    let mut report = Report::of_stores(PACK, lsn, at);
    for one in compared {
        report.add(one);
    }
    report.seconds = started.elapsed().as_secs_f64();
    let settings = serde_json::json!({
        "level": report.level,
        "streams": [],
        "looked_in": roots,
        "pack_folder": pack.folder,
        "differences_max": options.differences_max,
    });
    let stored = Stored {
        settings: &settings,
        snapshot: &snapshot,
        inputs: &[],
        pack_version: pack.manifest.pack.version,
        pack_fingerprint: &pack.fingerprint(),
    };
    store_report(&mut conn, stored, &report).await?;
    Ok(report)
}
