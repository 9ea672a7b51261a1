//! Whether the live catalog is what the migrations make: they are applied to a scratch database
//! of the same server, and both catalogs are compared, object by object.
//!
//! Partitions, other packs' tables and objects of extensions are not compared. A table of the
//! live database that no migration makes is named, and is no drift unless it stands in the way.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use sqlx::{Connection as _, PgConnection, Row as _};

use super::set::MigrationSet;
use super::{CONTROL_PACK, Options, apply, plan};
use crate::config::Settings;
use crate::error::Result;
use crate::interrupt::Stop;
use crate::store::{Postgres, ScratchDatabase};

/// What stands otherwise than the migrations make it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DriftKind {
    /// The migrations make it; the live database lacks it.
    Missing,
    /// The live database has it on a table of the pack; no migration makes it.
    Extra,
    /// Both have it, each another one.
    Changed,
}

/// One object that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DriftEntry {
    /// How.
    pub kind: DriftKind,
    /// What: `column shop.orders.total`.
    pub object: String,
    /// As the migrations make it.
    pub migrated: Option<String>,
    /// As it is.
    pub live: Option<String>,
}

impl std::fmt::Display for DriftEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (migrated, live) = (self.migrated.as_deref(), self.live.as_deref());
        match self.kind {
            DriftKind::Missing => write!(f, "{} is missing", self.object),
            DriftKind::Extra => write!(f, "{} is made by no migration", self.object),
            DriftKind::Changed => write!(
                f,
                "{} is `{}`, migrations make it `{}`",
                self.object,
                live.unwrap_or_default(),
                migrated.unwrap_or_default()
            ),
        }
    }
}

/// The comparison of a live catalog with the migrated one.
#[derive(Debug, Clone, Serialize)]
pub struct Drift {
    /// The pack.
    pub pack: String,
    /// Objects that were compared.
    pub objects: usize,
    /// The schemas of its tables.
    pub schemas: Vec<String>,
    /// What differs.
    pub entries: Vec<DriftEntry>,
    /// Tables in the pack's schemas that no migration makes; named, not counted as drift.
    pub others: Vec<String>,
}

impl Drift {
    /// Whether the live catalog is the migrated one.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.entries.is_empty()
    }
}

/// An object's place: kind, schema, relation, name.
type Place = (String, String, String, String);

/// Definitions by place.
type Catalog = BTreeMap<Place, String>;

/// Applies the control schema and `set` to a scratch database and compares its catalog with the
/// live one. The scratch database is dropped whatever happens.
///
/// Fails with [`crate::ErrorKind::StoreDenied`] where the role may not create databases.
pub async fn drift(
    settings: &Settings,
    postgres: &Postgres,
    set: &MigrationSet,
    stop: &Stop,
) -> Result<Drift> {
    let scratch = ScratchDatabase::create(postgres, "drift").await?;
    let migrated = migrated(settings, postgres, &scratch, set, stop).await;
    let dropped = scratch.drop(postgres).await;
    let migrated = migrated?;
    dropped?;
    let mut conn = postgres.dedicated().await?;
    let live = catalog(&mut conn).await?;
    conn.close().await?;
    Ok(compare(&set.pack, &migrated, &live))
}

async fn migrated(
    settings: &Settings,
    postgres: &Postgres,
    scratch: &ScratchDatabase,
    set: &MigrationSet,
    stop: &Stop,
) -> Result<Catalog> {
    let postgres = scratch.connect(settings, postgres).await?;
    let mut conn = postgres.dedicated().await?;
    let planned = plan(&mut conn, std::slice::from_ref(set)).await?;
    apply(&mut conn, &planned, &Options { stop: stop.clone(), ..Options::default() }).await?;
    let catalog = catalog(&mut conn).await?;
    conn.close().await?;
    postgres.close().await?;
    Ok(catalog)
}

async fn catalog(conn: &mut PgConnection) -> Result<Catalog> {
    let rows = sqlx::query(include_str!("../sql/migrate/catalog.sql")).fetch_all(conn).await?;
    rows.iter()
        .map(|row| {
            let place = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
            Ok((place, row.try_get(4)?))
        })
        .collect()
}

fn compare(pack: &str, migrated: &Catalog, live: &Catalog) -> Drift {
    let relations: BTreeSet<(&str, &str)> =
        migrated.keys().map(|(_, schema, relation, _)| (&**schema, &**relation)).collect();
    let schemas: BTreeSet<&str> = migrated
        .keys()
        .filter(|(kind, schema, ..)| kind == "relation" && schema != CONTROL_PACK)
        .map(|(_, schema, ..)| &**schema)
        .collect();
    let mut entries = Vec::new();
    for (place, definition) in migrated {
        match live.get(place) {
            None if part_of_missing(place, live) => {}
            None => entries.push(entry(DriftKind::Missing, place, Some(definition), None)),
            Some(found) if found != definition => {
                entries.push(entry(DriftKind::Changed, place, Some(definition), Some(found)));
            }
            Some(_) => {}
        }
    }
    let mut others = Vec::new();
    for (place, definition) in live.iter().filter(|(place, _)| !migrated.contains_key(place)) {
        let (kind, schema, relation, _) = place;
        if kind == "extension" {
            continue;
        }
        if relations.contains(&(&**schema, &**relation)) && kind != "function" {
            entries.push(entry(DriftKind::Extra, place, None, Some(definition)));
        } else if kind == "relation" && schema != "public" && schemas.contains(&**schema) {
            others.push(format!("{schema}.{relation}"));
        }
    }
    Drift {
        pack: pack.to_owned(),
        objects: migrated.len(),
        schemas: schemas.into_iter().map(str::to_owned).collect(),
        entries,
        others,
    }
}

/// Whether the whole relation is missing, which is said once.
fn part_of_missing(place: &Place, live: &Catalog) -> bool {
    let (kind, schema, relation, _) = place;
    let relation = ("relation".to_owned(), schema.clone(), relation.clone(), String::new());
    matches!(&**kind, "column" | "constraint" | "index" | "trigger")
        && !live.contains_key(&relation)
}

fn entry(
    kind: DriftKind,
    place: &Place,
    migrated: Option<&String>,
    live: Option<&String>,
) -> DriftEntry {
    let (what, schema, relation, name) = place;
    let parts: Vec<&str> = [&**schema, &**relation, if what == "function" { "" } else { name }]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect();
    let arguments = if what == "function" { format!("({name})") } else { String::new() };
    DriftEntry {
        kind,
        object: format!("{what} {}{arguments}", parts.join(".")),
        migrated: migrated.cloned(),
        live: live.cloned(),
    }
}

/// Tables of `schemas` that the session's role neither owns nor may act for, each with its owner.
pub async fn not_owned(conn: &mut PgConnection, schemas: &[String]) -> Result<Vec<String>> {
    Ok(sqlx::query_scalar(include_str!("../sql/migrate/not_owned.sql"))
        .bind(schemas)
        .fetch_all(conn)
        .await?)
}
