//! Drift in what is derived from Postgres: points and their vectors in a collection of its own, on
//! the engine in process, and a sidecar.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Executor as _};
use uuid::Uuid;

use crate::anime::derived::{Options, compare_points, compare_sidecars};
use crate::anime::sidecar::{path_of, write};
use crate::config::{Embedding, Qdrant, Settings};
use crate::error::Result;
use crate::interrupt::Stop;
use crate::parity::self_test::bench::Said;
use crate::parity::self_test::case::{Case, Finding, Outcome, Way};
use crate::parity::self_test::report::CaseResult;
use crate::parity::{Compared, Kind, UnitResult};
use crate::qdrant::embed::{CARRIED, embedder};
use crate::qdrant::{Embedded, Filter, Point, PointId, Target, Vector, With, outbox};
use crate::store::{Postgres, sql};

/// Anime of the fixture, each with a character and an episode.
const ANIME: u64 = 24;
/// Bits flipped, one at a time.
const FLIPS: usize = 24;
/// Numbers of a vector.
const DIMENSION: u32 = 64;

/// Runs every case in the empty database behind `postgres`.
pub(super) async fn run(
    settings: &Settings,
    postgres: &Postgres,
    seed: u64,
    stop: &Stop,
) -> Result<Vec<CaseResult>> {
    let bench = Bench::set_up(settings, postgres, stop).await?;
    let mut results = Vec::new();
    for planted in plants(seed) {
        stop.check()?;
        results.push(bench.attempt(planted).await?);
    }
    Ok(results)
}

fn anime(n: u64) -> Uuid {
    Uuid::from_u64_pair(0xa0 << 56 | n << 20, 1)
}

fn character(n: u64) -> Uuid {
    Uuid::from_u64_pair(0x50 << 56 | n << 20, 2)
}

fn episode(n: u64) -> Uuid {
    Uuid::from_u64_pair(0xe0 << 56 | n << 20, 3)
}

/// Something done to a store.
enum Hand {
    /// To one point, which is written back whole.
    Point(Uuid, Box<dyn Fn(&mut Point)>),
    /// Two points exchange what they hold but for their ids.
    Swap(Uuid, Uuid),
    /// A point is removed.
    Lose(Uuid),
    /// A copy of a point under another id.
    Copy(Uuid, PointId),
    /// Statements in Postgres, by which the outbox does not learn of it, and those that undo them.
    Postgres(String, String),
    /// The sidecar's text.
    Sidecar(Box<dyn Fn(&str) -> String>),
    /// The artifact beside it.
    Artifact,
}

struct Planted {
    class: &'static str,
    what: String,
    way: Way,
    hand: Hand,
    expected: BTreeSet<Finding>,
    /// Whether it has to be found.
    is_promised: bool,
}

fn found(kind: Kind, target: &str, key: &str, id: impl Into<String>) -> Finding {
    let key = format!("{key}={}", id.into());
    Finding { kind, target: target.to_owned(), key, column: None }
}

fn planted(
    class: &'static str,
    what: impl Into<String>,
    way: Way,
    hand: Hand,
    expected: impl IntoIterator<Item = Finding>,
) -> Planted {
    let expected = expected.into_iter().collect();
    Planted { class, what: what.into(), way, hand, expected, is_promised: true }
}

fn plants(seed: u64) -> Vec<Planted> {
    let mut all = vectors(seed);
    all.extend(payloads());
    all.extend(rows());
    all.extend(sidecars());
    all
}

/// Of the point of an anime that is to be found changed.
fn on_point(
    class: &'static str,
    what: impl Into<String>,
    n: u64,
    change: impl Fn(&mut Point) + 'static,
) -> Planted {
    let expected = [found(Kind::Changed, "qdrant.anime", "id", anime(n))];
    planted(class, what, Way::Points, Hand::Point(anime(n), Box::new(change)), expected)
}

fn text_vector(point: &mut Point) -> Option<&mut Vec<f32>> {
    point.vectors.values_mut().find_map(|vector| match vector {
        Vector::Dense(numbers) => Some(numbers),
        _ => None,
    })
}

