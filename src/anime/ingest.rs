//! A run: artifacts are read, written group by group, checkpointed, resolved.
//!
//! One process at a time writes the pack. A group's rows, rejects, ledger entries, counts and
//! checkpoint commit together: killed anywhere, the same command goes on after the last group.

mod group;
mod reader;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use serde_json::json;
use sqlx::Connection as _;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use crate::anime::doc::canonical;
use crate::anime::ingest::group::{Place, STREAM, Written};
use crate::anime::ingest::reader::{Group, GroupLimits, Item};
use crate::anime::policy::Policy;
use crate::anime::resolve::{self, Resolution};
use crate::anime::sidecar;
use crate::anime::store::Artifact;
use crate::anime::{PACK, documents};
use crate::backfill::{Event, is_passing, pause, release_exclusive, require_exclusive, to_json};
use crate::cast::Refusal;
use crate::cast::redact::Redactor;
use crate::config::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::pack::{Pack, join_error};
use crate::source::discover::find_documents;
use crate::source::{Position, SourceFile};
use crate::store::{Connector, Postgres};

pub use group::EntryCounts;

/// What a caller decides.
#[derive(Debug, Clone)]
pub struct Options {
    /// Start over instead of resuming an unfinished run.
    pub restart: bool,
    /// Entries of a group at most.
    pub entries_max: usize,
    /// Whether edges are resolved at the end.
    pub resolves: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { restart: false, entries_max: 256, resolves: true }
    }
}

/// Bytes of a group's entries at most, but for the last of them.
const GROUP_BYTES_MAX: usize = 2 << 20;

/// What a run would do.
#[derive(Debug, Serialize)]
pub struct Preparation {
    /// The pack.
    pub pack: String,
    /// The run it would resume.
    pub resumes: Option<String>,
    /// Artifacts, in order.
    pub artifacts: Vec<ArtifactFile>,
    #[serde(skip)]
    policy: Policy,
    #[serde(skip)]
    redactor: Arc<Redactor>,
    #[serde(skip)]
    version: i32,
    #[serde(skip)]
    fingerprint: String,
    #[serde(skip)]
    options: Options,
}

/// One artifact of a [`Preparation`].
#[derive(Debug, Clone, Serialize)]
pub struct ArtifactFile {
    /// Path below the source folder.
    pub file: String,
    /// Of its bytes.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
    /// Whether an artifact with these very bytes was read to its end before.
    pub is_known: bool,
    #[serde(skip)]
    source: SourceFile,
}

/// Finds the artifacts and the run to resume; changes nothing.
pub async fn prepare(
    settings: &Settings,
    postgres: &Postgres,
    pack: &Pack,
    roots: &[PathBuf],
    options: Options,
) -> Result<Preparation> {
    let documents = documents(pack)?;
    let roots = if roots.is_empty() {
        let defaults = documents.manifest.default_sources.iter();
        let found: Vec<PathBuf> = defaults.filter(|path| path.is_file()).take(1).cloned().collect();
        if found.is_empty() {
            let tried: Vec<String> = documents
                .manifest
                .default_sources
                .iter()
                .map(|p| p.display().to_string())
                .collect();
            return Err(Error::new(ErrorKind::Usage, "no --source was given")
                .advice(format!("name one; without it these are tried: {}", tried.join(", "))));
        }
        found
    } else {
        roots.to_vec()
    };
    let patterns = documents.manifest.files.clone();
    let shown: Vec<String> = roots.iter().map(|root| root.display().to_string()).collect();
    let files = tokio::task::spawn_blocking(move || find_documents(&patterns, &roots))
        .await
        .map_err(join_error)??;
    if files.is_empty() {
        let detail =
            format!("nothing of the pack `{}` was found in {}", pack.name(), shown.join(", "));
        return Err(Error::new(ErrorKind::SourceMissing, detail).advice(format!(
            "looked, in all subfolders, for: {}; a file is read whatever it is called",
            documents.manifest.files.join(", ")
        )));
    }
    let mut conn = postgres.dedicated().await?;
    crate::migrate::require_current(&mut conn, crate::migrate::CONTROL_PACK).await?;
    crate::migrate::require_current(&mut conn, PACK).await?;
    let mut artifacts = Vec::new();
    for source in files {
        let is_known = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM ingestion_runs WHERE artifact_sha256 = $1 \
             AND status = 'completed')",
        )
        .bind(&source.sha256)
        .fetch_one(&mut conn)
        .await?;
        artifacts.push(ArtifactFile {
            file: source.relative.clone(),
            sha256: source.sha256.clone(),
            bytes: source.size_bytes,
            is_known,
            source,
        });
    }
    let mut preparation = Preparation {
        pack: pack.name().to_owned(),
        resumes: None,
        artifacts,
        policy: documents.policy,
        redactor: Arc::new(crate::pack::opened::open_redactor(settings, pack)?),
        version: pack.manifest.pack.version,
        fingerprint: hex::encode(crate::canonical::sha256(pack.text.as_bytes())),
        options,
    };
    if !preparation.options.restart {
        preparation.resumes = preparation.unfinished(&mut conn).await?;
    }
    conn.close().await?;
    Ok(preparation)
}

