//! 0 to 1: the target is what the migrations make.

use serde_json::json;
use sqlx::postgres::PgConnection;

use super::check::Check;
use super::scene::Scene;
use crate::error::{Error, ErrorKind, Result};
use crate::migrate::{self, Drift, MigrationSet, State};
use crate::store::catalog::{Table, split_name};

/// Differences named in a sentence.
const NAMED_MAX: usize = 5;

/// What the way to phase 1 asks for.
pub(super) async fn checks(scene: &Scene<'_>, conn: &mut PgConnection) -> Result<Vec<Check>> {
    let Some(set) = migrations(scene)? else { return without_migrations(scene, conn).await };
    let migrated = migrated(scene, conn, &set).await?;
    if migrated.verdict != super::check::Verdict::Met {
        let why = "not compared with the migrated catalog: migrations are pending";
        let advice = migrated.advice.clone().unwrap_or_default();
        return Ok(vec![migrated, Check::missing("catalog", why, advice)]);
    }
    let drift = migrate::drift(scene.settings, scene.postgres, &set, scene.stop).await;
    let drift = match drift {
        Ok(drift) => drift,
        Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
        Err(error) => return Ok(vec![migrated, Check::unknown("catalog", &error)]),
    };
    let optional = migrate::optional_extensions(conn).await?;
    let not_owned = migrate::not_owned(conn, &drift.schemas).await?;
    Ok(vec![migrated, catalog(&drift), extensions(&drift, &optional), ownership(&not_owned)])
}

/// The pack's migrations; None for a pack from a folder without any.
fn migrations(scene: &Scene<'_>) -> Result<Option<MigrationSet>> {
    let Some(folder) = &scene.pack.folder else {
        return migrate::builtin_or_error(scene.name()).map(Some);
    };
    let has_sql = std::fs::read_dir(folder)
        .map_err(|error| Error::from(error).context(folder.display()))?
        .filter_map(std::result::Result::ok)
        .any(|entry| entry.path().extension().is_some_and(|end| end.eq_ignore_ascii_case("sql")));
    if !has_sql {
        return Ok(None);
    }
    migrate::from_directory(scene.name(), folder).map(Some)
}

/// A pack without migrations: somebody else makes its tables, and all that can be said is that
/// they are there.
async fn without_migrations(scene: &Scene<'_>, conn: &mut PgConnection) -> Result<Vec<Check>> {
    let control = migrate::builtin_or_error(migrate::CONTROL_PACK)?;
    let mut checks = vec![migrated(scene, conn, &control).await?];
    let (mut found, mut lost) = (Vec::new(), Vec::new());
    for stream in &scene.pack.manifest.streams {
        for view in stream.views() {
            let (schema, table) = split_name(view.target.get_ref())?;
            match Table::read(conn, &schema, &table).await? {
                Some(table) => found.push(table.display_name()),
                None => lost.push(format!("{schema}.{table}")),
            }
        }
    }
    let facts = json!({ "tables": found, "missing": lost });
    checks.push(if lost.is_empty() {
        let tables = found.len();
        let finding = format!(
            "the pack has no migrations of its own to compare with; its {tables} tables are there"
        );
        Check::met("catalog", finding).with(facts)
    } else {
        Check::missing(
            "catalog",
            format!("these tables are missing: {}", lost.join(", ")),
            "create them as the pack needs them",
        )
        .with(facts)
    });
    Ok(checks)
}

async fn migrated(scene: &Scene<'_>, conn: &mut PgConnection, set: &MigrationSet) -> Result<Check> {
    let control = migrate::builtin_or_error(migrate::CONTROL_PACK)?;
    let mut open = Vec::new();
    let mut applied = 0;
    for set in [&control, set] {
        let status = migrate::status(conn, set).await?;
        for entry in &status.entries {
            if entry.state == State::Applied {
                applied += 1;
            } else {
                open.push(format!("{} V{} ({:?})", set.pack, entry.version, entry.state));
            }
        }
    }
    let facts = json!({ "applied": applied, "open": open });
    if open.is_empty() {
        return Ok(
            Check::met("migrations", "every migration is applied as its file is now").with(facts)
        );
    }
    let mut advice = format!("toolkit migrate up --pack {}", scene.name());
    if let Some(folder) = &scene.pack.folder {
        advice.push_str(&format!(" --dir {}", folder.display()));
    }
    let finding = format!("not applied, or not as the file is: {}", open.join(", "));
    Ok(Check::missing("migrations", finding, advice).with(facts))
}

fn catalog(drift: &Drift) -> Check {
    let others = if drift.others.is_empty() {
        String::new()
    } else {
        format!("; made by no migration, and let be: {}", drift.others.join(", "))
    };
    let facts = json!({
        "objects": drift.objects,
        "differences": drift.entries,
        "other_tables": drift.others,
    });
    if drift.is_none() {
        let objects = drift.objects;
        let finding =
            format!("the live catalog equals the migrated one in {objects} objects{others}");
        return Check::met("catalog", finding).with(facts);
    }
    let named: Vec<String> =
        drift.entries.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    let more = drift.entries.len().saturating_sub(NAMED_MAX);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    Check::missing(
        "catalog",
        format!(
            "the live catalog differs from the migrated one in {} objects: {}{more}",
            drift.entries.len(),
            named.join("; ")
        ),
        "undo what was changed by hand, or put it into a migration of its own",
    )
    .with(facts)
}

fn extensions(drift: &Drift, optional: &[migrate::Optional]) -> Check {
    let lost: Vec<&str> =
        drift.entries.iter().filter_map(|entry| entry.object.strip_prefix("extension ")).collect();
    let states: Vec<String> =
        optional.iter().map(|part| format!("{}: {}", part.name, part.state)).collect();
    if lost.is_empty() {
        let finding = if states.is_empty() {
            "no extension is missing".to_owned()
        } else {
            states.join("; ")
        };
        return Check::met("extensions", finding).with(json!(optional));
    }
    Check::missing(
        "extensions",
        format!("missing: {}", lost.join(", ")),
        format!("CREATE EXTENSION {}", lost.join("; CREATE EXTENSION ")),
    )
    .with(json!(optional))
}

fn ownership(not_owned: &[String]) -> Check {
    if not_owned.is_empty() {
        return Check::met("ownership", "the role of this session may act as owner of every table");
    }
    Check::missing(
        "ownership",
        format!("tables of other owners (table and owner): {}", not_owned.join(", ")),
        "ALTER TABLE ... OWNER TO this role, or GRANT the owner to it",
    )
    .with(json!(not_owned))
}
