//! The acceptance criteria of the move, each with its evidence.

use serde::Serialize;
use serde_json::{Map, Value, json};
use sqlx::Connection as _;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::check::{Check, Verdict};
use super::scene::Scene;
use super::state::{self, Phase, State};
use super::{decommission, evidence, files, recover};
use crate::error::{Error, ErrorKind, Result};
use crate::pack::manifest::LineageManifest;
use crate::store::catalog::{Table, split_name};
use crate::store::{quote_ident, sql};

/// Broken references named per link.
const EXAMPLES_MAX: i32 = 3;

/// One criterion and how it stands.
#[derive(Debug, Clone, Serialize)]
pub struct Criterion {
    /// What is asked.
    pub criterion: &'static str,
    /// What was found.
    #[serde(flatten)]
    pub check: Check,
}

/// Every criterion.
#[derive(Debug, Clone, Serialize)]
pub struct Acceptance {
    /// The pack.
    pub pack: String,
    /// Its phase and route.
    pub state: State,
    /// The criteria.
    pub criteria: Vec<Criterion>,
}

impl Acceptance {
    /// Whether all are met.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.criteria.iter().all(|criterion| criterion.check.verdict == Verdict::Met)
    }

    /// Whether one of them could not be checked.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.criteria.iter().any(|criterion| criterion.check.verdict == Verdict::Unknown)
    }
}

/// Checks the criteria against the stores as they are.
pub async fn accept(scene: &Scene<'_>) -> Result<Acceptance> {
    recover::recover(scene.postgres, scene.pack).await?;
    let mut scene = scene.clone();
    let mut conn = scene.postgres.dedicated().await?;
    crate::migrate::require_current(&mut conn, crate::migrate::CONTROL_PACK).await?;
    scene.remember_roots(&mut conn).await?;
    let state = state::current(&mut conn, scene.name()).await?;
    let mut criteria = Vec::new();
    for (criterion, check) in [
        (
            "One Postgres server stores all active persistence",
            or_unknown("one_store", one_store(&scene, &mut conn, &state).await)?,
        ),
        (
            "Everything is queryable without SQLite",
            or_unknown("queryable", queryable(&scene, &mut conn).await)?,
        ),
        (
            "Behaviour is unchanged: reads of both stores agree",
            or_unknown("behaviour", behaviour(&scene, &mut conn).await)?,
        ),
        ("Lineage is intact end to end", or_unknown("lineage", lineage(&scene, &mut conn).await)?),
    ] {
        criteria.push(Criterion { criterion, check });
    }
    conn.close().await?;
    Ok(Acceptance { pack: scene.name().to_owned(), state, criteria })
}

fn or_unknown(name: &'static str, found: Result<Check>) -> Result<Check> {
    match found {
        Err(error) if error.kind() == ErrorKind::Interrupted => Err(error),
        Err(error) => Ok(Check::unknown(name, &error)),
        Ok(check) => Ok(check),
    }
}

/// Postgres is primary, and no `SQLite` file takes writes any more.
async fn one_store(scene: &Scene<'_>, conn: &mut PgConnection, state: &State) -> Result<Check> {
    const NAME: &str = "one_store";
    if state.phase < Phase::Cutover {
        let finding = format!("the pack is in phase {}: SQLite is primary", state.phase);
        return Ok(Check::missing(NAME, finding, scene.command("phase status")));
    }
    let captured = files::captured(conn, scene.name()).await?;
    let open = files::unfenced(&captured).await?;
    let sealed = decommission::sealed(conn, scene.name()).await?;
    let changed: Vec<String> = tokio::task::spawn_blocking({
        let sealed = sealed.clone();
        move || decommission::changed(&sealed)
    })
    .await
    .map_err(crate::pack::join_error)??;
    let facts = json!({
        "fenced": captured.len(),
        "sealed": sealed.len(),
        "unfenced": open.iter().map(|file| &file.source).collect::<Vec<_>>(),
        "changed_since_sealed": changed,
    });
    if !open.is_empty() || !changed.is_empty() {
        let named: Vec<String> = open.into_iter().map(|file| file.source).chain(changed).collect();
        return Ok(Check::missing(
            NAME,
            format!("these SQLite files take writes, or were changed: {}", named.join(", ")),
            scene.command("phase status"),
        )
        .with(facts));
    }
    let now = scene.basis_without_sources(conn).await?;
    let newest = evidence::list(conn, scene.name(), evidence::PARITY, &now).await?;
    let Some(whole) = newest.iter().find(|run| run.facts["whole"] == true) else {
        let advice = scene.command("verify-parity --level full");
        return Ok(Check::missing(NAME, "no full verification is recorded", advice).with(facts));
    };
    let unloaded: Vec<&str> = whole.facts["not_checked"]
        .as_array()
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let absent = if unloaded.is_empty() {
        String::new()
    } else {
        format!("; streams without any source: {}", unloaded.join(", "))
    };
    let finding = format!(
        "Postgres is primary in phase {}; {} SQLite files are fenced, {} sealed{absent}",
        state.phase,
        captured.len(),
        sealed.len()
    );
    Ok(Check::met(NAME, finding).with(facts))
}