impl Preparation {
    fn inputs(&self) -> Vec<serde_json::Value> {
        let input = |artifact: &ArtifactFile| {
            json!({ "stream": STREAM, "source": artifact.file, "token": artifact.sha256,
                    "sha256": artifact.sha256, "files": 1, "bytes": artifact.bytes })
        };
        self.artifacts.iter().map(input).collect()
    }

    fn settings(&self) -> serde_json::Value {
        json!({ "pack_version": self.version, "pack_fingerprint": self.fingerprint })
    }

    /// The run to go on with; an error if it was started with something else.
    async fn unfinished(&self, conn: &mut PgConnection) -> Result<Option<String>> {
        let row = sqlx::query(include_str!("../sql/backfill/unfinished_run.sql"))
            .bind(&self.pack)
            .fetch_optional(conn)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let run_id: String = row.try_get("run_id")?;
        let stored = |name: &str| -> Result<serde_json::Value> {
            Ok(serde_json::from_str(row.try_get(name)?).unwrap_or_default())
        };
        let mut differences = Vec::new();
        if stored("settings")? != self.settings() {
            differences.push("another version of the pack".to_owned());
        }
        let inputs = stored("inputs")?;
        if inputs != serde_json::Value::Array(self.inputs()) {
            let name =
                |input: &serde_json::Value| input["source"].as_str().unwrap_or("").to_owned();
            let was: Vec<String> = inputs.as_array().into_iter().flatten().map(name).collect();
            differences.push(format!("it read {} as they then were", was.join(", ")));
        }
        if differences.is_empty() {
            return Ok(Some(run_id));
        }
        let what = differences.join("; ");
        Err(Error::new(
            ErrorKind::RunMismatch,
            format!("run {run_id} is unfinished and was started with other inputs: {what}"),
        )
        .advice(
            "give it back what it started with, or start over with --restart: what it stored \
             stays, and is found unchanged",
        ))
    }
}

/// What a run did.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The run's id in `toolkit.run`.
    pub run_id: String,
    /// The pack.
    pub pack: String,
    /// Whether an unfinished run was resumed.
    pub resumed: bool,
    /// What became of the entries, by artifact.
    pub artifacts: BTreeMap<String, EntryCounts>,
    /// Of all of them.
    pub total: EntryCounts,
    /// What the resolver did at the end.
    pub resolution: Option<Resolution>,
    /// Changes that wait for a person, all in all.
    pub open_reviews: i64,
    /// The sidecars that were there and were brought up to date.
    pub sidecars: Vec<PathBuf>,
    /// Entries per second in this process.
    pub rate: f64,
    /// Seconds from start to end.
    pub seconds: f64,
}

