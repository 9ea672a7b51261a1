//! The sidecar: the ingestion state as a file beside the artifact. Postgres is authoritative; the
//! file is its portable backup.
//!
//! One JSON document: `format`, `version`, `artifact` (file name, SHA-256), `tool_version`, `counts`,
//! `runs` and `anime`, one line per entry, sorted by id. Equal state gives equal bytes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use futures_util::TryStreamExt as _;
use serde::Serialize;
use sqlx::Connection as _;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use crate::anime::PACK;
use crate::anime::doc::{canonical, stored_json};
use crate::backfill::{release_exclusive, require_exclusive};
use crate::canonical::sha256;
use crate::error::{Error, ErrorKind, Result};
use crate::json::Json;
use crate::source::discover::hash_file;
use crate::source::documents::{DocumentKind, DocumentSource};
use crate::source::{Content, Flow, SourceFile};
use crate::whole_file::WholeFile;

const FORMAT: &str = "toolkit.anime.ingestion_state";
const VERSION: i64 = 1;

/// The sidecar's place: beside the artifact, its extension replaced.
#[must_use]
pub fn path_of(artifact: &Path) -> PathBuf {
    artifact.with_extension("ingestion_state.json")
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Written {
    /// The file.
    pub file: PathBuf,
    /// Runs in it.
    pub runs: i64,
    /// Anime in it.
    pub anime: i64,
    /// Nothing was written.
    pub dry_run: bool,
}

const RUNS: &str = "SELECT (to_jsonb(r))::text AS line FROM ingestion_runs r ORDER BY id";
const STATES: &str = "SELECT (to_jsonb(s))::text AS line FROM anime_ingestion_state s \
                      ORDER BY anime_id";

/// Writes the sidecar of `artifact` to `path`, whole or not at all, in memory of one entry.
/// `dry_run`: says what would be in it.
pub async fn write(
    conn: &mut PgConnection,
    artifact: &Path,
    path: &Path,
    dry_run: bool,
) -> Result<Written> {
    let named = artifact.to_path_buf();
    let (sha256, _) = tokio::task::spawn_blocking(move || hash_file(&named))
        .await
        .map_err(crate::pack::join_error)??;
    let mut tx = conn.begin().await?;
    sqlx::raw_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        .execute(&mut *tx)
        .await?;
    let counts = sqlx::query(
        "SELECT (SELECT count(*) FROM ingestion_runs) AS runs, \
                (SELECT count(*) FROM anime_ingestion_state) AS anime",
    )
    .fetch_one(&mut *tx)
    .await?;
    let (runs, anime): (i64, i64) = (counts.try_get("runs")?, counts.try_get("anime")?);
    let written = Written { file: path.to_path_buf(), runs, anime, dry_run };
    if dry_run {
        return Ok(written);
    }
    let name = artifact.file_name().unwrap_or_default().to_string_lossy();
    let header = serde_json::json!({
        "format": FORMAT,
        "version": VERSION,
        "artifact": { "file": name, "sha256": sha256 },
        "tool_version": env!("CARGO_PKG_VERSION"),
        "counts": { "runs": runs, "anime": anime },
    })
    .to_string();
    let mut file = WholeFile::begin(path)?;
    file.write(header.strip_suffix('}').unwrap_or(&header).as_bytes())?;
    for (list, statement) in [("runs", RUNS), ("anime", STATES)] {
        file.write(format!(",\n\"{list}\": [").as_bytes())?;
        let mut separator = "\n";
        let mut rows = sqlx::query(statement).fetch(&mut *tx);
        while let Some(row) = rows.try_next().await? {
            file.write(separator.as_bytes())?;
            // In jsonb's own order of keys, which does not change.
            file.write(row.try_get::<&str, _>("line")?.as_bytes())?;
            separator = ",\n";
        }
        file.write(b"\n]")?;
    }
    file.write(b"}\n")?;
    file.finish()?;
    tx.rollback().await?;
    Ok(written)
}

/// Ids on one side, on the other, and on both with other content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Differences {
    /// In Postgres, not in the sidecar.
    pub missing: Vec<String>,
    /// In the sidecar, not in Postgres.
    pub extra: Vec<String>,
    /// In both, with other content.
    pub stale: Vec<String>,
    /// In both and equal.
    pub equal: u64,
}