fn vectors(seed: u64) -> Vec<Planted> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut all: Vec<Planted> = (0..FLIPS)
        .map(|_| {
            let (at, bit) =
                (random.random_range(0..DIMENSION as usize), random.random_range(0..32));
            let what = format!("bit {bit} of number {at} of a vector");
            on_point("one bit flipped", what, random.random_range(0..ANIME), move |point| {
                if let Some(numbers) = text_vector(point) {
                    numbers[at] = f32::from_bits(numbers[at].to_bits() ^ (1 << bit));
                }
            })
        })
        .collect();
    all.push(on_point("vector missing", "the only one", 2, |point| point.vectors.clear()));
    all.push(on_point("vector of another text", "its numbers turned", 3, |point| {
        if let Some(numbers) = text_vector(point) {
            numbers.rotate_right(1);
        }
    }));
    all.push(on_point("vector of another text", "all numbers the same", 3, |point| {
        if let Some(numbers) = text_vector(point) {
            numbers.fill(1.0);
        }
    }));
    all.push(on_point("vector of another text", "all zero", 3, |point| {
        if let Some(numbers) = text_vector(point) {
            numbers.fill(0.0);
        }
    }));
    let mut carried = on_point("vector that cannot be recomputed", "carried over", 4, |point| {
        point.payload.insert("embedder".to_owned(), CARRIED.into());
        if let Some(numbers) = text_vector(point) {
            numbers.rotate_right(1);
        }
    });
    carried.is_promised = false;
    all.push(carried);
    all.push(on_point("vector that cannot be recomputed", "carried over and lost", 4, |point| {
        point.payload.insert("embedder".to_owned(), CARRIED.into());
        point.vectors.clear();
    }));
    all
}

fn payloads() -> Vec<Planted> {
    let put = |field: &'static str, value: Value| {
        move |point: &mut Point| drop(point.payload.insert(field.to_owned(), value.clone()))
    };
    let take = |field: &'static str| move |point: &mut Point| drop(point.payload.remove(field));
    let stale = "stale payload";
    let mut all = vec![
        on_point(stale, "another year", 5, put("year", 1901.into())),
        on_point(stale, "1990 and '1990'", 0, put("year", "1990".into())),
        on_point(stale, "a list in another order", 5, put("tags", serde_json::json!(["b", "a"]))),
        on_point(stale, "a field lost", 5, take("status")),
        on_point(stale, "a field to null", 5, put("status", Value::Null)),
        on_point(stale, "a field too many", 5, put("extra", true.into())),
        on_point(stale, "another digest of the text", 5, put("text_hash", "0".into())),
        on_point(stale, "the digest itself", 5, put("payload_hash", "0".into())),
        on_point(stale, "an older version", 5, put("version", 0.into())),
        on_point(stale, "no version", 5, take("version")),
        on_point(stale, "of another type", 5, put("entity_type", "character".into())),
    ];
    let both = [6, 7].map(|n| found(Kind::Changed, "qdrant.anime", "id", anime(n)));
    let swap = Hand::Swap(anime(6), anime(7));
    all.push(planted("values of two rows swapped", "two points", Way::Points, swap, both));
    let same = |what: &str, change: fn(&mut Point)| {
        let hand = Hand::Point(anime(8), Box::new(change));
        planted("point written again", what, Way::Points, hand, [])
    };
    all.push(same("as it is", |_| ()));
    all.push(same("its fields in another order", |point| {
        let fields: Vec<_> = std::mem::take(&mut point.payload).into_iter().collect();
        point.payload = fields.into_iter().rev().collect();
    }));
    all
}

/// Without its triggers, as a restore or a superuser would.
fn behind_the_outbox(table: &str, statement: &str) -> String {
    format!(
        "ALTER TABLE {table} DISABLE TRIGGER USER; {statement}; \
         ALTER TABLE {table} ENABLE TRIGGER USER"
    )
}