/// Runs what was prepared.
pub async fn run(
    postgres: &Postgres,
    preparation: &Preparation,
    stop: &Stop,
    on_event: &(dyn Fn(Event) + Sync),
) -> Result<Report> {
    let clock = Instant::now();
    let connector = postgres.connector();
    let mut conn = connector.dedicated().await?;
    require_exclusive(&mut conn, &preparation.pack).await?;
    let mut run = Run { connector, conn, preparation, stop, id: String::new() };
    let resumed = run.begin().await?;
    let done = run.ingest(on_event).await;
    let (rate, resolution) = match done {
        Ok(done) => done,
        Err(error) => {
            run.give_up(&error).await;
            // What cannot be released ends with the session.
            let _ = release_exclusive(&mut run.conn, &preparation.pack).await;
            return Err(error);
        }
    };
    let mut report = run.finish(resumed, resolution).await?;
    report.rate = rate;
    report.seconds = clock.elapsed().as_secs_f64();
    release_exclusive(&mut run.conn, &preparation.pack).await?;
    run.conn.close().await?;
    Ok(report)
}

struct Run<'a> {
    connector: Connector,
    /// Holds the pack's lock.
    conn: PgConnection,
    preparation: &'a Preparation,
    stop: &'a Stop,
    /// In `toolkit.run`.
    id: String,
}

