//! Parity of artifacts and Postgres: every value of every entry is in Postgres, or accounted for;
//! and what Postgres holds of an anime, somebody said.
//!
//! An entry that was heard last says nothing new: heard again, it would change no row and propose
//! nothing that the review queue has not. That is held row by row, field by field, in both
//! directions; beside it, a second reading that knows nothing of columns looks for every leaf of the
//! entry among the rows of its anime. What Postgres has beyond an entry is a difference where
//! nothing else was ever heard of the anime; else other artifacts told it, and it is counted.

mod compare;
mod edges;
mod found;
mod people;
mod report;
mod shared;
mod standing;
mod stored;
mod values;

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use sqlx::Connection as _;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::anime::doc::Doc;
use crate::anime::entry::{Entry, Kind};
use crate::anime::ingest::reader::{self, GroupLimits, Item, ItemContent};
use crate::anime::ingest::{ArtifactFile, GROUP_BYTES_MAX, STREAM, amount, artifacts, throttled};
use crate::anime::parity::compare::{Against, Told};
use crate::anime::parity::found::{Found, Row as FoundRow};
use crate::anime::parity::shared::Shared;
use crate::anime::parity::standing::{Queue, Standing};
use crate::anime::parity::stored::Holdings;
use crate::anime::policy::Policy;
use crate::anime::store::identity::{Identity, identify, uuid_of};
use crate::anime::store::load::State;
use crate::anime::{PACK, documents};
use crate::backfill::SETTINGS;
use crate::canonical::sha256;
use crate::cast::redact::Redactor;
use crate::config::Settings;
use crate::error::Result;
use crate::interrupt::Stop;
use crate::json::Json;
use crate::manners::{self, Manners, Pace};
use crate::pack::{Pack, join_error};
use crate::parity::{Event, Level, Report, WAITS_LONG};
use crate::source::SourceFile;
use crate::store::{Postgres, sql};

/// What a caller decides.
#[derive(Debug, Clone)]
pub struct Options {
    /// How thoroughly.
    pub level: Level,
    /// Differences named at most; all are counted.
    pub differences_max: usize,
    /// How fast it may read entries, and when it has to wait.
    pub manners: Manners,
}

/// Entries compared together.
const ENTRIES_AT_ONCE: usize = 200;

/// Compares artifacts with Postgres, in one snapshot, and stores the result.
pub async fn verify(
    settings: &Settings,
    postgres: &Postgres,
    pack: &Pack,
    roots: &[PathBuf],
    options: &Options,
    stop: &Stop,
    on_event: &(dyn Fn(Event) + Sync),
) -> Result<Report> {
    let clock = Instant::now();
    let policy = documents(pack)?.policy;
    let mut conn = postgres.dedicated().await?;
    crate::migrate::require_current(&mut conn, PACK).await?;
    crate::migrate::require_current(&mut conn, crate::migrate::CONTROL_PACK).await?;
    options.manners.check(&mut conn).await?;
    let files = artifacts(&mut conn, pack, roots).await?;
    let redactor = Arc::new(crate::pack::opened::open_redactor(settings, pack)?);
    let (lsn, snapshot) = crate::parity::begin_snapshot(&mut conn, None).await?;
    let settings_sql = format!(
        "{SETTINGS}; {WAITS_LONG}; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off"
    );
    sqlx::raw_sql(sql(settings_sql)).execute(&mut conn).await?;
    let mut comparison = Comparison {
        conn,
        policy,
        options,
        stop,
        pace: Pace::new(&options.manners),
        redactor: &redactor,
        found: Found::new(&redactor, options.differences_max),
        shared: Shared::default(),
        accounts: Accounts::default(),
        counts: BTreeMap::new(),
        seen: HashSet::new(),
        sampled: None,
        differing: 0,
    };
    comparison.accounts.load(&mut comparison.conn).await?;
    let pace = comparison.pace.clone();
    let compared = async {
        if let Level::Sample { n, seed } = options.level {
            comparison.choose(&files, n, seed).await?;
        }
        for file in &files {
            comparison.artifact(file).await?;
        }
        Ok(())
    };
    let tell = |told: manners::Told| on_event(Event::from(told));
    pace.watched(postgres.connector(), &options.manners, stop, &tell, compared).await?;
    let basis = report::Basis { lsn, snapshot, pack, files: &files, roots };
    let report = comparison.finish(basis, clock).await?;
    Ok(report)
}