fn rows() -> Vec<Planted> {
    let point =
        |class, what: &str, hand, finding| planted(class, what, Way::Points, hand, [finding]);
    let orphan = Uuid::from_u128(77);
    let numbered = PointId::Number(3);
    let quietly = |table: &str, there: String, back: String| {
        Hand::Postgres(behind_the_outbox(table, &there), behind_the_outbox(table, &back))
    };
    let id = anime(11);
    let changed = quietly(
        "anime",
        format!("UPDATE anime SET status = 'ONGOING' WHERE id = '{id}'"),
        format!("UPDATE anime SET status = 'FINISHED' WHERE id = '{id}'"),
    );
    let (gone, back) = (episode(12), episode_sql(12));
    let lost = quietly("episode", format!("DELETE FROM episode WHERE id = '{gone}'"), back);
    let added = quietly(
        "episode",
        format!(
            "INSERT INTO episode (id, anime_id, episode_number, title) \
             VALUES ('{}', '{}', 2, 'Second')",
            episode(900),
            anime(12)
        ),
        format!("DELETE FROM episode WHERE id = '{}'", episode(900)),
    );
    let missing = |target, id: Uuid| found(Kind::Missing, target, "id", id);
    let extra = |target, id: Uuid| found(Kind::Extra, target, "id", id);
    vec![
        point(
            "missing point",
            "of an anime",
            Hand::Lose(anime(9)),
            missing("qdrant.anime", anime(9)),
        ),
        point(
            "missing point",
            "of a character",
            Hand::Lose(character(23)),
            missing("qdrant.character", character(23)),
        ),
        point("missing point", "of a new episode", added, missing("qdrant.episode", episode(900))),
        point(
            "orphan point",
            "a copy",
            Hand::Copy(anime(10), orphan.into()),
            extra("qdrant.anime", orphan),
        ),
        point(
            "orphan point",
            "with a number for an id",
            Hand::Copy(anime(10), numbered),
            Finding {
                kind: Kind::Extra,
                target: "qdrant.anime".to_owned(),
                key: "id=NULL".to_owned(),
                column: None,
            },
        ),
        point("orphan point", "of a deleted episode", lost, extra("qdrant.episode", gone)),
        point(
            "stale payload",
            "Postgres changed without its outbox",
            changed,
            found(Kind::Changed, "qdrant.anime", "id", id),
        ),
    ]
}

fn sidecars() -> Vec<Planted> {
    const STATES: &str = "sidecar.anime_ingestion_state";
    let stale = "stale sidecar entry";
    let edit =
        |class, what: &str, change: Box<dyn Fn(&str) -> String>, expected: Option<Finding>| {
            planted(class, what, Way::Sidecar, Hand::Sidecar(change), expected)
        };
    let state = |kind, n| Some(found(kind, STATES, "anime_id", anime(n)));
    let line_of = |text: &str, n: u64| -> String {
        let id = anime(n).to_string();
        text.lines().find(|line| line.contains(&id)).unwrap_or_default().to_owned()
    };
    let (first, last) = (anime(1).to_string(), Uuid::from_u128(78).to_string());
    let known = first.clone();
    vec![
        edit(
            stale,
            "another digest",
            Box::new(move |text| {
                let line = line_of(text, 1);
                text.replace(&line, &line.replace("digest 1", "digest 2"))
            }),
            state(Kind::Changed, 1),
        ),
        edit(
            stale,
            "another status",
            Box::new(move |text| {
                let line = line_of(text, 2);
                text.replace(&line, &line.replace("ingested", "pending"))
            }),
            state(Kind::Changed, 2),
        ),
        edit(
            "sidecar entry lost",
            "one line",
            Box::new(move |text| text.replace(&format!("{}\n", line_of(text, 3)), "")),
            state(Kind::Missing, 3),
        ),
        edit(
            "sidecar entry too many",
            "a copy under another id",
            Box::new(move |text| {
                let line = line_of(text, 1);
                let copy = line.replace(&known, &last);
                text.replace(&line, &format!("{line}\n{copy}"))
            }),
            Some(found(Kind::Extra, STATES, "anime_id", Uuid::from_u128(78))),
        ),
        edit(
            "stale sidecar run",
            "another digest of the artifact",
            Box::new(|text| text.replace("artifact digest 1", "artifact digest 9")),
            Some(found(Kind::Changed, "sidecar.ingestion_runs", "id", "1")),
        ),
        planted(
            stale,
            "Postgres went on",
            Way::Sidecar,
            Hand::Postgres(
                format!(
                    "UPDATE anime_ingestion_state SET ingestion_status = 'x' WHERE anime_id = '{first}'"
                ),
                format!(
                    "UPDATE anime_ingestion_state SET ingestion_status = 'ingested' \
                     WHERE anime_id = '{first}'"
                ),
            ),
            state(Kind::Changed, 1),
        ),
        Planted {
            expected: [found(Kind::Changed, "sidecar.artifact", "file", "*")].into(),
            ..planted(
                "sidecar of another artifact",
                "one byte more",
                Way::Sidecar,
                Hand::Artifact,
                [],
            )
        },
        edit(
            "sidecar written otherwise",
            "spaces, and members in another order",
            Box::new(|text| text.replace("\": ", "\":   ")),
            None,
        ),
    ]
}

