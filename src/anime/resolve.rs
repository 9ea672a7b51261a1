//! Edges whose target was not stored when they were, against the references that are known now.
//!
//! Idempotent: what is resolved stays, what leads nowhere stays and is counted. An edge that turns
//! out to be one that is there already is united with it: all urls, and what it says otherwise. An
//! anime that relates to itself does not, and its edge goes to the ledger.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use sqlx::Connection as _;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use crate::anime::PACK;
use crate::anime::urls;
use crate::backfill::{Recorded, record_ledger, release_exclusive, require_exclusive};
use crate::canonical::sha256;
use crate::derive::LedgerEntry;
use crate::error::{Error, Result};
use crate::store::sql;

/// What the resolver did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Resolution {
    /// By table.
    pub tables: BTreeMap<&'static str, Resolved>,
    /// Edges that turned out to lead to the other kind of original work.
    pub moved: u64,
}

/// What became of a table's edges.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Resolved {
    /// Edges that found their target.
    pub resolved: u64,
    /// Edges that were united with another.
    pub merged: u64,
    /// Edges of an anime to itself, removed with a ledger entry.
    pub self_edges: u64,
    /// Edges whose urls belong to several targets; they stay as they are.
    pub ambiguous: u64,
    /// Edges without a target, by the platform of their reference.
    pub unresolved: BTreeMap<String, i64>,
}

/// A table of edges and what its columns are called.
struct Edges {
    table: &'static str,
    from: &'static str,
    to: &'static str,
    prefix: &'static str,
    xref: &'static str,
    xref_key: &'static str,
    /// The target's format, where the table has it.
    format: &'static str,
}

const TABLES: [Edges; 3] = [
    Edges {
        table: "anime_relation",
        from: "from_anime_id",
        to: "to_anime_id",
        prefix: "to",
        xref: "anime_xref",
        xref_key: "anime_id",
        format: "to_anime_type",
    },
    Edges {
        table: "anime_manga_relation",
        from: "anime_id",
        to: "manga_id",
        prefix: "manga",
        xref: "manga_xref",
        xref_key: "manga_id",
        format: "NULL::text",
    },
    Edges {
        table: "anime_work_relation",
        from: "anime_id",
        to: "work_id",
        prefix: "work",
        xref: "original_work_xref",
        xref_key: "work_id",
        format: "NULL::text",
    },
];

impl Edges {
    /// Puts the table's names into a statement.
    fn sql(&self, template: &str) -> String {
        template
            .replace("{table}", self.table)
            .replace("{from}", self.from)
            .replace("{to}", self.to)
            .replace("{p}", self.prefix)
            .replace("{xref}", self.xref)
            .replace("{key}", self.xref_key)
            .replace("{format}", self.format)
    }
}

/// Resolves as a command of its own: alone with the pack, recorded as a run. `dry_run`: the same,
/// and then taken back.
pub async fn resolve(conn: &mut PgConnection, dry_run: bool) -> Result<(String, Resolution)> {
    crate::migrate::require_current(conn, PACK).await?;
    crate::migrate::require_current(conn, crate::migrate::CONTROL_PACK).await?;
    require_exclusive(conn, PACK).await?;
    let run_id = uuid::Uuid::new_v4().to_string();
    if !dry_run {
        begin(conn, &run_id, "resolve").await?;
    }
    let done = apply(conn, &run_id, dry_run).await;
    if !dry_run {
        end(conn, &run_id, done.as_ref().map(|_| ()).map_err(Error::detail)).await?;
    }
    release_exclusive(conn, PACK).await?;
    Ok((run_id, done?))
}

/// Records the beginning of a command of the pack.
pub(super) async fn begin(conn: &mut PgConnection, run_id: &str, command: &str) -> Result<()> {
    sqlx::query(
        "INSERT INTO toolkit.run (run_id, command, pack, status, tool_version, pid) \
         VALUES ($1::uuid, $2, $3, 'running', $4, $5)",
    )
    .bind(run_id)
    .bind(command)
    .bind(PACK)
    .bind(env!("CARGO_PKG_VERSION"))
    .bind(i32::try_from(std::process::id()).ok())
    .execute(conn)
    .await?;
    Ok(())
}