impl Differences {
    /// Whether there are none.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.missing.is_empty() && self.extra.is_empty() && self.stale.is_empty()
    }
}

/// The sidecar compared with Postgres, in both directions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Parity {
    /// The sidecar.
    pub file: PathBuf,
    /// SHA-256 of the sidecar; equal state gives equal bytes.
    pub sha256: String,
    /// Whether the artifact is the one the sidecar was written beside.
    pub is_of_artifact: bool,
    /// By id of the run.
    pub runs: Differences,
    /// By id of the anime.
    pub anime: Differences,
}

impl Parity {
    /// Whether both sides hold the same.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.is_of_artifact && self.runs.is_clean() && self.anime.is_clean()
    }
}

/// What a sidecar holds, each line as Postgres would print it.
struct Sidecar {
    sha256: String,
    artifact_sha256: String,
    runs: Vec<(i64, String)>,
    digests: BTreeMap<String, [u8; 32]>,
}

/// Compares a sidecar with Postgres. Memory: about 100 bytes per anime.
pub async fn check(conn: &mut PgConnection, artifact: &Path, path: &Path) -> Result<Parity> {
    crate::migrate::require_current(conn, PACK).await?;
    let (named, beside) = (artifact.to_path_buf(), path.to_path_buf());
    let (sha256_now, sidecar) = tokio::task::spawn_blocking(move || -> Result<_> {
        let (sha256, _) = hash_file(&named)?;
        Ok((sha256, read(&beside, &mut |_, _| Ok(()))?))
    })
    .await
    .map_err(crate::pack::join_error)??;
    let mut tx = conn.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let mut runs = Differences::default();
    let mut in_file: BTreeMap<String, [u8; 32]> =
        sidecar.runs.iter().map(|(id, line)| (id.to_string(), sha256(line.as_bytes()))).collect();
    compare(&mut tx, RUNS, "id", &mut in_file, &mut runs).await?;
    let mut anime = Differences::default();
    let mut in_file = sidecar.digests;
    compare(&mut tx, STATES, "anime_id", &mut in_file, &mut anime).await?;
    let is_of_artifact = sha256_now == sidecar.artifact_sha256;
    tx.rollback().await?;
    let sha256 = sidecar.sha256;
    Ok(Parity { file: path.to_path_buf(), sha256, is_of_artifact, runs, anime })
}

async fn compare(
    conn: &mut PgConnection,
    statement: &'static str,
    key: &str,
    in_file: &mut BTreeMap<String, [u8; 32]>,
    differences: &mut Differences,
) -> Result<()> {
    let mut rows = sqlx::query(statement).fetch(conn);
    while let Some(row) = rows.try_next().await? {
        let line = stored_json(row.try_get("line")?)?;
        let id = key_of(&line, key)?;
        match in_file.remove(&id) {
            None => differences.missing.push(id),
            Some(digest) if digest == sha256(canonical(&line).as_bytes()) => differences.equal += 1,
            Some(_) => differences.stale.push(id),
        }
    }
    differences.extra.extend(std::mem::take(in_file).into_keys());
    Ok(())
}

fn key_of(line: &Json, key: &str) -> Result<String> {
    match line.get(key) {
        Some(Json::String(id)) => Ok(String::from_utf8_lossy(id).into_owned()),
        Some(Json::Number(id)) => Ok(id.to_string()),
        _ => Err(Error::new(ErrorKind::SourceUnreadable, format!("an entry has no {key}"))),
    }
}