/// Every target can be read, and has at least the rows that were verified last.
async fn queryable(scene: &Scene<'_>, conn: &mut PgConnection) -> Result<Check> {
    const NAME: &str = "queryable";
    let now = scene.basis_without_sources(conn).await?;
    let runs = evidence::list(conn, scene.name(), evidence::PARITY, &now).await?;
    let newest = runs.iter().find(|run| run.facts["whole"] == true && run.facts["clean"] == true);
    let Some(newest) = newest else {
        let advice = scene.command("verify-parity --level full");
        return Ok(Check::missing(NAME, "no clean full verification is recorded", advice));
    };
    let verified = newest.facts["rows"].as_object().cloned().unwrap_or_default();
    let (mut rows, mut fewer, mut more) = (Map::new(), Vec::new(), 0_i64);
    for (unit, counts) in &verified {
        let then = counts[1].as_i64().unwrap_or(0);
        let held = count(conn, unit).await?;
        rows.insert(unit.clone(), json!({ "verified": then, "now": held }));
        if held < then {
            fewer.push(format!("{unit} ({held} of {then})"));
        }
        more += (held - then).max(0);
    }
    let facts = json!({ "run": newest.run_id, "rows": rows });
    if !fewer.is_empty() {
        return Ok(Check::missing(
            NAME,
            format!("rows are gone since the last verification: {}", fewer.join(", ")),
            "find out who deleted them; retention runs only before cutover and after decommission",
        )
        .with(facts));
    }
    let since = if more > 0 { format!(", {more} rows more since") } else { String::new() };
    let finding =
        format!("{} slices of the targets are readable and as verified{since}", rows.len());
    Ok(Check::met(NAME, finding).with(facts))
}

/// Rows of a slice as verifications name it: `schema.table[column=value,...]`.
async fn count(conn: &mut PgConnection, unit: &str) -> Result<i64> {
    let (table, constants) = match unit.split_once('[') {
        Some((table, rest)) => (table, rest.trim_end_matches(']')),
        None => (unit, ""),
    };
    let (schema, name) = split_name(table)?;
    let Some(table) = Table::read(conn, &schema, &name).await? else {
        return Err(Error::new(ErrorKind::StoreFailed, format!("the table {table} is gone")));
    };
    let mut conditions = Vec::new();
    let mut values = Vec::new();
    for part in constants.split(',').filter(|part| !part.is_empty()) {
        let (column, value) = part.split_once('=').unwrap_or((part, ""));
        values.push(value.trim().to_owned());
        conditions.push(format!("{}::text = ${}", quote_ident(column.trim()), values.len()));
    }
    let filter = if conditions.is_empty() {
        String::new()
    } else {
        format!(" WHERE {}", conditions.join(" AND "))
    };
    let statement = format!("SELECT count(*) FROM {}{filter}", table.sql_name());
    let mut query = sqlx::query_scalar(sql(statement));
    for value in values {
        query = query.bind(value);
    }
    Ok(query.fetch_one(conn).await?)
}

