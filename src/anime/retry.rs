//! Refused records of artifacts, as they are kept or corrected, through the same reading, policy
//! and rows as a backfill.
//!
//! A record, its ledger entry and its reject's new state commit in one transaction. The artifact
//! still has what was refused: a later backfill knows it as corrected, and skips it.

use std::collections::HashMap;
use std::sync::Arc;

use sqlx::Connection as _;
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use crate::anime::entry::{self, Read};
use crate::anime::ingest::{STREAM, refusal_of};
use crate::anime::policy::Policy;
use crate::anime::store::{Artifact, Fate, Turn, write_group};
use crate::anime::{PACK, documents, resolve};
use crate::backfill::{
    LeftAlone, Recorded, RefusedAgain, Retry, RetryOptions, SETTINGS, begin_retry, end_retry,
    is_about_data, record_ledger, release_exclusive, require_exclusive, wanted_rejects,
};
use crate::canonical::sha256;
use crate::cast::Refusal;
use crate::cast::redact::Redactor;
use crate::config::Settings;
use crate::derive::{CORRECTED, LedgerEntry, original_bytes};
use crate::error::{Error, Result};
use crate::interrupt::Stop;
use crate::json::Json;
use crate::ledger::CorrectedLine;
use crate::pack::Pack;
use crate::source::{Content, RawBytes};
use crate::store::{Postgres, sql};

/// Tries rejects of the pack again; relations find their targets at the end.
///
/// Errors: a number that is no reject of the pack, another command of the pack at work.
pub async fn retry(
    settings: &Settings,
    postgres: &Postgres,
    pack: &Pack,
    options: &RetryOptions,
    stop: &Stop,
) -> Result<Retry> {
    let policy = documents(pack)?.policy;
    let redactor = Arc::new(crate::pack::opened::open_redactor(settings, pack)?);
    let mut conn = postgres.dedicated().await?;
    crate::migrate::require_current(&mut conn, PACK).await?;
    crate::migrate::require_current(&mut conn, crate::migrate::CONTROL_PACK).await?;
    require_exclusive(&mut conn, PACK).await?;
    let mut done = Retry { pack: PACK.to_owned(), ..Retry::default() };
    let wanted = wanted_rejects(&mut conn, PACK, options, &mut done).await?;
    let ids: Vec<i64> = wanted.into_values().flatten().collect();
    let run_id = uuid::Uuid::new_v4().to_string();
    if !options.dry_run && !ids.is_empty() {
        begin_retry(&mut conn, &run_id, PACK, options).await?;
        done.run_id = Some(run_id.clone());
    }
    let lines = options.corrected.iter().flatten().map(|line| (line.id, line)).collect();
    let mut work =
        Work { policy, redactor: &redactor, run_id: &run_id, options, lines, done: &mut done };
    for id in &ids {
        stop.check()?;
        work.one(&mut conn, *id).await?;
    }
    if done.run_id.is_some() {
        resolve::apply(&mut conn, &run_id, false).await?;
        end_retry(&mut conn, &run_id, &done).await?;
    }
    release_exclusive(&mut conn, PACK).await?;
    conn.close().await?;
    Ok(done)
}

struct Work<'a> {
    policy: Policy,
    redactor: &'a Redactor,
    run_id: &'a str,
    options: &'a RetryOptions,
    lines: HashMap<i64, &'a CorrectedLine>,
    done: &'a mut Retry,
}

