//! What is written beside an anime's own rows: original works, and the review queue.

use std::collections::HashMap;

use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::anime::doc::{Doc, canonical};
use crate::anime::entry::{Entry, Kind};
use crate::anime::policy::{Policy, Voice, merge};
use crate::anime::store::identity::uuid_of;
use crate::anime::store::table::Batch;
use crate::anime::store::{Fate, Outcome, Waiting};
use crate::cast::Refusal;
use crate::error::Result;
use crate::store::sql;

/// Writes manga or other original works, one after the other: they are few.
pub(super) async fn originals(
    tx: &mut PgConnection,
    policy: &Policy,
    kind: Kind,
    entries: &[&Entry],
    which: &[usize],
    outcome: &mut Outcome,
) -> Result<()> {
    let (table, key) = match kind {
        Kind::Work => ("original_work", "work_id"),
        _ => ("manga", "manga_id"),
    };
    for at in which {
        let entry = entries[*at];
        let fate = original(tx, policy, (table, key), entry).await?;
        let counts = outcome.tables.entry(table).or_default();
        match fate {
            Fate::Inserted => counts.0 += 1,
            Fate::Updated => counts.1 += 1,
            _ => {}
        }
        outcome.fates.insert(*at, fate);
    }
    Ok(())
}

async fn original(
    tx: &mut PgConnection,
    policy: &Policy,
    (table, key): (&'static str, &'static str),
    entry: &Entry,
) -> Result<Fate> {
    let owners = owners(tx, (table, key), entry).await?;
    let id = match (entry.id, owners.as_slice()) {
        (Some(id), []) => id,
        (Some(id), [owner]) if *owner == id => id,
        (None, []) => entry.derived_id.unwrap_or_default(),
        (None, [owner]) => *owner,
        (id, owners) => {
            let ids: Vec<String> = id.iter().chain(owners).map(Uuid::to_string).collect();
            let detail = format!("its urls belong to several rows: {}", ids.join(" and "));
            return Ok(Fate::Rejected(Refusal::new("several_works", detail)));
        }
    };
    let stored: Option<String> = sqlx::query_scalar(sql(format!(
        "SELECT (to_jsonb(t) - ARRAY['id', 'created_at', 'updated_at'])::text \
         FROM {table} t WHERE id = $1::uuid"
    )))
    .bind(id.to_string())
    .fetch_optional(&mut *tx)
    .await?;
    let (doc, fate) = match stored {
        None => (entry.doc.clone(), Fate::Inserted),
        Some(row) => {
            let merged = merge(&Doc::of_row(&row)?, &entry.doc, policy, Voice::Newer);
            let fate = match (merged.is_changed, merged.proposals.is_empty()) {
                (true, _) => Fate::Updated,
                (false, true) => Fate::Unchanged,
                (false, false) => Fate::Superseded,
            };
            (merged.doc, fate)
        }
    };
    if matches!(fate, Fate::Inserted | Fate::Updated) {
        let kind = if table == "original_work" { "kind, " } else { "" };
        let names = format!("{kind}title, title_english, title_japanese, meta, raw_by_source");
        let names: Vec<&str> = names.split(", ").collect();
        let jsonb = |name: &&str| matches!(*name, "meta" | "raw_by_source");
        let values: Vec<String> = names
            .iter()
            .enumerate()
            .map(|(at, name)| format!("${}{}", at + 2, if jsonb(name) { "::jsonb" } else { "" }))
            .collect();
        let set: Vec<String> =
            names.iter().map(|name| format!("{name} = EXCLUDED.{name}")).collect();
        let statement = format!(
            "INSERT INTO {table} (id, {}) VALUES ($1::uuid, {}) ON CONFLICT (id) DO UPDATE SET {}, \
             updated_at = now()",
            names.join(", "),
            values.join(", "),
            set.join(", ")
        );
        let mut query = sqlx::query(sql(statement)).bind(id.to_string());
        for name in names {
            query = query.bind(doc.column(name));
        }
        query.execute(&mut *tx).await?;
    }
    let added = add_xrefs(tx, (table, key), id, entry).await?;
    let kept = keep_other_urls(tx, (table, key), id, entry).await?;
    Ok(if (added || kept) && fate != Fate::Inserted { Fate::Updated } else { fate })
}

