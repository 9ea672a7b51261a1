//! Looking again at what changed since the stores were last compared as a whole: whether Postgres
//! holds those rows as they are. Most of it while the application goes on, the rest behind the
//! fence.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::apply::{self, Scene};
use super::control::{self, Held};
use super::read::{self, Batch, Together, Wish};
use super::{LiveFile, Tail, record, record::Cursor, siblings};
use crate::backfill::unconditional::APPLY_SETTINGS;
use crate::capture::files::RescanOptions;
use crate::capture::log::LogPosition;
use crate::capture::verified::{self, Uncompared};
use crate::count::counted;
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::pack::{OpenedPack, join_error};
use crate::store::{capture_lock, sql};

/// Applied entries that stay in each log in any case: a forced cutover compares these at least.
const KEPT: LogPosition = 5_000;

/// Applied entries that stay in each log for the sake of a comparison at most: about 40 MB.
const KEPT_MAX: LogPosition = 1_000_000;

/// Changes of a file that may be left for the comparison behind the fence.
const LEFT_SMALL: LogPosition = 500;

/// Entries compared at once: many of them are about the same rows, and each row is read once. Bytes
/// and time bound a batch, too.
const ENTRIES_AT_ONCE: usize = 50_000;

/// How many at once, at last, where something differs: what is doubtful is to be little.
const ENTRIES_CLOSELY: usize = 50;

/// How much closer each look is than the one before it, until then.
const CLOSER: usize = 10;

/// How often a file's newest changes are compared before the rest is left for the fence.
const ROUNDS_MAX: usize = 10;

/// How often a batch that differs is looked at again before it is left for the fence.
const TRIES_MAX: usize = 3;

/// How often the tail is given a turn because too much was captured to compare anything.
const BEHIND_MAX: usize = 200;

/// Between two looks at it.
const PAUSE: Duration = Duration::from_millis(200);

/// Changes in batches that differ, looked at this closely: with more of them the fence is not even
/// raised. Where the stores agree there are none, however much is written.
const DOUBTFUL_MAX: u64 = 2_000;

/// How far a comparison has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// By file: the last entry up to which everything is compared, or doubtful.
    reached: BTreeMap<String, LogPosition>,
    /// Stretches that differed, perhaps because the stores moved: file, and the entries around it.
    doubtful: Vec<(String, LogPosition, LogPosition)>,
    /// Entries of the logs that were looked at again while the application went on.
    pub ahead: u64,
    /// Where it began in each file, and why there.
    pub files: Vec<Uncompared>,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compared {
    /// Entries of the logs that were looked at again.
    pub changes: u64,
    /// Rows that would be written or deleted: they are not in Postgres as they are in the source.
    pub differing: u64,
}

/// One batch, compared.
enum Stretch {
    /// Nothing is left.
    End,
    /// Too much is captured in this file that is not applied.
    Behind(usize),
    /// Up to this entry.
    Found(LogPosition, Compared),
}

/// Where a log may be trimmed: the oldest entry that stays.
pub(super) fn kept_from(applied: LogPosition, needed_after: Option<LogPosition>) -> LogPosition {
    let few = applied - KEPT;
    needed_after.map_or(few, |needed| needed.min(few).max(applied - KEPT_MAX))
}

impl Tail {
    /// Begins where the newest clean verification of the whole pack left off; where there is none,
    /// with the oldest entry of each log.
    pub async fn begin_comparison(&mut self) -> Result<Comparison> {
        self.mend().await?;
        let pack = self.opened.plan.name.clone();
        let files = verified::uncompared(&mut self.conn, &pack, &self.sources).await?;
        let reached = files.iter().map(|file| (file.source.clone(), file.from())).collect();
        Ok(Comparison { reached, files, ..Comparison::default() })
    }

    /// Compares what is applied, while the application goes on, until little is left. A batch that
    /// differs again and again is left for [`Tail::compare_rest`], when nothing moves.
    ///
    /// Errors: too much differs.
    pub async fn compare_ahead(&mut self, comparison: &mut Comparison, stop: &Stop) -> Result<()> {
        self.mend().await?;
        self.open_files().await?;
        let mut before = LogPosition::MAX;
        for _ in 0..ROUNDS_MAX {
            let mut left = 0;
            for at in 0..self.files.len() {
                left = left.max(self.compare_file(at, comparison, stop).await?);
            }
            // Where as much is written as is compared another round would not help.
            if left <= LEFT_SMALL || left > before / 2 {
                break;
            }
            before = left;
        }
        Ok(())
    }

