//! Backups that were restored and compared, as evidence before the cutover.

use serde_json::json;
use sqlx::postgres::PgConnection;

use super::advance::span;
use super::basis::Basis;
use super::check::Check;
use super::evidence;
use super::scene::Scene;
use crate::backup::Checked;
use crate::error::{Error, ErrorKind, Result};

/// Keeps the result of a backup check, clean or not.
pub async fn record_backup(scene: &Scene<'_>, checked: &Checked) -> Result<()> {
    let mut conn = scene.postgres.dedicated().await?;
    let now = scene.basis_without_sources(&mut conn).await?;
    let mut facts = serde_json::to_value(checked)
        .map_err(|e| Error::new(ErrorKind::Bug, "a backup check is not JSON").because(e))?;
    let tables = checked.tables.iter().filter(|table| !table.is_equal);
    let differing: Vec<&str> = tables.map(|table| table.table.as_str()).collect();
    facts["differing"] = json!(differing);
    facts["tables"] = json!(checked.tables.len());
    evidence::record(&mut conn, scene.name(), evidence::BACKUP, None, &facts, &now).await?;
    sqlx::Connection::close(conn).await?;
    Ok(())
}

/// Whether a backup was shown to be one, and how long ago. The pack says whether the cutover asks
/// for it; where it does not, this only recommends.
pub(super) async fn backup_check(
    scene: &Scene<'_>,
    conn: &mut PgConnection,
    now: &Basis,
) -> Result<Check> {
    let wanted = scene.pack.manifest.phase.backup_max_age;
    let facts = json!({ "wanted_seconds": wanted.map(|age| age.as_secs()) });
    let advice = scene.command_without_sources("phase backup-check");
    let missing = |finding: String| Check::missing("backup", finding, advice.clone());
    let Some(newest) =
        evidence::list(conn, scene.name(), evidence::BACKUP, now).await?.into_iter().next()
    else {
        let finding = "no backup was ever restored and compared".to_owned();
        return Ok(missing(finding).with(facts));
    };
    let age: f64 = sqlx::query_scalar("SELECT extract(epoch FROM now() - $1::timestamptz)::float8")
        .bind(&newest.at)
        .fetch_one(conn)
        .await?;
    let age = age.max(0.0);
    let facts = json!({
        "at": newest.at,
        "age_seconds": age,
        "wanted_seconds": wanted.map(|age| age.as_secs()),
        "facts": newest.facts,
    });
    let ago = format!("{} ago ({})", span(age), newest.at);
    if newest.facts["clean"] != true {
        let finding = format!("the backup that was restored {ago} was not what was dumped");
        return Ok(missing(finding).with(facts));
    }
    if let Some(why) = &newest.expired {
        let finding = format!("a backup was restored and compared {ago}; since then {why}");
        return Ok(missing(finding).with(facts));
    }
    if let Some(wanted) = wanted.filter(|wanted| age > wanted.as_secs_f64()) {
        let wanted = span(wanted.as_secs_f64());
        let finding =
            format!("a backup was restored and compared {ago}; it may be {wanted} old at most");
        return Ok(missing(finding).with(facts));
    }
    let sum = newest.facts["sha256"].as_str().unwrap_or_default();
    let kept = match newest.facts["kept"].as_str() {
        Some(file) => format!("kept as {file}"),
        None => "not kept".to_owned(),
    };
    let finding = format!("a backup was restored and compared {ago}; SHA-256 {sum}, {kept}");
    Ok(Check::met("backup", finding).with(facts))
}