pub(in crate::anime) async fn owners(
    tx: &mut PgConnection,
    (table, key): (&str, &str),
    entry: &Entry,
) -> Result<Vec<Uuid>> {
    let (sources, external): (Vec<&str>, Vec<&str>) = entry
        .xrefs
        .iter()
        .map(|xref| (xref.reference.source, xref.reference.external_id.as_str()))
        .unzip();
    let rows: Vec<String> = sqlx::query_scalar(sql(format!(
        "SELECT DISTINCT x.{key}::text FROM unnest($1::text[], $2::text[]) AS w (source, external_id) \
         JOIN {table}_xref x USING (source, external_id) ORDER BY 1"
    )))
    .bind(sources)
    .bind(external)
    .fetch_all(tx)
    .await?;
    rows.iter().map(|id| uuid_of(id)).collect()
}

/// A url of a platform that has another one as its reference goes to `meta.extra_urls`.
async fn keep_other_urls(
    tx: &mut PgConnection,
    (table, key): (&str, &str),
    id: Uuid,
    entry: &Entry,
) -> Result<bool> {
    let urls: Vec<&str> = entry.xrefs.iter().map(|xref| xref.url.as_str()).collect();
    let done = sqlx::query(sql(format!(
        "WITH other AS (SELECT jsonb_agg(u.url ORDER BY u.place) AS urls \
             FROM unnest($2::text[]) WITH ORDINALITY AS u (url, place) \
             WHERE NOT EXISTS (SELECT FROM {table}_xref x WHERE x.{key} = $1::uuid AND x.url = u.url) \
               AND NOT EXISTS (SELECT FROM {table} t WHERE t.id = $1::uuid \
                               AND t.meta -> 'extra_urls' ? u.url)) \
         UPDATE {table} t SET updated_at = now(), meta = t.meta || jsonb_build_object('extra_urls', \
             coalesce(t.meta -> 'extra_urls', '[]') || other.urls) \
         FROM other WHERE t.id = $1::uuid AND other.urls IS NOT NULL"
    )))
    .bind(id.to_string())
    .bind(urls)
    .execute(tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Whether any is new.
async fn add_xrefs(
    tx: &mut PgConnection,
    (table, key): (&str, &str),
    id: Uuid,
    entry: &Entry,
) -> Result<bool> {
    let mut added = 0;
    for xref in &entry.xrefs {
        let done = sqlx::query(sql(format!(
            "INSERT INTO {table}_xref ({key}, source, external_id, url) \
             VALUES ($1::uuid, $2, $3, $4) ON CONFLICT DO NOTHING"
        )))
        .bind(id.to_string())
        .bind(xref.reference.source)
        .bind(&xref.reference.external_id)
        .bind(&xref.url)
        .execute(&mut *tx)
        .await?;
        added += done.rows_affected();
    }
    Ok(added > 0)
}

/// Queues what waits for a person: newest first, and never what a person has refused already.
pub(super) async fn queue(tx: &mut PgConnection, run: i64, waiting: &[Waiting]) -> Result<()> {
    if waiting.is_empty() {
        return Ok(());
    }
    let mut latest: HashMap<(&str, Uuid, &str), &Waiting> = HashMap::new();
    for one in waiting {
        latest.insert((one.entity_type, one.entity_id, &one.proposal.field), one);
    }
    let mut batch = Batch::default();
    for one in latest.values() {
        let Waiting { entity_type, entity_id, anime_id, proposal } = one;
        batch.push([
            Some((*entity_type).to_owned()),
            Some(entity_id.to_string()),
            Some(anime_id.to_string()),
            Some(proposal.field.clone()),
            Some(proposal.reason.to_owned()),
            Some(canonical(&proposal.before)),
            Some(canonical(&proposal.after)),
            Some(proposal.digest()),
            Some(run.to_string()),
        ]);
    }
    batch.execute(tx, include_str!("../../sql/anime/queue.sql")).await
}