    /// Compares a file up to what is applied now; how much was captured meanwhile.
    async fn compare_file(
        &mut self,
        at: usize,
        comparison: &mut Comparison,
        stop: &Stop,
    ) -> Result<LogPosition> {
        let source = self.files[at].source.relative.clone();
        let end = self.cursor(&source).await?.position;
        let (mut tries, mut behind, mut at_once) = (0, 0, ENTRIES_AT_ONCE);
        loop {
            stop.check()?;
            let from = comparison.reached.get(&source).copied().unwrap_or(0);
            match self.compare_stretch(at, from, end, at_once).await? {
                Stretch::End => break,
                Stretch::Behind(place) if behind < BEHIND_MAX => {
                    behind += 1;
                    self.step_of(place, &[]).await?;
                }
                Stretch::Behind(_) => return Err(moved(&source)),
                Stretch::Found(_, found) if found.differing > 0 && at_once > ENTRIES_CLOSELY => {
                    at_once = (at_once / CLOSER).max(ENTRIES_CLOSELY);
                }
                Stretch::Found(_, found) if found.differing > 0 && tries + 1 < TRIES_MAX => {
                    tries += 1;
                    self.look_at_documents(stop).await?;
                    stop.unless(async {
                        tokio::time::sleep(PAUSE).await;
                        Ok(())
                    })
                    .await?;
                }
                Stretch::Found(to, found) => {
                    tries = 0;
                    at_once = (at_once * CLOSER).min(ENTRIES_AT_ONCE);
                    comparison.ahead += found.changes;
                    comparison.reached.insert(source.clone(), to);
                    if found.differing > 0 {
                        comparison.doubt(&source, from, to, &found)?;
                    }
                }
            }
        }
        let reached = comparison.reached.get(&source).copied().unwrap_or(0);
        Ok(self.cursor(&source).await?.position - reached)
    }

    /// A row that takes values from a document differs for as long as the document is newer than
    /// what was applied of it.
    async fn look_at_documents(&mut self, stop: &Stop) -> Result<()> {
        if self.opened.plan.streams.iter().all(|stream| stream.companion.is_none()) {
            return Ok(());
        }
        self.rescan(RescanOptions::default(), stop).await.map(drop)
    }

    /// Compares what [`Tail::compare_ahead`] left, of sources that stand still and are applied to
    /// their end.
    pub async fn compare_rest(&mut self, comparison: &Comparison) -> Result<Compared> {
        self.mend().await?;
        self.open_files().await?;
        let mut all = Compared::default();
        for at in 0..self.files.len() {
            let source = self.files[at].source.relative.clone();
            let mut stretches: Vec<(LogPosition, LogPosition)> = comparison
                .doubtful
                .iter()
                .filter(|(doubtful, ..)| *doubtful == source)
                .map(|(_, from, to)| (*from, *to))
                .collect();
            let reached = comparison.reached.get(&source).copied().unwrap_or(0);
            stretches.push((reached, LogPosition::MAX));
            for (mut from, to) in stretches {
                loop {
                    match self.compare_stretch(at, from, to, ENTRIES_AT_ONCE).await? {
                        Stretch::End => break,
                        Stretch::Behind(_) => return Err(moved(&source)),
                        Stretch::Found(position, found) => {
                            from = position;
                            all.changes += found.changes;
                            all.differing += found.differing;
                        }
                    }
                }
            }
        }
        Ok(all)
    }

    /// Derives the rows of a batch of entries after `from`, up to `to` or to what is applied, once
    /// more, and compares their canonical bytes with those in Postgres, by applying them in a
    /// transaction that is rolled back.
    ///
    /// Rows that changed since wait in the log: what is captured and not applied yet is applied
    /// first, in the same transaction and out of the same reading, and no other tail applies
    /// anything meanwhile. That holds for every file that rows of the same key may stand in. So
    /// whatever differs then is not on its way.
    async fn compare_stretch(
        &mut self,
        at: usize,
        from: LogPosition,
        to: LogPosition,
        at_once: usize,
    ) -> Result<Stretch> {
        let opened = Arc::clone(&self.opened);
        let pack = &opened.plan.name;
        let source = self.files[at].source.relative.clone();
        let mut tx = self.conn.begin().await?;
        let settings = format!(
            "{APPLY_SETTINGS}; SET LOCAL idle_in_transaction_session_timeout = '60s'; \
             SET LOCAL \"toolkit.replay\" = 'on'; SET CONSTRAINTS ALL DEFERRED"
        );
        sqlx::raw_sql(sql(settings)).execute(&mut *tx).await?;
        capture_lock::exclusive(&mut tx, pack).await?;
        let Some(cursor) = record::cursor(&mut tx, pack, &source).await? else {
            return Err(moved(&source));
        };
        let end = to.min(cursor.position);
        if from >= end {
            // At once: nobody else applies anything as long as the lock is held.
            tx.rollback().await?;
            return Ok(Stretch::End);
        }
        let (wishes, mut held) =
            pending(&mut tx, &opened, &self.files, at, self.options.bytes_max).await?;
        let past = Wish {
            cursor: Cursor { position: from, mark: None, ..cursor.clone() },
            entries_max: usize::try_from(end - from).unwrap_or(at_once).min(at_once),
            bytes_max: self.options.bytes_max,
            waiting: Vec::new(),
            searches: Vec::new(),
        };
        let (reader, mut files) = (Arc::clone(&opened), std::mem::take(&mut self.files));
        let (files, found) = tokio::task::spawn_blocking(move || {
            let found = read::read_together(&reader, &mut files, &wishes, at, &past);
            (files, found)
        })
        .await
        .map_err(join_error)?;
        self.files = files;
        let (mut pending, past) = match found? {
            Together::Whole(pending, past) => (pending, past),
            Together::Behind(place) => {
                tx.rollback().await?;
                return Ok(Stretch::Behind(place));
            }
        };
        let has_changed = pending.iter().any(|batch| batch.changes > 0);
        for (batch, held) in pending.iter_mut().zip(&mut held) {
            held.keep_due(has_changed);
            read::include(&opened, batch, held.deletes.iter().map(|held| &held.stream));
        }
        let run_id = &self.run_id;
        let scene =
            Scene { opened: &opened, run_id, source: &source, cursor: &cursor, beside: &[] };
        let differing = differing(&mut tx, &scene, &pending, &held, &past).await?;
        tx.rollback().await?;
        let found = Compared { changes: past.changes, differing };
        Ok(if past.changes == 0 { Stretch::End } else { Stretch::Found(past.position, found) })
    }
}

