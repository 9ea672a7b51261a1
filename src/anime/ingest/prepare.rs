//! What a run is about to read, and the run it goes on with.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use serde_json::json;
use sqlx::Connection as _;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use crate::anime::ingest::Options;
use crate::anime::ingest::group::STREAM;
use crate::anime::ingest::reader::refuse_foreign;
use crate::anime::policy::Policy;
use crate::anime::{PACK, documents};
use crate::cast::redact::Redactor;
use crate::config::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::pack::{Pack, join_error};
use crate::source::SourceFile;
use crate::source::discover::find_documents;
use crate::store::Postgres;

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
    pub(super) policy: Policy,
    #[serde(skip)]
    pub(super) redactor: Arc<Redactor>,
    #[serde(skip)]
    pub(super) version: i32,
    #[serde(skip)]
    fingerprint: String,
    #[serde(skip)]
    pub(super) options: Options,
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
    pub(in crate::anime) source: SourceFile,
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
    let mut conn = postgres.dedicated().await?;
    crate::migrate::require_current(&mut conn, PACK).await?;
    crate::migrate::require_current(&mut conn, crate::migrate::CONTROL_PACK).await?;
    options.manners.check(&mut conn).await?;
    let artifacts = artifacts(&mut conn, pack, roots).await?;
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

/// Finds the artifacts below `roots`, or where the pack usually has one.
pub(in crate::anime) async fn artifacts(
    conn: &mut PgConnection,
    pack: &Pack,
    roots: &[PathBuf],
) -> Result<Vec<ArtifactFile>> {
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
    let mut artifacts = Vec::new();
    for source in files {
        refuse_foreign(&source)?;
        let is_known = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM ingestion_runs WHERE artifact_sha256 = $1 \
             AND status = 'completed')",
        )
        .bind(&source.sha256)
        .fetch_one(&mut *conn)
        .await?;
        artifacts.push(ArtifactFile {
            file: source.relative.clone(),
            sha256: source.sha256.clone(),
            bytes: source.size_bytes,
            is_known,
            source,
        });
    }
    Ok(artifacts)
}

impl Preparation {
    pub(super) fn inputs(&self) -> Vec<serde_json::Value> {
        let input = |artifact: &ArtifactFile| {
            json!({ "stream": STREAM, "source": artifact.file, "token": artifact.sha256,
                    "sha256": artifact.sha256, "files": 1, "bytes": artifact.bytes })
        };
        self.artifacts.iter().map(input).collect()
    }

    pub(super) fn settings(&self) -> serde_json::Value {
        json!({ "pack_version": self.version, "pack_fingerprint": self.fingerprint })
    }

    /// The run to go on with; an error if it was started with something else.
    pub(super) async fn unfinished(&self, conn: &mut PgConnection) -> Result<Option<String>> {
        let row = sqlx::query(include_str!("../../sql/backfill/unfinished_run.sql"))
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