impl Work<'_> {
    async fn one(&mut self, conn: &mut PgConnection, id: i64) -> Result<()> {
        let mut tx = conn.begin().await?;
        sqlx::raw_sql(sql(SETTINGS.to_owned())).execute(&mut *tx).await?;
        let row = sqlx::query(include_str!("../sql/ledger/retried.sql"))
            .bind(vec![id])
            .fetch_optional(&mut *tx)
            .await?;
        let Some(row) = row else { return Ok(()) };
        let line = self.lines.get(&id).copied();
        let record: Option<Vec<u8>> = row.try_get("record")?;
        if row.try_get("secret")? && line.is_none() {
            let why = "a secret was removed from it, which only the artifact has".to_owned();
            self.done.left.push(LeftAlone { id, why, is_stored: false });
            return Ok(());
        }
        let kept = record.unwrap_or_default();
        let bytes = line.map_or(&kept, |line| &line.record);
        let refusal = match self.store(&mut tx, bytes, &row).await? {
            Ok(()) => None,
            Err(refusal) => {
                tx.rollback().await?;
                tx = conn.begin().await?;
                Some(refusal)
            }
        };
        let is_same = *bytes == kept;
        self.settle(&mut tx, &row, (bytes, is_same), refusal.as_ref()).await?;
        if self.options.dry_run {
            tx.rollback().await?;
        } else {
            tx.commit().await?;
        }
        match refusal {
            Some(Refusal { reason, detail, .. }) => {
                let refused = RefusedAgain { id, column: None, reason: reason.to_owned(), detail };
                self.done.refused.push(refused);
            }
            None if is_same => self.done.resolved.push(id),
            None => self.done.retried.push(id),
        }
        Ok(())
    }

    /// Reads and writes a record, or says why not.
    async fn store(
        &self,
        tx: &mut PgConnection,
        bytes: &[u8],
        row: &PgRow,
    ) -> Result<std::result::Result<(), Refusal>> {
        let refused = |reason: &'static str, detail: String| Ok(Err(Refusal::new(reason, detail)));
        let json = match crate::json::parse(bytes) {
            Ok(json) => json,
            Err(error) => return refused("invalid_json", error.to_string()),
        };
        let entry = match entry::read(&json, false, self.redactor, &mut Vec::new()) {
            Ok(Read::Entry(entry)) => entry,
            Ok(Read::Header(_)) => {
                return refused("wrong_type", "it is a header, not an entry".to_owned());
            }
            Err(refusal) => return Ok(Err(refusal)),
        };
        let artifact = Artifact {
            run: self.artifact(tx, row.try_get("source")?).await?,
            date: None,
            again: false,
        };
        match write_group(tx, &artifact, &self.policy, &[&entry], &Turn::First).await {
            Ok(outcome) => match outcome.fates.into_values().next() {
                Some(Fate::Rejected(refusal)) => Ok(Err(refusal)),
                _ => Ok(Ok(())),
            },
            Err(error) if is_about_data(&error) => Ok(Err(refusal_of(&error))),
            Err(error) => Err(error),
        }
    }

    /// The row of this retry in `ingestion_runs`, one per artifact.
    async fn artifact(&self, tx: &mut PgConnection, source: &str) -> Result<i64> {
        let known = sqlx::query_scalar(
            "SELECT id FROM ingestion_runs WHERE toolkit_run_id = $1::uuid AND artifact_uri = $2",
        )
        .bind(self.run_id)
        .bind(source)
        .fetch_optional(&mut *tx)
        .await?;
        if let Some(id) = known {
            return Ok(id);
        }
        // No artifact has what was corrected.
        Ok(sqlx::query_scalar(
            "INSERT INTO ingestion_runs (artifact_uri, artifact_sha256, toolkit_run_id, status, \
                 finished_at) VALUES ($2, 'rejects retry', $1::uuid, 'completed', now()) \
             RETURNING id",
        )
        .bind(self.run_id)
        .bind(source)
        .fetch_one(tx)
        .await?)
    }

    async fn settle(
        &self,
        tx: &mut PgConnection,
        row: &PgRow,
        (bytes, is_same): (&[u8], bool),
        refusal: Option<&Refusal>,
    ) -> Result<()> {
        let id: i64 = row.try_get("id")?;
        if let Some(refusal) = refusal {
            // Its reason is part of how a later backfill knows it.
            sqlx::query("UPDATE toolkit.reject SET state = 'open', detail = $2 WHERE id = $1")
                .bind(id)
                .bind(refusal.detail.replace('\0', "\u{fffd}"))
                .execute(tx)
                .await?;
            return Ok(());
        }
        let corrected = (!is_same).then(|| without_secrets(bytes, self.redactor));
        sqlx::query(
            "UPDATE toolkit.reject SET state = $2, corrected = $3, retried_by = $4::uuid \
             WHERE pack = $5 AND stream = $6 AND record_sha256 = \
                 (SELECT record_sha256 FROM toolkit.reject WHERE id = $1) \
               AND state IN ('open', 'acknowledged')",
        )
        .bind(id)
        .bind(if is_same { "resolved" } else { "retried" })
        .bind(&corrected)
        .bind(self.run_id)
        .bind(PACK)
        .bind(STREAM)
        .execute(&mut *tx)
        .await?;
        if corrected.is_none() || self.options.dry_run {
            return Ok(());
        }
        let digest: Vec<u8> = row.try_get("record_sha256")?;
        let entry = LedgerEntry {
            output: String::new(),
            source: row.try_get("source")?,
            locator: row.try_get("locator")?,
            column: String::new(),
            rule: CORRECTED.to_owned(),
            path: String::new(),
            original: row.try_get("record")?,
            original_hash: digest.try_into().unwrap_or_default(),
            secret: row.try_get("secret")?,
            target_digest: Some(sha256(bytes)),
        };
        let recorded = Recorded { run_id: self.run_id, pack: PACK, stream: STREAM };
        record_ledger(tx, recorded, &[entry]).await
    }
}

/// As it may be kept.
fn without_secrets(bytes: &[u8], redactor: &Redactor) -> Vec<u8> {
    let root = Json::Null;
    match crate::json::parse(bytes) {
        Ok(element) => {
            let bytes = RawBytes::Held(bytes);
            original_bytes(&Content::Json { element: &element, root: &root, bytes }, redactor).0
        }
        Err(_) => Vec::new(),
    }
}

/// Digests of records that are stored corrected.
pub(super) async fn corrected(conn: &mut PgConnection) -> Result<Vec<[u8; 32]>> {
    let digests: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT record_sha256 FROM toolkit.reject WHERE pack = $1 AND stream = $2 \
         AND state = 'retried'",
    )
    .bind(PACK)
    .bind(STREAM)
    .fetch_all(conn)
    .await
    .map_err(Error::from)?;
    Ok(digests.into_iter().filter_map(|digest| digest.try_into().ok()).collect())
}