fn episode_sql(n: u64) -> String {
    format!(
        "INSERT INTO episode (id, anime_id, episode_number, title) \
         VALUES ('{}', '{}', 1, 'First of {n}')",
        episode(n),
        anime(n)
    )
}

struct Bench<'a> {
    settings: Settings,
    postgres: &'a Postgres,
    target: Target,
    stop: &'a Stop,
    artifact: PathBuf,
    sidecar: String,
    points: HashMap<PointId, Point>,
    _folder: tempfile::TempDir,
}

impl<'a> Bench<'a> {
    async fn set_up(settings: &Settings, postgres: &'a Postgres, stop: &'a Stop) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let settings = Settings {
            qdrant: Qdrant::default(),
            embedding: Embedding { dimension: DIMENSION, ..Embedding::default() },
            ..settings.clone()
        };
        let mut conn = postgres.dedicated().await?;
        let options = crate::migrate::Options { stop: stop.clone(), ..Default::default() };
        crate::migrate::up(&mut conn, &[crate::anime::PACK], &options).await?;
        fill(&mut conn).await?;
        let artifact = folder.path().join("anime_database.json");
        std::fs::write(&artifact, "{}")?;
        write(&mut conn, &artifact, &path_of(&artifact), false).await?;
        let sidecar = std::fs::read_to_string(path_of(&artifact))?;
        conn.close().await?;
        let state = folder.path().to_path_buf();
        let opened = tokio::task::spawn_blocking(move || Embedded::open(&state)).await;
        let store = Arc::new(opened.map_err(crate::pack::join_error)??);
        let target = Target::new(store, &settings)?;
        let options = outbox::Options { batch: 64, workers: 1 };
        outbox::drain(postgres, &target, &embedder(&settings)?, options, stop).await?;
        let everything = Filter::default();
        let page =
            target.store().scroll(target.name(), &everything, None, 1_000, With::ALL).await?;
        let points = page.points.into_iter().map(|point| (point.id, point)).collect();
        Ok(Self { settings, postgres, target, stop, artifact, sidecar, points, _folder: folder })
    }

    async fn attempt(&self, planted: Planted) -> Result<CaseResult> {
        self.plant(&planted.hand).await?;
        let compared = self.compare(planted.way).await;
        self.undo(&planted.hand).await?;
        let said = judge(&planted, &compared?);
        let case = Case {
            class: planted.class,
            place: planted.way.name().to_owned(),
            plant: planted.what,
            expected: planted.expected,
            ..Case::default()
        };
        Ok(CaseResult::new(case, vec![said]))
    }

    async fn plant(&self, hand: &Hand) -> Result<()> {
        let (store, name) = (self.target.store(), self.target.name());
        let point = |id: Uuid| self.points.get(&id.into()).cloned().into_iter();
        match hand {
            Hand::Point(id, change) => {
                let changed = point(*id).map(|mut point| {
                    change(&mut point);
                    point
                });
                store.upsert(name, changed.collect()).await
            }
            Hand::Swap(one, two) => {
                let swapped = point(*one).zip(point(*two)).flat_map(|(one, two)| {
                    [Point { id: two.id, ..one.clone() }, Point { id: one.id, ..two }]
                });
                store.upsert(name, swapped.collect()).await
            }
            Hand::Lose(id) => store.delete(name, &[(*id).into()]).await,
            Hand::Copy(of, id) => {
                let copy = point(*of).map(|point| Point { id: *id, ..point });
                store.upsert(name, copy.collect()).await
            }
            Hand::Postgres(statements, _) => self.execute(statements).await,
            Hand::Sidecar(change) => {
                Ok(std::fs::write(path_of(&self.artifact), change(&self.sidecar))?)
            }
            Hand::Artifact => Ok(std::fs::write(&self.artifact, "{} ")?),
        }
    }

    async fn undo(&self, hand: &Hand) -> Result<()> {
        let (store, name) = (self.target.store(), self.target.name());
        match hand {
            Hand::Point(..) | Hand::Swap(..) | Hand::Lose(..) => {
                store.upsert(name, self.points.values().cloned().collect()).await
            }
            Hand::Copy(_, id) => store.delete(name, &[*id]).await,
            Hand::Postgres(_, undo) => self.execute(undo).await,
            Hand::Sidecar(_) => Ok(std::fs::write(path_of(&self.artifact), &self.sidecar)?),
            Hand::Artifact => Ok(std::fs::write(&self.artifact, "{}")?),
        }
    }

    async fn execute(&self, statements: &str) -> Result<()> {
        let mut conn = self.postgres.dedicated().await?;
        conn.execute(sqlx::raw_sql(sql(statements.to_owned()))).await?;
        Ok(conn.close().await?)
    }

    async fn compare(&self, way: Way) -> Result<Compared> {
        let options = Options { differences_max: 1_000, settle: Duration::ZERO };
        if way == Way::Points {
            let (target, postgres) = (&self.target, self.postgres);
            return compare_points(&self.settings, postgres, target, &options, self.stop).await;
        }
        let mut conn = self.postgres.dedicated().await?;
        let compared =
            compare_sidecars(&mut conn, std::slice::from_ref(&self.artifact), &options).await?;
        conn.close().await?;
        Ok(compared)
    }
}