/// What has to be applied before a row of file `at` may be judged: of that file, and of those that
/// may hold rows of the same keys.
async fn pending(
    tx: &mut PgConnection,
    opened: &OpenedPack,
    files: &[LiveFile],
    at: usize,
    bytes_max: usize,
) -> Result<(Vec<(usize, Wish)>, Vec<Held>)> {
    let pack = &opened.plan.name;
    let places: Vec<usize> = siblings(files, at).collect();
    let (mut wishes, mut all_held) = (Vec::new(), Vec::new());
    for place in &places {
        let source = &files[*place].source.relative;
        let Some(cursor) = record::cursor(tx, pack, source).await? else {
            return Err(moved(source));
        };
        let held = control::held(tx, pack, source).await?;
        let wish = Wish {
            cursor,
            // Together no more than one of them alone.
            entries_max: (ENTRIES_AT_ONCE / places.len()).max(ENTRIES_CLOSELY),
            bytes_max: (bytes_max / places.len()).max(1),
            waiting: held.rows.clone(),
            searches: Vec::new(),
        };
        wishes.push((*place, wish));
        all_held.push(held);
    }
    Ok((wishes, all_held))
}

/// Applies what is pending, and after it what was applied before: rows that this changes.
async fn differing(
    tx: &mut PgConnection,
    scene: &Scene<'_>,
    pending: &[Batch],
    held: &[Held],
    past: &Batch,
) -> Result<u64> {
    if pending.iter().any(|batch| batch.changes > 0) || !held.iter().all(Held::is_empty) {
        let has_history = control::is_history_complete(tx, &scene.opened.plan.name).await?;
        let mut works: Vec<_> = pending
            .iter()
            .zip(held)
            .flat_map(|(batch, held)| apply::works(scene, batch, held))
            .collect();
        // Parents first, whichever file they are in.
        works.sort_by_key(|work| work.batch.stream);
        apply::write(tx, &mut works, has_history).await?;
    }
    let mut works = apply::works(scene, past, &Held::default());
    let done = apply::write(tx, &mut works, true).await?;
    Ok(done.rows + done.deleted)
}

impl Comparison {
    /// Leaves a stretch for later.
    fn doubt(
        &mut self,
        source: &str,
        from: LogPosition,
        to: LogPosition,
        found: &Compared,
    ) -> Result<()> {
        self.doubtful.push((source.to_owned(), from, to));
        let entries: LogPosition = self.doubtful.iter().map(|(_, from, to)| to - from).sum();
        if u64::try_from(entries).unwrap_or(0) <= DOUBTFUL_MAX {
            return Ok(());
        }
        Err(found.differs())
    }
}

impl Compared {
    /// What to say of rows that differ.
    #[must_use]
    pub fn differs(&self) -> Error {
        Error::new(
            ErrorKind::SourceChanged,
            format!(
                "{} changed since the last verification and {} not in Postgres as in SQLite",
                counted(self.differing, "row"),
                if self.differing == 1 { "is" } else { "are" }
            ),
        )
        .advice("`toolkit verify-parity` names them; was anything else writing to the targets?")
    }
}

fn moved(source: &str) -> Error {
    Error::new(ErrorKind::Busy, format!("{source}: it changed while it was compared"))
        .advice("run the command again, when less is written")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_keeps_what_no_verification_has_compared_but_never_without_bound() {
        assert_eq!(kept_from(20_000, None), 15_000);
        assert_eq!(kept_from(20_000, Some(3_000)), 3_000);
        assert_eq!(kept_from(20_000, Some(19_999)), 15_000);
        assert_eq!(kept_from(3_000_000, Some(3_000)), 2_000_000);
        assert!(kept_from(100, None) < 0);
    }
}