/// Records the end of a command of the pack.
pub(super) async fn end(
    conn: &mut PgConnection,
    run_id: &str,
    outcome: std::result::Result<(), &str>,
) -> Result<()> {
    sqlx::query(
        "UPDATE toolkit.run SET status = $2, finished_at = now(), error = $3 \
         WHERE run_id = $1::uuid",
    )
    .bind(run_id)
    .bind(if outcome.is_ok() { "completed" } else { "failed" })
    .bind(outcome.err())
    .execute(conn)
    .await?;
    Ok(())
}

/// Resolves in one transaction, which is rolled back in a dry run.
pub(super) async fn apply(
    conn: &mut PgConnection,
    run_id: &str,
    dry_run: bool,
) -> Result<Resolution> {
    let mut tx = conn.begin().await?;
    // Without statistics of what was just loaded, plans of the many small joins go astray.
    sqlx::raw_sql("SET LOCAL jit = off; SET LOCAL work_mem = '64MB'").execute(&mut *tx).await?;
    let mut done = Resolution { moved: move_works(&mut tx).await?, ..Resolution::default() };
    for edges in &TABLES {
        let mut resolved = Resolved::default();
        find(&mut tx, edges, &mut resolved).await?;
        resolved.self_edges = remove_self(&mut tx, edges, run_id).await?;
        unite(&mut tx, edges, &mut resolved).await?;
        resolved.unresolved = unresolved(&mut tx, edges).await?;
        done.tables.insert(edges.table, resolved);
    }
    if dry_run {
        tx.rollback().await?;
    } else {
        tx.commit().await?;
    }
    Ok(done)
}

/// An edge to a manga whose reference is another original work's, or the other way round, moves.
async fn move_works(tx: &mut PgConnection) -> Result<u64> {
    let mut moved = 0;
    for (here, there) in [(&TABLES[1], &TABLES[2]), (&TABLES[2], &TABLES[1])] {
        let statement = include_str!("../sql/anime/move_edges.sql")
            .replace("{here}", here.table)
            .replace("{h}", here.prefix)
            .replace("{here_id}", here.to)
            .replace("{here_xref}", here.xref)
            .replace("{there}", there.table)
            .replace("{t}", there.prefix)
            .replace("{there_id}", there.to)
            .replace("{there_xref}", there.xref);
        moved += sqlx::query(sql(statement)).execute(&mut *tx).await?.rows_affected();
    }
    Ok(moved)
}

/// Fills the temporary table `found_target`: by the primary reference, else by any other url.
async fn find(tx: &mut PgConnection, edges: &Edges, resolved: &mut Resolved) -> Result<()> {
    let statement = edges.sql(
        "DROP TABLE IF EXISTS found_target; \
         CREATE TEMPORARY TABLE found_target ON COMMIT DROP AS \
         SELECT e.id, x.{key} AS target FROM {table} e \
         JOIN {xref} x ON x.source = e.{p}_ref_source AND x.external_id = e.{p}_ref_external_id \
         WHERE e.{to} IS NULL; \
         ALTER TABLE found_target ADD PRIMARY KEY (id); ANALYZE found_target",
    );
    sqlx::raw_sql(sql(statement)).execute(&mut *tx).await?;
    by_other_urls(tx, edges, resolved).await
}

/// Edges looked at by all their urls at once.
const PAGE: i64 = 5_000;

