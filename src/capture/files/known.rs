//! Documents as they were applied last: `toolkit.capture_file`.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::look::{Document, Looked, Stat};
use super::{Rescan, apply};
use crate::error::Result;
use crate::pack::OpenedPack;

/// A file as it was applied last.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// Empty: to be applied again, whatever it holds.
    pub(super) sha256: String,
    pub(super) stat: Stat,
    /// Whether the hash stands for whatever looks the same.
    pub(super) settled: bool,
    pub(super) is_missing: bool,
}

pub(super) async fn known(conn: &mut PgConnection, pack: &str) -> Result<BTreeMap<String, Known>> {
    let rows = sqlx::query(
        "SELECT source, sha256, size_bytes, modified_ns, changed_ns, inode, settled, \
         vanished_at IS NOT NULL AS is_missing FROM toolkit.capture_file WHERE pack = $1",
    )
    .bind(pack)
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| {
            let number = |name: &str| row.try_get::<i64, _>(name).map(i64::cast_unsigned);
            let stat = Stat {
                size: number("size_bytes")?,
                modified_ns: row.try_get("modified_ns")?,
                changed_ns: row.try_get("changed_ns")?,
                inode: number("inode")?,
            };
            let known = Known {
                sha256: row.try_get("sha256")?,
                stat,
                settled: row.try_get("settled")?,
                is_missing: row.try_get("is_missing")?,
            };
            Ok((row.try_get("source")?, known))
        })
        .collect()
}

/// Writes down which files are as they were applied, and look like this from now on.
pub(super) async fn confirm(
    conn: &mut PgConnection,
    pack: &str,
    known: &BTreeMap<String, Known>,
    documents: &[Document],
) -> Result<()> {
    let fresh: Vec<&Document> = documents
        .iter()
        .filter(|one| {
            let known = known.get(&one.listed.relative);
            let is_applied = known.is_some_and(|known| known.sha256 == one.file.sha256);
            let says_so = known.is_some_and(|known| known.settled && known.stat == one.stat);
            one.settled && is_applied && !says_so
        })
        .collect();
    for part in fresh.chunks(5_000) {
        let numbers =
            |of: fn(&Stat) -> i64| part.iter().map(|one| of(&one.stat)).collect::<Vec<_>>();
        sqlx::query(include_str!("../../sql/capture/confirm_files.sql"))
            .bind(pack)
            .bind(part.iter().map(|one| one.listed.relative.clone()).collect::<Vec<_>>())
            .bind(part.iter().map(|one| one.file.sha256.clone()).collect::<Vec<_>>())
            .bind(numbers(|stat| stat.size.cast_signed()))
            .bind(numbers(|stat| stat.modified_ns))
            .bind(numbers(|stat| stat.changed_ns))
            .bind(numbers(|stat| stat.inode.cast_signed()))
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}

/// Files that are no longer there: noted at the first look, gone with their rows at the second.
pub(super) async fn vanished(
    conn: &mut PgConnection,
    opened: &Arc<OpenedPack>,
    run_id: &str,
    looked: &Looked,
    scan: &mut Rescan,
) -> Result<()> {
    let (pack, listing) = (&opened.plan.name, &looked.listing);
    let there: HashSet<&str> =
        listing.documents.iter().map(|listed| listed.relative.as_str()).collect();
    let streams: HashSet<&str> =
        listing.documents.iter().flat_map(|l| l.streams.iter().map(String::as_str)).collect();
    let rows: Vec<(String, Vec<String>, bool)> = sqlx::query_as(
        "SELECT source, streams, vanished_at IS NOT NULL FROM toolkit.capture_file \
         WHERE pack = $1 ORDER BY source",
    )
    .bind(pack)
    .fetch_all(&mut *conn)
    .await?;
    for (source, of_streams, was_missing) in rows {
        if there.contains(source.as_str()) {
            continue;
        }
        let is_last = of_streams.iter().any(|stream| !streams.contains(stream.as_str()));
        if !was_missing || is_last {
            let problem = if is_last {
                "it is gone, and so is every other file of its stream: nothing was deleted; put \
                 the folder back, or delete its row from toolkit.capture_file once its rows are \
                 dealt with"
            } else {
                "it is gone; if it is still gone at the next look, its rows go, too"
            };
            sqlx::query(
                "UPDATE toolkit.capture_file SET vanished_at = coalesce(vanished_at, now()), \
                 problem = $3 WHERE pack = $1 AND source = $2",
            )
            .bind(pack)
            .bind(&source)
            .bind(problem)
            .execute(&mut *conn)
            .await?;
            scan.problems.push((source, problem.to_owned()));
            continue;
        }
        let done = apply::remove(conn, opened, run_id, &source, &of_streams).await?;
        scan.deleted += done.deleted;
        scan.vanished.push(source);
    }
    Ok(())
}
