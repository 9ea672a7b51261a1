//! What a run records of itself beside its groups: where it stands, its artifacts, its end.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::json;
use sqlx::Connection as _;
use sqlx::Row as _;

use crate::anime::doc::canonical;
use crate::anime::ingest::group::{self, EntryCounts, STREAM};
use crate::anime::ingest::reader::Group;
use crate::anime::ingest::{ArtifactFile, Report, Run};
use crate::anime::resolve::Resolution;
use crate::anime::sidecar;
use crate::anime::store::Artifact;
use crate::backfill::to_json;
use crate::error::{Error, ErrorKind, Result};
use crate::operator::user_at_host;
use crate::source::Position;

impl Run<'_> {
    /// Starts or resumes; true if resumed. Alone with the pack, so what was prepared is asked again.
    pub(super) async fn begin(&mut self) -> Result<bool> {
        let prepared = self.preparation;
        let resumes = if prepared.options.restart {
            None
        } else {
            prepared.unfinished(&mut self.conn).await?
        };
        if let Some(run_id) = resumes {
            sqlx::query(include_str!("../../sql/backfill/resume_run.sql"))
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
        sqlx::query(include_str!("../../sql/backfill/begin_run.sql"))
            .bind(&self.id)
            .bind(&prepared.pack)
            .bind(prepared.version)
            .bind(to_json(&prepared.settings())?)
            .bind(to_json(&prepared.inputs())?)
            .bind(env!("CARGO_PKG_VERSION"))
            .bind(i32::try_from(std::process::id()).ok())
            .bind(user_at_host())
            .execute(&mut self.conn)
            .await?;
        Ok(false)
    }

    /// Where a file was left: after which record, the next group's number, whether it is done.
    pub(super) async fn standing(&mut self, file: &str) -> Result<(Option<Position>, i64, bool)> {
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

    pub(super) async fn end_of_file(&mut self, file: &str, number: i64) -> Result<()> {
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

    pub(super) async fn ingestion_run(&mut self, artifact: &ArtifactFile) -> Result<i64> {
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

    pub(super) async fn header_date(&mut self, run: i64) -> Result<Option<String>> {
        let date = "SELECT header ->> 'lastUpdate' FROM ingestion_runs WHERE id = $1";
        Ok(sqlx::query_scalar(date).bind(run).fetch_one(&mut self.conn).await?)
    }

    pub(super) async fn remember_header(
        &mut self,
        group: &Group,
        artifact: &mut Artifact,
    ) -> Result<()> {
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

    pub(super) async fn counts(&mut self, file: Option<&str>) -> Result<EntryCounts> {
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

    pub(super) async fn finish(
        &mut self,
        resumed: bool,
        resolution: Option<Resolution>,
    ) -> Result<Report> {
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
        sqlx::query(
            "UPDATE toolkit.run SET status = 'completed', finished_at = now(), \
             counts = $2::jsonb, summary = $3::jsonb WHERE run_id = $1::uuid",
        )
        .bind(&self.id)
        .bind(to_json(&total.counts)?)
        .bind(to_json(&json!({ "resolution": resolution, "unknown_words": total.unknown_words }))?)
        .execute(&mut self.conn)
        .await?;
        let sidecars = self.sidecars().await?;
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

    /// Brings the sidecars that are there up to date. The run has ended: one that cannot be written
    /// holds up no other.
    async fn sidecars(&mut self) -> Result<Vec<PathBuf>> {
        let mut written = Vec::new();
        for artifact in &self.preparation.artifacts {
            let path = sidecar::path_of(&artifact.source.path);
            if path.is_file() {
                let done =
                    sidecar::write(&mut self.conn, &artifact.source.path, &path, false).await;
                done.map_err(|error| {
                    error.advice(
                        "every entry is in Postgres; make the sidecar's folder writable, or take \
                         the sidecar away",
                    )
                })?;
                written.push(path);
            }
        }
        Ok(written)
    }

    /// Marks the run; the store may be the very thing that failed, and the error matters more.
    pub(super) async fn give_up(&mut self, error: &Error) {
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
