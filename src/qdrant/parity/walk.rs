//! Both sides in the order of their ids, window by window.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::anime::points::{Entity, EntityType, window};
use crate::canonical::{BucketSum, sha256};
use crate::error::Result;
use crate::interrupt::Stop;
use crate::parity::Kind;
use crate::qdrant::PAGE;
use crate::qdrant::embed::CARRIED;
use crate::qdrant::outbox::{Content, contents, expected, locked, queued};
use crate::qdrant::parity::judge::{Judge, Verdict, extra_of};
use crate::qdrant::parity::{Counts, Options, Report, Stale, Waiting};
use crate::qdrant::point::{Filter, Point, PointId, With};
use crate::qdrant::target::Target;
use crate::store::Postgres;

/// Between two looks at what is on its way.
const ASK_AGAIN: Duration = Duration::from_millis(200);

pub(super) async fn compare(
    postgres: &Postgres,
    target: &Target,
    collection: &str,
    options: &Options,
    stop: &Stop,
) -> Result<Report> {
    let mut report = Report { collection: collection.to_owned(), ..Report::default() };
    for kind in EntityType::ALL {
        report.counts.insert(kind.name().to_owned(), Counts::default());
    }
    let conn = postgres.dedicated().await?;
    let judge = Judge { target, options };
    let mut walk =
        Walk { judge, collection, conn, report, waiting: Vec::new(), same: HashMap::new() };
    let (mut after, mut from) = (None, None);
    loop {
        stop.check()?;
        match walk.window(after, from).await? {
            Reached::End => break,
            Reached::Numbers(next) => from = Some(next),
            Reached::Id(id) => {
                after = Some(id);
                from = Some(PointId::Uuid(Uuid::from_u128(id.as_u128() + 1)));
            }
        }
    }
    walk.settle(stop).await?;
    let mut report = walk.finish();
    report.points = target.store().count(collection, &Filter::default()).await?;
    Ok(report)
}

/// How far a window reached.
enum Reached {
    End,
    /// Points with numbers, which come before all UUIDs; this one is next.
    Numbers(PointId),
    Id(Uuid),
}

struct Walk<'a> {
    judge: Judge<'a>,
    collection: &'a str,
    conn: PgConnection,
    report: Report,
    /// What differs and is on its way.
    waiting: Vec<(Entity, Verdict)>,
    /// Of equal points, by type.
    same: HashMap<EntityType, BucketSum>,
}