async fn fill(conn: &mut PgConnection) -> Result<()> {
    let mut text = String::from(
        "INSERT INTO ingestion_runs (artifact_uri, artifact_sha256, status) \
         VALUES ('one', 'artifact digest 1', 'completed'), ('two', 'artifact digest 2', 'completed');",
    );
    for n in 0..ANIME {
        let (a, c, year) = (anime(n), character(n), 1990 + n);
        text.push_str(&format!(
            "INSERT INTO anime (id, title, type, status, year, nsfw, synopsis, meta) VALUES \
             ('{a}', 'Anime {n}', 'TV', 'FINISHED', {year}, false, 'About {n}.', \
              '{{\"genres\": [\"Drama\"], \"tags\": [\"a\", \"b\"]}}'); \
             INSERT INTO character (id, name) VALUES ('{c}', 'Person {n}'); \
             INSERT INTO anime_character (anime_id, character_id) VALUES ('{a}', '{c}'); \
             {}; \
             INSERT INTO anime_ingestion_state \
             (anime_id, last_run_id, last_payload_sha256, ingestion_status) \
             VALUES ('{a}', 1, 'digest {n}', 'ingested');",
            episode_sql(n)
        ));
    }
    conn.execute(sqlx::raw_sql(sql(text))).await?;
    Ok(())
}

fn judge(planted: &Planted, compared: &Compared) -> Said {
    let found: BTreeSet<Finding> = compared
        .differences
        .iter()
        .map(|difference| {
            let mut finding = Finding { column: None, ..Finding::of(difference) };
            if finding.key.starts_with("file=") {
                // Its folder is the scratch one.
                "file=*".clone_into(&mut finding.key);
            }
            finding
        })
        .collect();
    let counted: u64 = compared.units.iter().map(UnitResult::differing).sum();
    let alarms: Vec<&Finding> = found.difference(&planted.expected).collect();
    let missed: Vec<&Finding> = planted.expected.difference(&found).collect();
    let (outcome, detail) = if !alarms.is_empty() {
        (Outcome::FalseAlarm, Some(format!("not planted: {alarms:?}")))
    } else if counted != found.len() as u64 {
        (Outcome::FalseAlarm, Some(format!("{counted} counted, {} named", found.len())))
    } else if planted.expected.is_empty() {
        (Outcome::Clean, None)
    } else if missed.is_empty() {
        (Outcome::Found, None)
    } else if planted.is_promised {
        (Outcome::Missed, Some(format!("not found: {missed:?}")))
    } else {
        (Outcome::NotPromised, None)
    };
    (planted.way, outcome, detail)
}