/// Applications read both stores side by side, and saw the same.
async fn behaviour(scene: &Scene<'_>, conn: &mut PgConnection) -> Result<Check> {
    const NAME: &str = "behaviour";
    let row = sqlx::query(
        "SELECT coalesce(sum(reads), 0)::bigint AS reads, \
                coalesce(sum(mismatches), 0)::bigint AS mismatches, \
                count(DISTINCT name) AS names \
         FROM toolkit.shadow_read WHERE pack = $1",
    )
    .bind(scene.name())
    .fetch_one(conn)
    .await?;
    let (reads, mismatches): (i64, i64) = (row.try_get("reads")?, row.try_get("mismatches")?);
    let names: i64 = row.try_get("names")?;
    let facts = json!({ "reads": reads, "mismatches": mismatches, "names": names });
    if mismatches > 0 {
        return Ok(Check::missing(
            NAME,
            format!("{mismatches} of {reads} shadow reads differed"),
            "SELECT name, at, detail FROM toolkit.shadow_mismatch ORDER BY id DESC",
        )
        .with(facts));
    }
    if reads == 0 {
        return Ok(Check::missing(
            NAME,
            "no shadow read is recorded",
            "let the application read through ShadowRead for a while before the cutover",
        )
        .with(facts));
    }
    // Rule of three: none of n differing bounds the share below 3/n at 95 % confidence.
    let bound = 300.0 / reads as f64;
    let finding = format!(
        "0 of {reads} shadow reads of {names} kinds differed: fewer than {bound:.3} % at 95 % \
         confidence"
    );
    Ok(Check::met(NAME, finding).with(facts))
}

/// Every declared reference leads to a row.
async fn lineage(scene: &Scene<'_>, conn: &mut PgConnection) -> Result<Check> {
    const NAME: &str = "lineage";
    let links = &scene.pack.manifest.lineage;
    if links.is_empty() {
        let finding = "the pack declares no lineage ([[lineage]] in pack.toml)";
        return Ok(Check::met(NAME, finding));
    }
    let (mut found, mut broken, mut values) = (Vec::new(), Vec::new(), 0_i64);
    for link in links {
        scene.stop.check()?;
        let facts = follow(conn, link).await?;
        let lost = facts["broken"].as_i64().unwrap_or(0);
        values += facts["references"].as_i64().unwrap_or(0);
        if lost > 0 && link.may_break.is_none() {
            broken.push(format!(
                "{}: {lost} values of {} are not in {} (such as {})",
                link.name,
                link.from.get_ref(),
                link.to.get_ref(),
                facts["examples"]
            ));
        }
        found.push(facts);
    }
    let facts = json!(found);
    if !broken.is_empty() {
        let advice = "see what the sources say about them: a clean verification proves them equal";
        return Ok(Check::missing(NAME, broken.join("; "), advice).with(facts));
    }
    let finding = format!("{values} references of {} links lead to their rows", links.len());
    Ok(Check::met(NAME, finding).with(facts))
}

async fn follow(conn: &mut PgConnection, link: &LineageManifest) -> Result<Value> {
    let from = column_of(link.from.get_ref())?;
    let to = column_of(link.to.get_ref())?;
    let statement = format!(
        "SELECT count(*) AS refs, count(*) FILTER (WHERE lost) AS broken, \
                (array_agg(DISTINCT value) FILTER (WHERE lost))[1:{EXAMPLES_MAX}] AS examples \
         FROM (SELECT f.{from_column}::text AS value, \
                      NOT EXISTS (SELECT FROM {to_table} t \
                                  WHERE t.{to_column} = f.{from_column}) AS lost \
               FROM {from_table} f WHERE f.{from_column} IS NOT NULL) AS link",
        from_table = from.0,
        from_column = from.1,
        to_table = to.0,
        to_column = to.1,
    );
    let row = sqlx::query(sql(statement)).fetch_one(conn).await?;
    let examples: Option<Vec<String>> = row.try_get("examples")?;
    Ok(json!({
        "name": link.name,
        "from": link.from.get_ref(),
        "to": link.to.get_ref(),
        "references": row.try_get::<i64, _>("refs")?,
        "broken": row.try_get::<i64, _>("broken")?,
        "may_break": link.may_break,
        "examples": examples.unwrap_or_default(),
    }))
}

/// `schema.table.column` as a quoted table and a quoted column.
fn column_of(name: &str) -> Result<(String, String)> {
    let (table, column) = name.rsplit_once('.').ok_or_else(|| {
        Error::new(ErrorKind::Pack, format!("lineage: `{name}` is not schema.table.column"))
    })?;
    let (schema, table) = split_name(table)?;
    Ok((crate::store::quote_qualified(&schema, &table), quote_ident(column)))
}