/// What ingestion recorded of entries that are not stored.
#[derive(Debug, Default)]
struct Accounts {
    /// Records that were refused.
    rejects: HashSet<[u8; 32]>,
    /// Anime whose edges to themselves were removed.
    self_related: HashSet<String>,
}

impl Accounts {
    async fn load(&mut self, conn: &mut PgConnection) -> Result<()> {
        let rejects: Vec<Vec<u8>> = sqlx::query_scalar(
            "SELECT record_sha256 FROM toolkit.reject WHERE pack = $1 AND stream = $2 \
             AND state <> 'resolved'",
        )
        .bind(PACK)
        .bind(STREAM)
        .fetch_all(&mut *conn)
        .await?;
        self.rejects = rejects.into_iter().filter_map(|digest| digest.try_into().ok()).collect();
        let removed: Vec<String> = sqlx::query_scalar(
            "SELECT DISTINCT convert_from(original, 'UTF8')::jsonb ->> 'from_anime_id' \
             FROM toolkit.ledger WHERE pack = $1 AND rule = 'self_relation' \
               AND original IS NOT NULL",
        )
        .bind(PACK)
        .fetch_all(conn)
        .await?;
        self.self_related = removed.into_iter().collect();
        Ok(())
    }
}

/// How the entries of an artifact are accounted for.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    read: u64,
    rejected: u64,
    superseded: u64,
}

struct Comparison<'a> {
    conn: PgConnection,
    policy: Policy,
    options: &'a Options,
    stop: &'a Stop,
    /// Asked before each group is compared.
    pace: Pace,
    redactor: &'a Arc<Redactor>,
    found: Found<'a>,
    shared: Shared,
    accounts: Accounts,
    counts: BTreeMap<String, Counts>,
    /// Anime of the artifacts.
    seen: HashSet<Uuid>,
    /// The greatest rank of a sampled entry, and the seed.
    sampled: Option<(u64, u64)>,
    /// Sampled entries that differ.
    differing: u64,
}

