//! What was found of the points, as every comparison tells it.

use serde_json::Map;
use sha2::{Digest as _, Sha256};

use crate::anime::points::Entity;
use crate::parity::{Against, Compared, Difference, Kind, StoreResult, UnitResult, shorten_pair};
use crate::qdrant::parity::{Counts, FieldDifference, Report};
use crate::qdrant::point::PointId;

/// Slice of an entity type's points.
fn slice(entity_type: &str) -> String {
    format!("{}.{entity_type}", Against::Qdrant.name())
}

/// What a difference says of a thing that is on its way.
const ON_ITS_WAY: &str = "on its way: its outbox row waits for `toolkit outbox drain`";

impl Report {
    /// As slices and differences; `place` is where the points are. At most `differences_max`
    /// differing points are named.
    pub fn compared(&self, place: &str, differences_max: usize) -> Compared {
        let units = self.counts.iter().filter(|(name, counts)| {
            // Points of no known type are worth a line only if there are any.
            *name != "other" || **counts != Counts::default()
        });
        let mut differences = self.differences();
        differences.truncate_points(differences_max);
        Compared {
            store: StoreResult {
                against: Against::Qdrant,
                place: format!("{place}, collection {}", self.collection),
                on_the_way: self.on_the_way.count,
                notes: self.notes(),
            },
            units: units.map(|(name, counts)| self.unit(name, *counts)).collect(),
            differences: differences.0,
        }
    }

    fn unit(&self, name: &str, counts: Counts) -> UnitResult {
        let mut unit = UnitResult {
            target: slice(name),
            against: Against::Qdrant,
            source_rows: counts.postgres,
            target_rows: counts.qdrant,
            missing: counts.missing + counts.missing_yet,
            extra: counts.extra + counts.extra_yet,
            changed: counts.stale + counts.stale_yet,
            ..UnitResult::default()
        };
        if unit.differing() == 0 {
            let sum = self.same.get(name).map_or("", String::as_str);
            let root = hex::encode(Sha256::digest(format!("toolkit points root 1\n{sum}")));
            unit.source_root = Some(root.clone());
            unit.target_root = Some(root);
        }
        unit
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = vec![
            "ids in both directions, payloads, their digests, versions, and of vectors presence, \
             dimension and length"
                .to_owned(),
        ];
        if self.made_anew > 0 {
            notes.push(format!(
                "{} text vectors were made anew from the text and compared bit by bit",
                self.made_anew
            ));
        }
        let others = self.points.saturating_sub(self.made_anew);
        if others > 0 {
            notes.push(format!(
                "{others} text vectors cannot be made anew here, {} of them because they came with \
                 the collection: their numbers were not compared",
                self.carried
            ));
        }
        if self.on_the_way.count > 0 {
            notes.push(format!(
                "{} of the differences are on their way: `toolkit outbox drain` or --settle",
                self.on_the_way.count
            ));
        }
        notes
    }

    fn differences(&self) -> Named {
        let mut named = Named(Vec::new());
        for entity in &self.missing.first {
            named.whole(Kind::Missing, entity.entity_type.name(), entity.id.into(), None);
        }
        for extra in &self.extra.first {
            let known = extra.entity_type.as_deref().filter(|name| self.counts.contains_key(*name));
            named.whole(Kind::Extra, known.unwrap_or("other"), extra.id, None);
        }
        for stale in &self.stale.first {
            named.fields(stale.entity, &stale.fields, None);
        }
        for waiting in &self.on_the_way.first {
            let Entity { entity_type, id } = waiting.entity;
            if waiting.kind == Kind::Changed {
                named.fields(waiting.entity, &waiting.fields, Some(ON_ITS_WAY));
            } else {
                named.whole(waiting.kind, entity_type.name(), id.into(), Some(ON_ITS_WAY));
            }
        }
        named
    }
}

struct Named(Vec<Difference>);

impl Named {
    fn whole(&mut self, kind: Kind, entity_type: &str, id: PointId, why: Option<&str>) {
        let mut line = line(kind, entity_type, id);
        line.locator = why.map(str::to_owned);
        self.0.push(line);
    }

    /// A line for each part of a point that differs.
    fn fields(&mut self, entity: Entity, fields: &[FieldDifference], why: Option<&str>) {
        for field in fields {
            let mut line = line(Kind::Changed, entity.entity_type.name(), entity.id.into());
            line.column = Some(field.name.clone());
            (line.source_value, line.target_value) =
                shorten_pair(field.wanted.clone(), field.is.clone());
            line.locator = why.map(str::to_owned);
            self.0.push(line);
        }
    }

    /// Keeps the lines of the first points.
    fn truncate_points(&mut self, points_max: usize) {
        let mut points = 0;
        let mut last = None;
        let kept = self.0.iter().take_while(|line| {
            let this = (line.kind, &line.target, &line.key);
            if last.replace(this) != Some(this) {
                points += 1;
            }
            points <= points_max
        });
        let kept = kept.count();
        self.0.truncate(kept);
    }
}

fn line(kind: Kind, entity_type: &str, id: PointId) -> Difference {
    let id = match id {
        PointId::Uuid(uuid) => uuid.to_string().into(),
        PointId::Number(number) => number.into(),
    };
    let key = Map::from_iter([("id".to_owned(), id)]);
    Difference::of_row(Against::Qdrant.name(), slice(entity_type), kind, key)
}