impl Walk<'_> {
    /// Compares what both sides have between `after` and where the shorter page ends.
    async fn window(&mut self, after: Option<Uuid>, from: Option<PointId>) -> Result<Reached> {
        let store = self.judge.target.store();
        let nothing = Filter::default();
        let page = store.scroll(self.collection, &nothing, from, PAGE, With::ALL).await?;
        let last_uuid = page.points.iter().rev().find_map(|point| point.id.uuid());
        if let (Some(next), None) = (page.next, last_uuid) {
            for point in page.points {
                self.extra(&point);
            }
            return Ok(Reached::Numbers(next));
        }
        let mut until = page.next.and(last_uuid).unwrap_or(Uuid::max());
        let entities = window(&mut self.conn, after, until, PAGE).await?;
        if entities.len() == PAGE as usize {
            until = entities.last().map_or(until, |entity| entity.id);
        }
        let mut points: HashMap<PointId, Point> = HashMap::new();
        for point in page.points {
            match point.id.uuid() {
                None => self.extra(&point),
                Some(id) if id <= until => {
                    self.count(&point);
                    points.insert(point.id, point);
                }
                // Of the next window.
                Some(_) => {}
            }
        }
        for entity in &entities {
            self.counts(entity.entity_type.name()).postgres += 1;
        }
        self.compare(&entities, points).await?;
        Ok(if until == Uuid::max() { Reached::End } else { Reached::Id(until) })
    }

    /// First at a glance, then what differs once more under locks.
    async fn compare(
        &mut self,
        entities: &[Entity],
        mut points: HashMap<PointId, Point>,
    ) -> Result<()> {
        let contents = contents(&mut self.conn, entities, true).await?;
        let made = self.judge.vectors(&contents, &points).await?;
        let mut doubtful = Vec::new();
        for content in &contents {
            let point = points.remove(&content.entity.id.into());
            match self.judge.judge(content, point.as_ref(), &made) {
                Verdict::Same => self.same(content),
                _ => doubtful.push(content.entity),
            }
        }
        for point in points.into_values() {
            doubtful.extend(extra_of(&point).entity());
        }
        self.look_again(&doubtful).await
    }

    /// Under its point's lock, what a worker has settled is in the store.
    async fn look_again(&mut self, entities: &[Entity]) -> Result<()> {
        if entities.is_empty() {
            return Ok(());
        }
        let mut transaction = self.conn.begin().await?;
        let mine = locked(&mut transaction, entities).await?;
        let contents = contents(&mut transaction, entities, true).await?;
        let ids: Vec<PointId> = entities.iter().map(|entity| entity.id.into()).collect();
        let store = self.judge.target.store();
        let found = store.retrieve(self.collection, &ids, With::ALL).await?;
        // A change that was made between the two reads of `contents` has its row by now.
        let queued = queued(&mut transaction, entities).await?;
        transaction.rollback().await?;
        let found: HashMap<PointId, Point> =
            found.into_iter().map(|point| (point.id, point)).collect();
        let made = self.judge.vectors(&contents, &found).await?;
        for content in contents {
            let point = found.get(&content.entity.id.into());
            let verdict = self.judge.judge(&content, point, &made);
            let is_a_workers = queued.contains(&content.entity) || !mine.contains(&content.entity);
            match verdict {
                Verdict::Same => self.same(&content),
                differs if is_a_workers => self.waiting.push((content.entity, differs)),
                differs => self.difference(content.entity, differs, point),
            }
        }
        Ok(())
    }

    /// Looks at what is on its way until it has arrived, or the time is over.
    async fn settle(&mut self, stop: &Stop) -> Result<()> {
        let start = Instant::now();
        while !self.waiting.is_empty() && start.elapsed() < self.judge.options.settle {
            stop.check()?;
            tokio::time::sleep(ASK_AGAIN).await;
            let waiting = std::mem::take(&mut self.waiting);
            let entities: Vec<Entity> = waiting.into_iter().map(|(entity, _)| entity).collect();
            for part in entities.chunks(PAGE as usize) {
                self.look_again(part).await?;
            }
        }
        Ok(())
    }

    fn difference(&mut self, entity: Entity, verdict: Verdict, point: Option<&Point>) {
        let max = self.judge.options.listed_max;
        let report = &mut self.report;
        let name = entity.entity_type.name();
        match verdict {
            Verdict::Same => {}
            Verdict::Missing => {
                report.missing.push(entity, max);
                self.counts(name).missing += 1;
            }
            Verdict::Extra => {
                if let Some(point) = point {
                    report.extra.push(extra_of(point), max);
                    let named = counted_as(point);
                    self.counts(&named).extra += 1;
                }
            }
            Verdict::Stale(reasons, fields) => {
                report.stale.push(Stale { entity, reasons, fields }, max);
                self.counts(name).stale += 1;
            }
        }
    }

    fn finish(mut self) -> Report {
        for (entity, verdict) in std::mem::take(&mut self.waiting) {
            let (kind, fields) = match verdict {
                Verdict::Same => continue,
                Verdict::Missing => (Kind::Missing, Vec::new()),
                Verdict::Extra => (Kind::Extra, Vec::new()),
                Verdict::Stale(_, fields) => (Kind::Changed, fields),
            };
            let max = self.judge.options.listed_max;
            self.report.on_the_way.push(Waiting { entity, kind, fields }, max);
            self.counts(entity.entity_type.name()).wait(kind);
        }
        self.report.same = self
            .same
            .into_iter()
            .map(|(kind, sum)| (kind.name().to_owned(), format!("{}:{:032x}", sum.count, sum.sum)))
            .collect();
        self.report
    }

    /// Id, type, payload and version of a point that is as it should be.
    fn same(&mut self, content: &Content) {
        let Some(derived) = &content.derived else { return };
        let (_, digest) = expected(derived);
        let line = format!("{} {digest} {}", content.entity, content.version);
        let sum = self.same.entry(content.entity.entity_type).or_default();
        sum.add(&sha256(line.as_bytes()));
    }

    /// A point whose id no entity can have.
    fn extra(&mut self, point: &Point) {
        self.count(point);
        self.report.extra.push(extra_of(point), self.judge.options.listed_max);
        self.counts(&counted_as(point)).extra += 1;
    }

    fn count(&mut self, point: &Point) {
        self.counts(&counted_as(point)).qdrant += 1;
        let by = point.payload.get("embedder").and_then(|value| value.as_str());
        self.report.carried += u64::from(by == Some(CARRIED));
        let ours = self.judge.options.embedder.as_ref().map(|embedder| embedder.name());
        self.report.made_anew += u64::from(by.is_some() && by == ours);
    }

    fn counts(&mut self, name: &str) -> &mut Counts {
        self.report.counts.entry(name.to_owned()).or_default()
    }
}

/// The type a point says it is of; `other` without a known one.
fn counted_as(point: &Point) -> String {
    let named = point.payload.get("entity_type").and_then(|value| value.as_str());
    let known = named.filter(|name| EntityType::of_name(name).is_some());
    known.unwrap_or("other").to_owned()
}