async fn by_other_urls(
    tx: &mut PgConnection,
    edges: &Edges,
    resolved: &mut Resolved,
) -> Result<()> {
    let page = edges.sql(
        "SELECT e.id, e.{p}_urls AS urls FROM {table} e \
         WHERE e.{to} IS NULL AND e.id > $1 AND cardinality(e.{p}_urls) > 1 \
           AND NOT EXISTS (SELECT FROM found_target f WHERE f.id = e.id) \
         ORDER BY e.id LIMIT $2",
    );
    let lookup = edges.sql(
        "SELECT w.id, x.{key}::text AS target \
         FROM unnest($1::bigint[], $2::text[], $3::text[]) AS w (id, source, external_id) \
         JOIN {xref} x USING (source, external_id) GROUP BY w.id, x.{key}",
    );
    let mut after = i64::MIN;
    loop {
        let rows =
            sqlx::query(sql(page.clone())).bind(after).bind(PAGE).fetch_all(&mut *tx).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.try_get("id")?;
        let (mut ids, mut sources, mut external) = (Vec::new(), Vec::new(), Vec::new());
        for row in &rows {
            let urls: Vec<String> = row.try_get("urls")?;
            for url in urls {
                let reference = urls::parse(&url);
                ids.push(row.try_get::<i64, _>("id")?);
                sources.push(reference.source);
                external.push(reference.external_id);
            }
        }
        let found = sqlx::query(sql(lookup.clone()))
            .bind(ids)
            .bind(sources)
            .bind(external)
            .fetch_all(&mut *tx)
            .await?;
        let mut targets: HashMap<i64, Vec<String>> = HashMap::new();
        for row in found {
            targets.entry(row.try_get("id")?).or_default().push(row.try_get("target")?);
        }
        let (clear, several): (Vec<_>, Vec<_>) =
            targets.into_iter().partition(|(_, targets)| targets.len() == 1);
        resolved.ambiguous += several.len() as u64;
        let (ids, targets): (Vec<i64>, Vec<String>) =
            clear.into_iter().map(|(id, mut targets)| (id, targets.remove(0))).unzip();
        sqlx::query("INSERT INTO found_target SELECT * FROM unnest($1::bigint[], $2::uuid[])")
            .bind(ids)
            .bind(targets)
            .execute(&mut *tx)
            .await?;
    }
}

async fn remove_self(tx: &mut PgConnection, edges: &Edges, run_id: &str) -> Result<u64> {
    if edges.table != "anime_relation" {
        return Ok(0);
    }
    let rows: Vec<String> = sqlx::query_scalar(
        "WITH gone AS (DELETE FROM anime_relation e USING found_target f \
             WHERE f.id = e.id AND f.target = e.from_anime_id RETURNING e.*), \
         forgotten AS (DELETE FROM found_target f USING gone WHERE gone.id = f.id) \
         SELECT (to_jsonb(gone) - 'id')::text FROM gone",
    )
    .fetch_all(&mut *tx)
    .await?;
    let entries: Vec<LedgerEntry> = rows
        .into_iter()
        .map(|row| LedgerEntry {
            output: "anime_relation".to_owned(),
            source: String::new(),
            locator: "resolver".to_owned(),
            column: String::new(),
            rule: "self_relation".to_owned(),
            path: String::new(),
            original_hash: sha256(row.as_bytes()),
            original: Some(row.into_bytes()),
            secret: false,
            target_digest: None,
        })
        .collect();
    record_ledger(tx, Recorded { run_id, pack: PACK, stream: "resolver" }, &entries).await?;
    Ok(entries.len() as u64)
}

/// Edges of one anime and type to one target become one.
async fn unite(tx: &mut PgConnection, edges: &Edges, resolved: &mut Resolved) -> Result<()> {
    let found: i64 =
        sqlx::query_scalar("SELECT count(*) FROM found_target").fetch_one(&mut *tx).await?;
    if found == 0 {
        return Ok(());
    }
    resolved.resolved = u64::try_from(found).unwrap_or_default();
    let rank = edges.sql(include_str!("../sql/anime/rank_edges.sql"));
    sqlx::raw_sql(sql(rank)).execute(&mut *tx).await?;
    let merged = edges
        .sql("DELETE FROM {table} e USING ranked_edge r WHERE r.id = e.id AND r.keeper <> r.id");
    resolved.merged = sqlx::query(sql(merged)).execute(&mut *tx).await?.rows_affected();
    let keep = edges.sql(include_str!("../sql/anime/keep_edges.sql"));
    sqlx::query(sql(keep)).execute(&mut *tx).await?;
    Ok(())
}

async fn unresolved(tx: &mut PgConnection, edges: &Edges) -> Result<BTreeMap<String, i64>> {
    let statement = edges.sql(
        "SELECT coalesce({p}_ref_source, 'none') AS source, count(*) AS edges FROM {table} \
         WHERE {to} IS NULL GROUP BY 1",
    );
    let rows = sqlx::query(sql(statement)).fetch_all(tx).await?;
    rows.into_iter().map(|row| Ok((row.try_get("source")?, row.try_get("edges")?))).collect()
}
