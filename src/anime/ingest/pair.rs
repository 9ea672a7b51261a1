//! Two groups at a time, on two connections, where they have nothing in common.
//!
//! They commit in their order: what a killed run left is always the beginning of its artifact.
//! Whatever goes wrong, what is not committed is taken back, and its group is written again alone.

use std::collections::HashSet;

use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use tokio::sync::watch;
use uuid::Uuid;

use crate::anime::entry::{Entry, Kind};
use crate::anime::ingest::group::{EntryCounts, Place, Staged, stage};
use crate::anime::ingest::reader::{Group, Item, ItemContent};
use crate::anime::store::{Turn, names};
use crate::error::{Error, ErrorKind, Result};

/// Whether groups are of plain entries that have no name in common. Those of enriched artifacts
/// share characters, which are merged one after the other.
pub(super) fn are_apart(first: &Group, second: &Group) -> bool {
    let is_plain = |entry: &Entry| entry.kind == Kind::Offline && entry.characters.is_empty();
    if second.header.is_some() || second.items.is_empty() {
        return false;
    }
    let mut seen = HashSet::new();
    for entry in entries(first) {
        if !is_plain(entry) {
            return false;
        }
        seen.extend(names(entry));
    }
    let mut others = entries(second);
    others.all(|entry| is_plain(entry) && names(entry).iter().all(|name| !seen.contains(name)))
}

fn entries(group: &Group) -> impl Iterator<Item = &Entry> {
    group.items.iter().filter_map(|item| match &item.content {
        ItemContent::Entry(entry) => Some(&**entry),
        ItemContent::Refused(_) => None,
    })
}

/// One group of a pair.
pub(super) struct Half<'a> {
    pub(super) conn: &'a mut PgConnection,
    pub(super) place: Place<'a>,
    pub(super) items: &'a [Item],
}

/// Writes both; returns the counts of those that are committed: none, the first, or both. What was
/// in the way of the others is met again when they are written alone.
pub(super) async fn write(first: Half<'_>, second: Half<'_>) -> Vec<EntryCounts> {
    let (hand, turn) = watch::channel(None);
    let leading = async {
        let (counts, anime) = one(first, &Turn::First).await?;
        // Nobody listens any more where the second has failed.
        let _ = hand.send(Some(anime));
        drop(hand);
        Ok::<_, Error>(counts)
    };
    let following = async { one(second, &Turn::Second(turn)).await.map(|(counts, _)| counts) };
    let (first, second) = tokio::join!(leading, following);
    let mut done = Vec::new();
    for outcome in [first, second] {
        match outcome {
            Ok(counts) => done.push(counts),
            Err(error) => {
                tracing::debug!("a group is written alone: {error}");
                break;
            }
        }
    }
    done
}

/// Nothing waits here for a lock that the other one may have.
const LOCK_WAIT: &str = "SET LOCAL lock_timeout = '2s'";

async fn one(half: Half<'_>, turn: &Turn) -> Result<(EntryCounts, HashSet<Uuid>)> {
    let items: Vec<&Item> = half.items.iter().collect();
    let mut tx = half.conn.begin().await?;
    sqlx::raw_sql(LOCK_WAIT).execute(&mut *tx).await?;
    let staged = stage(&mut tx, half.place, &items, None, turn).await;
    let (counts, anime) = match staged? {
        Staged::Ready { counts, anime } => (counts, anime),
        Staged::Refused(error) => return Err(error),
    };
    let others = turn.come().await?;
    if !others.is_disjoint(&anime) {
        let detail = "the group before this one has changed an anime of it";
        return Err(Error::new(ErrorKind::Busy, detail));
    }
    tx.commit().await?;
    Ok((counts, anime))
}