/// Reads a sidecar, anime by anime. Blocking.
fn read(path: &Path, on_anime: &mut dyn FnMut(&str, String) -> Result<()>) -> Result<Sidecar> {
    let broken = |what: &str| {
        Error::new(ErrorKind::SourceUnreadable, format!("{} is no sidecar: {what}", path.display()))
            .advice("write it anew with `toolkit sidecar write`: Postgres is authoritative")
    };
    if !path.is_file() {
        let detail = format!("there is no sidecar {}", path.display());
        return Err(Error::new(ErrorKind::SourceMissing, detail).advice(
            "`toolkit sidecar write --source FILE` writes it, --file names one that is elsewhere",
        ));
    }
    let (sha256_of_file, size_bytes) = hash_file(path)?;
    let file = SourceFile {
        path: path.to_path_buf(),
        relative: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        sha256: sha256_of_file.clone(),
        size_bytes,
    };
    let mut sidecar = Sidecar {
        sha256: sha256_of_file,
        artifact_sha256: String::new(),
        runs: Vec::new(),
        digests: BTreeMap::new(),
    };
    let head = |sidecar: &mut Sidecar, root: &Json| -> Result<()> {
        let text = |name: &str| root.get(name).and_then(Json::as_str).unwrap_or_default();
        if text("format") != FORMAT || root.get("version").and_then(Json::as_i64) != Some(VERSION) {
            return Err(broken("its format or version is another"));
        }
        let artifact = root.pointer("/artifact/sha256").and_then(Json::as_str).unwrap_or_default();
        artifact.clone_into(&mut sidecar.artifact_sha256);
        for run in root.get("runs").into_iter().flat_map(Json::iter) {
            let id =
                run.get("id").and_then(Json::as_i64).ok_or_else(|| broken("a run has no id"))?;
            sidecar.runs.push((id, canonical(run)));
        }
        Ok(())
    };
    // The list of anime may be empty, and what stands beside it is wanted even so.
    let kind = |records: Option<&str>| DocumentKind::Json {
        records: records.map(str::to_owned),
        beside: vec!["/runs".to_owned()],
    };
    let mut is_headed = false;
    let mut anime = DocumentSource::new(vec![file.clone()], kind(Some("/anime")));
    anime.read(None, &mut |record| {
        let Content::Json { element, root, .. } = &record.content else {
            return Err(broken("it is cut off or not JSON"));
        };
        if !std::mem::replace(&mut is_headed, true) {
            head(&mut sidecar, root)?;
        }
        let line = canonical(element);
        let id = key_of(element, "anime_id")?;
        if sidecar.digests.insert(id.clone(), sha256(line.as_bytes())).is_some() {
            return Err(broken(&format!("{id} is in it twice")));
        }
        on_anime(&id, line)?;
        Ok(Flow::Continue)
    })?;
    if !is_headed {
        let mut whole = DocumentSource::new(vec![file], kind(None));
        whole.read(None, &mut |record| {
            let Content::Json { root, .. } = &record.content else {
                return Err(broken("it is not JSON"));
            };
            head(&mut sidecar, root)?;
            Ok(Flow::Continue)
        })?;
    }
    Ok(sidecar)
}

/// What a restore did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// Runs in the sidecar.
    pub runs: u64,
    /// States that were written.
    pub states: u64,
    /// Anime of the sidecar that Postgres does not have.
    pub without_anime: Vec<String>,
    /// It was taken back.
    pub dry_run: bool,
}

/// States sent at once.
const LINES_AT_ONCE: usize = 2_000;

/// Rebuilds `ingestion_runs` and `anime_ingestion_state` from a sidecar, in one transaction. What
/// Postgres has is replaced only with `replace`: it is authoritative. `dry_run`: taken back.
pub async fn restore(
    conn: &mut PgConnection,
    path: &Path,
    replace: bool,
    dry_run: bool,
) -> Result<Restored> {
    crate::migrate::require_current(conn, PACK).await?;
    require_exclusive(conn, PACK).await?;
    let restored = restore_alone(conn, path, replace, dry_run).await;
    release_exclusive(conn, PACK).await?;
    restored
}