impl Comparison<'_> {
    fn read(
        &self,
        file: &SourceFile,
    ) -> (tokio::sync::mpsc::Receiver<reader::Group>, tokio::task::JoinHandle<Result<()>>) {
        let most = GroupLimits { entries_max: ENTRIES_AT_ONCE, bytes_max: GROUP_BYTES_MAX };
        let limits = throttled(most, self.options.manners.throttle);
        reader::start(file.clone(), None, Arc::clone(self.redactor), limits)
    }

    /// Chooses the entries with the n smallest seeded ranks.
    async fn choose(&mut self, files: &[ArtifactFile], n: usize, seed: u64) -> Result<()> {
        let mut ranks = std::collections::BinaryHeap::new();
        for file in files {
            let (mut groups, thread) = self.read(&file.source);
            while let Some(group) = groups.recv().await {
                self.stop.check()?;
                for item in &group.items {
                    ranks.push(rank(seed, &item.bytes));
                    if ranks.len() > n {
                        ranks.pop();
                    }
                }
            }
            thread.await.map_err(join_error)??;
        }
        self.sampled = Some((ranks.peek().copied().unwrap_or_default(), seed));
        Ok(())
    }

    async fn artifact(&mut self, file: &ArtifactFile) -> Result<()> {
        let (mut groups, thread) = self.read(&file.source);
        while let Some(group) = groups.recv().await {
            self.stop.check()?;
            self.pace.wait(amount(std::slice::from_ref(&group)), self.stop).await?;
            self.group(&file.file, &group.items).await?;
        }
        thread.await.map_err(join_error)?
    }

    async fn group(&mut self, file: &str, items: &[Item]) -> Result<()> {
        let mut counts = Counts { read: items.len() as u64, ..Counts::default() };
        let mut entries: Vec<(&Item, &Entry)> = Vec::new();
        for item in items {
            if let Some((most, seed)) = self.sampled
                && rank(seed, &item.bytes) > most
            {
                continue;
            }
            let is_rejected = self.accounts.rejects.contains(&sha256(&item.bytes));
            match &item.content {
                _ if is_rejected => counts.rejected += 1,
                ItemContent::Refused(refusal) => {
                    let what = format!("{}: {}", refusal.reason, refusal.detail);
                    self.found.unaccounted(&what, &place(file, item));
                }
                ItemContent::Entry(entry) => entries.push((item, entry)),
            }
        }
        let (works, anime): (Vec<_>, Vec<_>) = entries
            .into_iter()
            .partition(|(_, entry)| matches!(entry.kind, Kind::Manga | Kind::Work));
        for (item, entry) in works {
            self.original(file, item, entry).await?;
        }
        counts.superseded += self.anime(file, &anime).await?;
        let sum = self.counts.entry(file.to_owned()).or_default();
        sum.read += counts.read;
        sum.rejected += counts.rejected;
        sum.superseded += counts.superseded;
        Ok(())
    }

    /// Returns how many have given way to newer ones.
    async fn anime(&mut self, file: &str, entries: &[(&Item, &Entry)]) -> Result<u64> {
        let all: Vec<&Entry> = entries.iter().map(|(_, entry)| *entry).collect();
        let order: Vec<usize> = (0..all.len()).collect();
        let identities = identify(&mut self.conn, &all, &order).await?;
        let mut known = Vec::new();
        for ((item, entry), identity) in entries.iter().zip(identities) {
            match identity {
                Identity::Known(id) => known.push((*item, *entry, id)),
                // Its own id was never stored.
                Identity::Adopts { old, .. } => known.push((*item, *entry, old)),
                Identity::Refused(refusal) => {
                    let what = format!("{}: {}", refusal.reason, refusal.detail);
                    self.found.unaccounted(&what, &place(file, item));
                }
            }
        }
        let ids: Vec<Uuid> = known.iter().map(|(_, _, id)| *id).collect();
        let people: HashSet<Uuid> = known
            .iter()
            .flat_map(|(_, entry, id)| entry.characters.iter().map(|part| part.id_in(*id)))
            .collect();
        let holdings = Holdings::load(&mut self.conn, &ids, people).await?;
        let queue = Queue::load(&mut self.conn, &ids).await?;
        let against = Against {
            policy: &self.policy,
            holdings: &holdings,
            queue: &queue,
            self_related: &self.accounts.self_related,
        };
        let mut superseded = 0;
        for (item, entry, anime) in known {
            self.seen.insert(anime);
            let locator = place(file, item);
            let Some(state) = holdings.states.get(&anime) else {
                self.found.tally("anime").source += 1;
                let row = FoundRow::new("anime", &[("id", &anime.to_string())]);
                let title = entry.doc.text("title").unwrap_or_default();
                self.found.missing(row, title, &locator);
                self.differing += 1;
                continue;
            };
            let standing = Standing::of(state, entry);
            superseded += u64::from(standing == Standing::Earlier);
            let told = Told { entry, anime, id: anime.to_string(), standing, locator };
            self.shared.anime(&told);
            let before = self.found.total();
            if self.options.level == Level::Counts {
                against.count(&told, &mut self.found);
            } else {
                stale(&told, state, &mut self.found);
                let whole = crate::json::parse(&item.bytes).unwrap_or(Json::Null);
                against.entry(&told, &whole, &mut self.shared, &mut self.found);
            }
            self.differing += u64::from(self.found.total() > before);
        }
        Ok(superseded)
    }

    /// A manga or another original work.
    async fn original(&mut self, file: &str, item: &Item, entry: &Entry) -> Result<()> {
        let locator = place(file, item);
        let (table, key) = match entry.kind {
            Kind::Work => ("original_work", "work_id"),
            _ => ("manga", "manga_id"),
        };
        self.found.tally(table).source += 1;
        let owners =
            crate::anime::store::write::owners(&mut self.conn, (table, key), entry).await?;
        let id = entry.id.or(owners.first().copied()).or(entry.derived_id).unwrap_or_default();
        let row = FoundRow::new(table, &[("id", &id.to_string())]);
        let stored: Option<String> = sqlx::query_scalar(sql(format!(
            "SELECT (to_jsonb(t) - ARRAY['id', 'created_at', 'updated_at'])::text \
             FROM {table} t WHERE id = $1::uuid"
        )))
        .bind(id.to_string())
        .fetch_optional(&mut self.conn)
        .await?;
        let Some(stored) = stored else {
            self.differing += 1;
            self.found.missing(row, entry.doc.text("title").unwrap_or_default(), &locator);
            return Ok(());
        };
        self.found.tally(table).target += 1;
        let xrefs: Vec<(String, String)> = sqlx::query_as(sql(format!(
            "SELECT source, url FROM {table}_xref WHERE {key} = $1::uuid"
        )))
        .bind(id.to_string())
        .fetch_all(&mut self.conn)
        .await?;
        let before = self.found.total();
        let stored = Doc::of_row(&stored)?;
        compare::original(&row, entry, &stored, &xrefs, &self.policy, &locator, &mut self.found);
        self.differing += u64::from(self.found.total() > before);
        Ok(())
    }

    /// Anime that Postgres holds and the artifacts do not have: of these very artifacts, or of
    /// none.
    async fn beyond(&mut self, files: &[ArtifactFile]) -> Result<()> {
        let digests: Vec<&str> = files.iter().map(|file| file.sha256.as_str()).collect();
        let rows = sqlx::query(
            "SELECT a.id::text AS id, a.title, s.anime_id IS NULL \
                    OR coalesce(r.artifact_sha256 = ANY($1), false) AS is_theirs \
             FROM anime a LEFT JOIN anime_ingestion_state s ON s.anime_id = a.id \
             LEFT JOIN ingestion_runs r ON r.id = s.last_run_id",
        )
        .bind(digests)
        .fetch_all(&mut self.conn)
        .await?;
        for row in rows {
            let id: &str = row.try_get("id")?;
            if self.seen.contains(&uuid_of(id)?) {
                continue;
            }
            self.found.tally("anime").target += 1;
            if row.try_get("is_theirs")? {
                let named = FoundRow::new("anime", &[("id", id)]);
                self.found.extra(named, row.try_get("title")?, "");
            } else {
                self.found.elsewhere += 1;
            }
        }
        Ok(())
    }

    async fn finish(mut self, basis: report::Basis<'_>, clock: Instant) -> Result<Report> {
        let mut is_whole = true;
        if self.sampled.is_none() {
            self.beyond(basis.files).await?;
        }
        if self.options.level == Level::Full {
            let shared = std::mem::take(&mut self.shared);
            is_whole = shared.compare(&mut self.conn, &mut self.found).await?;
        }
        let snapshot_at = crate::parity::snapshot_time(&mut self.conn).await?;
        sqlx::raw_sql("COMMIT").execute(&mut self.conn).await?;
        let changed = changed(basis.files).await?;
        let report = report::of(&self, &basis, (snapshot_at, changed, is_whole), clock);
        report::store(&mut self.conn, &report, &basis, self.options).await?;
        self.conn.close().await?;
        Ok(report)
    }
}