impl Run<'_> {
    /// Starts or resumes; true if resumed. Alone with the pack, so what was prepared is asked again.
    async fn begin(&mut self) -> Result<bool> {
        let prepared = self.preparation;
        let resumes = if prepared.options.restart {
            None
        } else {
            prepared.unfinished(&mut self.conn).await?
        };
        if let Some(run_id) = resumes {
            sqlx::query(
                "UPDATE toolkit.run SET status = 'running', error = NULL, finished_at = NULL, \
                 pid = $2 WHERE run_id = $1::uuid",
            )
            .bind(&run_id)
            .bind(i32::try_from(std::process::id()).ok())
            .execute(&mut self.conn)
            .await?;
            self.id = run_id;
            return Ok(true);
        }
        let given_up = "UPDATE toolkit.run SET status = 'failed', finished_at = now(), \
             error = coalesce(error, 'given up: a later run started over') \
             WHERE pack = $1 AND command = 'backfill' AND status IN ('running', 'interrupted')";
        sqlx::query(given_up).bind(&prepared.pack).execute(&mut self.conn).await?;
        sqlx::query(
            "UPDATE ingestion_runs SET status = 'failed', finished_at = now(), \
             error = coalesce(error, 'given up') WHERE status IN ('running', 'interrupted')",
        )
        .execute(&mut self.conn)
        .await?;
        self.id = uuid::Uuid::new_v4().to_string();
        sqlx::query(include_str!("../sql/backfill/begin_run.sql"))
            .bind(&self.id)
            .bind(&prepared.pack)
            .bind(prepared.version)
            .bind(to_json(&prepared.settings())?)
            .bind(to_json(&prepared.inputs())?)
            .bind(env!("CARGO_PKG_VERSION"))
            .bind(i32::try_from(std::process::id()).ok())
            .execute(&mut self.conn)
            .await?;
        Ok(false)
    }

    async fn ingest(
        &mut self,
        on_event: &(dyn Fn(Event) + Sync),
    ) -> Result<(f64, Option<Resolution>)> {
        let clock = Instant::now();
        let mut entries = 0;
        for artifact in &self.preparation.artifacts {
            // Entries of real artifacts have 1.5 KB and more; it is a guess for the progress bar.
            let records = artifact.bytes / 1_500 + 1;
            on_event(Event::Stream { name: artifact.file.clone(), records });
            entries += self.artifact(artifact, on_event).await?;
            on_event(Event::StreamDone);
        }
        let rate = entries as f64 / clock.elapsed().as_secs_f64().max(0.001);
        if !self.preparation.options.resolves {
            return Ok((rate, None));
        }
        let run_id = self.id.clone();
        let resolution = resolve::apply(&mut self.conn, &run_id, false).await?;
        Ok((rate, Some(resolution)))
    }

    /// Reads an artifact from where it was left; returns the entries of this process.
    async fn artifact(
        &mut self,
        artifact: &ArtifactFile,
        on_event: &(dyn Fn(Event) + Sync),
    ) -> Result<u64> {
        let (from, mut number, is_done) = self.standing(&artifact.file).await?;
        let run = self.ingestion_run(artifact).await?;
        let mut shared = Artifact { run, date: self.header_date(run).await? };
        let mut entries = 0;
        if !is_done {
            let limits = GroupLimits {
                entries_max: self.preparation.options.entries_max.max(1),
                bytes_max: GROUP_BYTES_MAX,
            };
            let redactor = Arc::clone(&self.preparation.redactor);
            let (mut groups, thread) =
                reader::start(artifact.source.clone(), from, redactor, limits);
            while let Some(group) = groups.recv().await {
                self.stop.check()?;
                self.remember_header(&group, &mut shared).await?;
                entries += group.items.len() as u64;
                let place = Place {
                    run_id: "",
                    pack: &self.preparation.pack,
                    file: &artifact.file,
                    artifact: &shared,
                    policy: &self.preparation.policy,
                    number,
                };
                number = self.group(place, &group.items, on_event).await?;
            }
            thread.await.map_err(join_error)??;
            self.end_of_file(&artifact.file, number).await?;
        }
        sqlx::query(
            "UPDATE ingestion_runs SET status = 'completed', finished_at = now(), error = NULL, \
             counts = $2::jsonb WHERE id = $1",
        )
        .bind(run)
        .bind(to_json(&self.counts(Some(&artifact.file)).await?)?)
        .execute(&mut self.conn)
        .await?;
        Ok(entries)
    }

    /// Writes a group; in halves where Postgres refuses a value, down to the entry that has it.
    /// Returns the next group's number.
    async fn group(
        &mut self,
        mut place: Place<'_>,
        items: &[Item],
        on_event: &(dyn Fn(Event) + Sync),
    ) -> Result<i64> {
        let run_id = self.id.clone();
        place.run_id = &run_id;
        let all: Vec<&Item> = items.iter().collect();
        let mut left = vec![all];
        while let Some(part) = left.pop() {
            if part.is_empty() {
                continue;
            }
            let written = match self.steadily(place, &part, None).await? {
                Written::Refused(error) if part.len() > 1 => {
                    tracing::debug!("a group is split: {error}");
                    let (first, second) = part.split_at(part.len() / 2);
                    left.push(second.to_vec());
                    left.push(first.to_vec());
                    continue;
                }
                Written::Refused(error) => {
                    let refusal = refusal_of(&error);
                    self.steadily(place, &part, Some(&refusal)).await?
                }
                done @ Written::Done(_) => done,
            };
            let Written::Done(counts) = written else {
                return Err(Error::new(ErrorKind::Bug, "a reject was refused itself"));
            };
            let rejects = counts.counts.records.rejected;
            on_event(Event::Chunk { records: part.len() as u64, rejects });
            place.number += 1;
        }
        Ok(place.number)
    }

    /// Writes a group, again with a new connection while the server is away.
    async fn steadily(
        &mut self,
        place: Place<'_>,
        items: &[&Item],
        refused: Option<&Refusal>,
    ) -> Result<Written> {
        let mut tries = 1;
        loop {
            let error = match group::write(&mut self.conn, place, items, refused).await {
                Ok(written) => return Ok(written),
                Err(error) => error,
            };
            self.stop.check()?;
            let Some(pause) = pause(tries).filter(|_| is_passing(&error)) else {
                return Err(error);
            };
            tracing::warn!(tries, "{error}; retrying");
            tries += 1;
            let wait = async {
                tokio::time::sleep(pause).await;
                Ok(())
            };
            self.stop.unless(wait).await?;
            // The lost session's lock may take a moment to go.
            if self.conn.ping().await.is_err()
                && let Ok(mut conn) = self.connector.dedicated().await
                && require_exclusive(&mut conn, &self.preparation.pack).await.is_ok()
            {
                self.conn = conn;
            }
        }
    }

    /// Where a file was left: after which record, the next group's number, whether it is done.
    async fn standing(&mut self, file: &str) -> Result<(Option<Position>, i64, bool)> {
        let row = sqlx::query(
            "SELECT range_to::text AS at, chunk_no, mode FROM toolkit.chunk \
             WHERE run_id = $1::uuid AND stream = $2 AND source = $3 \
             ORDER BY chunk_no DESC LIMIT 1",
        )
        .bind(&self.id)
        .bind(STREAM)
        .bind(file)
        .fetch_optional(&mut self.conn)
        .await?;
        let Some(row) = row else { return Ok((None, 0, false)) };
        let at: Option<&str> = row.try_get("at")?;
        let at = at.and_then(|text| serde_json::from_str(text).ok());
        let is_done = row.try_get::<Option<&str>, _>("mode")? == Some("end");
        Ok((at, row.try_get::<i64, _>("chunk_no")? + 1, is_done))
    }

    async fn end_of_file(&mut self, file: &str, number: i64) -> Result<()> {
        sqlx::query(
            "INSERT INTO toolkit.chunk (run_id, stream, source, chunk_no, status, mode, counts, \
                 rows_read, bytes_read, committed_at) \
             VALUES ($1::uuid, $2, $3, $4, 'done', 'end', $5::jsonb, 0, 0, now())",
        )
        .bind(&self.id)
        .bind(STREAM)
        .bind(file)
        .bind(number)
        .bind(to_json(&EntryCounts::default())?)
        .execute(&mut self.conn)
        .await?;
        Ok(())
    }

    async fn ingestion_run(&mut self, artifact: &ArtifactFile) -> Result<i64> {
        let known = sqlx::query_scalar(
            "UPDATE ingestion_runs SET status = 'running', finished_at = NULL, error = NULL \
             WHERE toolkit_run_id = $1::uuid AND artifact_sha256 = $2 AND artifact_uri = $3 \
             RETURNING id",
        )
        .bind(&self.id)
        .bind(&artifact.sha256)
        .bind(artifact.source.path.display().to_string())
        .fetch_optional(&mut self.conn)
        .await?;
        if let Some(id) = known {
            return Ok(id);
        }
        Ok(sqlx::query_scalar(
            "INSERT INTO ingestion_runs (artifact_uri, artifact_sha256, toolkit_run_id) \
             VALUES ($3, $2, $1::uuid) RETURNING id",
        )
        .bind(&self.id)
        .bind(&artifact.sha256)
        .bind(artifact.source.path.display().to_string())
        .fetch_one(&mut self.conn)
        .await?)
    }

    async fn header_date(&mut self, run: i64) -> Result<Option<String>> {
        let date = "SELECT header ->> 'lastUpdate' FROM ingestion_runs WHERE id = $1";
        Ok(sqlx::query_scalar(date).bind(run).fetch_one(&mut self.conn).await?)
    }

    async fn remember_header(&mut self, group: &Group, artifact: &mut Artifact) -> Result<()> {
        let Some(header) = &group.header else { return Ok(()) };
        let text = canonical(header);
        let text = self
            .preparation
            .redactor
            .redact_text(text.as_bytes())
            .map_or(text, |clean| String::from_utf8_lossy(&clean.text).into_owned());
        sqlx::query("UPDATE ingestion_runs SET header = $2::jsonb WHERE id = $1")
            .bind(artifact.run)
            .bind(text)
            .execute(&mut self.conn)
            .await?;
        artifact.date = self.header_date(artifact.run).await?;
        Ok(())
    }

    async fn counts(&mut self, file: Option<&str>) -> Result<EntryCounts> {
        let rows: Vec<String> = sqlx::query_scalar(
            "SELECT counts::text FROM toolkit.chunk WHERE run_id = $1::uuid AND stream = $2 \
             AND ($3::text IS NULL OR source = $3)",
        )
        .bind(&self.id)
        .bind(STREAM)
        .bind(file)
        .fetch_all(&mut self.conn)
        .await?;
        let mut sum = EntryCounts::default();
        for row in rows {
            sum.add(&group::counts_of(&row)?);
        }
        Ok(sum)
    }

    async fn finish(&mut self, resumed: bool, resolution: Option<Resolution>) -> Result<Report> {
        let prepared = self.preparation;
        let total = self.counts(None).await?;
        let files: Vec<&str> = prepared.artifacts.iter().map(|a| a.file.as_str()).collect();
        sqlx::query(
            "UPDATE toolkit.reject SET state = 'resolved' WHERE pack = $2 AND stream = $3 \
             AND run_id <> $1::uuid AND source = ANY($4) AND state = 'open'",
        )
        .bind(&self.id)
        .bind(&prepared.pack)
        .bind(STREAM)
        .bind(files)
        .execute(&mut self.conn)
        .await?;
        let mut sidecars = Vec::new();
        for artifact in &prepared.artifacts {
            let path = sidecar::path_of(&artifact.source.path);
            if path.is_file() {
                sidecar::write(&mut self.conn, &artifact.source.path, &path).await?;
                sidecars.push(path);
            }
        }
        sqlx::query(
            "UPDATE toolkit.run SET status = 'completed', finished_at = now(), \
             counts = $2::jsonb, summary = $3::jsonb WHERE run_id = $1::uuid",
        )
        .bind(&self.id)
        .bind(to_json(&total.counts)?)
        .bind(to_json(&json!({ "resolution": resolution, "unknown_words": total.unknown_words }))?)
        .execute(&mut self.conn)
        .await?;
        let open_reviews =
            sqlx::query_scalar("SELECT count(*) FROM review_queue WHERE state = 'open'")
                .fetch_one(&mut self.conn)
                .await?;
        let mut artifacts = BTreeMap::new();
        for artifact in &prepared.artifacts {
            artifacts.insert(artifact.file.clone(), self.counts(Some(&artifact.file)).await?);
        }
        Ok(Report {
            run_id: self.id.clone(),
            pack: prepared.pack.clone(),
            resumed,
            artifacts,
            total,
            resolution,
            open_reviews,
            sidecars,
            rate: 0.0,
            seconds: 0.0,
        })
    }

    /// Marks the run; the store may be the very thing that failed, and the error matters more.
    async fn give_up(&mut self, error: &Error) {
        let status = if error.kind() == ErrorKind::Interrupted { "interrupted" } else { "failed" };
        if self.conn.ping().await.is_err() {
            let Ok(conn) = self.connector.dedicated().await else { return };
            self.conn = conn;
        }
        for (table, key) in [("toolkit.run", "run_id"), ("ingestion_runs", "toolkit_run_id")] {
            let statement = format!(
                "UPDATE {table} SET status = $2, finished_at = now(), error = $3 \
                 WHERE {key} = $1::uuid AND status = 'running'"
            );
            let marked = sqlx::query(crate::store::sql(statement))
                .bind(&self.id)
                .bind(status)
                .bind(error.detail())
                .execute(&mut self.conn)
                .await;
            if let Err(error) = marked {
                tracing::warn!("run {} could not be marked {status}: {error}", self.id);
            }
        }
    }
}

/// Why Postgres refused an entry.
fn refusal_of(error: &Error) -> Refusal {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(one) = cause {
        if let Some(sqlx::Error::Database(refused)) = one.downcast_ref::<sqlx::Error>() {
            let reason = match refused.code().as_deref() {
                Some("23505") => "unique_violation",
                Some("23503") => "orphan",
                Some("23514") => "check_violation",
                Some("23502") => "null_not_allowed",
                _ => "refused_by_postgres",
            };
            let constraint = refused.constraint().map(|name| format!(" ({name})"));
            let detail = format!("{}{}", refused.message(), constraint.unwrap_or_default());
            return Refusal::new(reason, detail);
        }
        cause = one.source();
    }
    Refusal::new("refused_by_postgres", error.detail().to_owned())
}