async fn restore_alone(
    conn: &mut PgConnection,
    path: &Path,
    replace: bool,
    dry_run: bool,
) -> Result<Restored> {
    let beside = path.to_path_buf();
    let (sender, mut lines) = tokio::sync::mpsc::channel::<Vec<String>>(2);
    let reading = tokio::task::spawn_blocking(move || {
        let mut batch = Vec::new();
        let gone = || Error::new(ErrorKind::Interrupted, "the restore ended");
        let sidecar = read(&beside, &mut |_, line| {
            batch.push(line);
            if batch.len() >= LINES_AT_ONCE {
                sender.blocking_send(std::mem::take(&mut batch)).map_err(|_| gone())?;
            }
            Ok(())
        })?;
        sender.blocking_send(batch).map_err(|_| gone())?;
        Ok::<_, Error>(sidecar)
    });
    let mut tx = conn.begin().await?;
    let held: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM anime_ingestion_state) + (SELECT count(*) FROM ingestion_runs)",
    )
    .fetch_one(&mut *tx)
    .await?;
    if held > 0 && !replace {
        let detail = format!("Postgres has {held} rows of ingestion state, and is authoritative");
        return Err(Error::new(ErrorKind::Usage, detail).advice(
            "compare with `toolkit sidecar check`; --replace throws Postgres's state away",
        ));
    }
    let mut restored = Restored { dry_run, ..Restored::default() };
    sqlx::raw_sql(
        "CREATE TEMPORARY TABLE sidecar_state ON COMMIT DROP AS \
         SELECT * FROM anime_ingestion_state WHERE false; \
         DELETE FROM anime_ingestion_state; \
         CREATE TEMPORARY TABLE review_runs ON COMMIT DROP AS \
         SELECT id, run_id FROM review_queue WHERE run_id IS NOT NULL; \
         DELETE FROM ingestion_runs",
    )
    .execute(&mut *tx)
    .await?;
    while let Some(batch) = lines.recv().await {
        sqlx::query(
            "INSERT INTO sidecar_state SELECT (jsonb_populate_record(NULL::anime_ingestion_state, \
             line::jsonb)).* FROM unnest($1::text[]) AS line",
        )
        .bind(batch)
        .execute(&mut *tx)
        .await?;
    }
    let sidecar = reading.await.map_err(crate::pack::join_error)??;
    restored.runs = sidecar.runs.len() as u64;
    let runs: Vec<String> = sidecar.runs.into_iter().map(|(_, line)| line).collect();
    sqlx::query(
        "INSERT INTO ingestion_runs SELECT (jsonb_populate_record(NULL::ingestion_runs, \
         line::jsonb)).* FROM unnest($1::text[]) AS line",
    )
    .bind(runs)
    .execute(&mut *tx)
    .await?;
    restored.states = sqlx::query(
        "INSERT INTO anime_ingestion_state SELECT s.* FROM sidecar_state s \
         JOIN anime a ON a.id = s.anime_id",
    )
    .execute(&mut *tx)
    .await?
    .rows_affected();
    restored.without_anime = sqlx::query_scalar(
        "SELECT s.anime_id::text FROM sidecar_state s \
         WHERE NOT EXISTS (SELECT FROM anime a WHERE a.id = s.anime_id) ORDER BY 1",
    )
    .fetch_all(&mut *tx)
    .await?;
    // The next run gets a number of its own, and reviews their runs back.
    sqlx::raw_sql(
        "SELECT setval('ingestion_runs_id_seq', greatest((SELECT max(id) FROM ingestion_runs), 1), \
             EXISTS (SELECT FROM ingestion_runs)); \
         UPDATE review_queue q SET run_id = r.run_id FROM review_runs r \
         WHERE q.id = r.id AND EXISTS (SELECT FROM ingestion_runs i WHERE i.id = r.run_id)",
    )
    .execute(&mut *tx)
    .await?;
    if dry_run {
        tx.rollback().await?;
    } else {
        tx.commit().await?;
    }
    Ok(restored)
}