/// The entry is not what was ingested.
fn stale(told: &Told<'_>, state: &State, found: &mut Found<'_>) {
    if told.standing != Standing::Unknown {
        return;
    }
    let row = FoundRow::new("anime_ingestion_state", &[("anime_id", &told.id)]);
    let value = |text: Option<&String>| text.map(|text| Json::from(text.as_str()));
    let column = "last_payload_sha256".to_owned();
    let change = (column, value(Some(&told.entry.sha256)), value(state.payload.as_ref()));
    found.changed(&row, vec![change], &told.locator);
}

/// Files that are not what they were when they were found.
async fn changed(files: &[ArtifactFile]) -> Result<Vec<String>> {
    let files: Vec<_> = files.iter().map(|f| (f.source.clone(), f.file.clone())).collect();
    tokio::task::spawn_blocking(move || {
        let mut changed = Vec::new();
        for (source, name) in files {
            let now = crate::source::discover::hash_file(&source.path);
            if now.map_or(true, |(sha256, _)| sha256 != source.sha256) {
                changed.push(name);
            }
        }
        Ok(changed)
    })
    .await
    .map_err(join_error)?
}

fn place(file: &str, item: &Item) -> String {
    format!("{file}, {}", item.locator)
}

fn rank(seed: u64, bytes: &[u8]) -> u64 {
    let mut text = seed.to_be_bytes().to_vec();
    text.extend_from_slice(&sha256(bytes));
    sha256(&text).first_chunk::<8>().map_or(0, |head| u64::from_be_bytes(*head))
}
