//! One point against what Postgres wants of it.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use crate::error::Result;
use crate::qdrant::outbox::{Content, expected, stored_digest};
use crate::qdrant::parity::{Extra, FieldDifference, Options, Reason};
use crate::qdrant::point::{Payload, Point, PointId, Vector};
use crate::qdrant::schema::{Distance, VectorKind};
use crate::qdrant::target::Target;

/// Norm of a vector that a store has normalised is 1 within this.
const NORM_TOLERANCE: f32 = 1e-3;
/// Longest length by which a store may have divided a vector of length 1, less 1.
const LENGTH_TOLERANCE: f32 = 1e-4;

#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    Same,
    Missing,
    Extra,
    Stale(Vec<Reason>, Vec<FieldDifference>),
}

pub(super) struct Judge<'a> {
    pub(super) target: &'a Target,
    pub(super) options: &'a Options,
}

impl Judge<'_> {
    /// Vectors made anew of those points that say our embedder made theirs.
    pub(super) async fn vectors(
        &self,
        contents: &[Content],
        points: &HashMap<PointId, Point>,
    ) -> Result<HashMap<PointId, Vec<f32>>> {
        let Some(embedder) = &self.options.embedder else { return Ok(HashMap::new()) };
        let derived = contents.iter().filter_map(|content| content.derived.as_ref());
        let texts: Vec<_> = derived
            .map(|derived| &derived.text)
            .filter(|text| {
                points
                    .get(&text.id)
                    .is_some_and(|p| text_of(p, "embedder") == Some(embedder.name()))
            })
            .cloned()
            .collect();
        let made = embedder.embed(&texts).await?;
        Ok(texts.into_iter().zip(made).map(|(text, made)| (text.id, made.vector)).collect())
    }

    pub(super) fn judge(
        &self,
        content: &Content,
        point: Option<&Point>,
        made: &HashMap<PointId, Vec<f32>>,
    ) -> Verdict {
        let (derived, point) = match (&content.derived, point) {
            (None, None) => return Verdict::Same,
            (Some(_), None) => return Verdict::Missing,
            (None, Some(_)) => return Verdict::Extra,
            (Some(derived), Some(point)) => (derived, point),
        };
        let mut found = Found::default();
        let (payload, wanted) = expected(derived);
        if stored_digest(&point.payload) != wanted {
            found.fields(&payload, &point.payload);
        } else if text_of(point, "payload_hash") != Some(&wanted) {
            let is = point.payload.get("payload_hash").map(Value::to_string);
            found.add(Reason::PayloadHash, "payload_hash", Some(format!("\"{wanted}\"")), is);
        }
        let version = point.payload.get("version");
        // Rows that were removed leave nothing to compare with.
        if content.version != 0 && version.and_then(Value::as_i64) != Some(content.version) {
            let is = version.map(Value::to_string);
            found.add(Reason::Version, "version", Some(content.version.to_string()), is);
        }
        self.vectors_of(point, made, &mut found);
        if found.reasons.is_empty() {
            Verdict::Same
        } else {
            Verdict::Stale(found.reasons, found.fields)
        }
    }

    /// The text vector must be there; all that are there must be of the collection's sizes, of
    /// length 1 where the store normalises, and, where it can be made anew, that of the text.
    fn vectors_of(&self, point: &Point, made: &HashMap<PointId, Vec<f32>>, found: &mut Found) {
        let text_vector = self.target.text_vector();
        for (name, kind) in &self.target.schema().vectors {
            let column = format!("vector {name}");
            let Some(vector) = point.vectors.get(name) else {
                if name == text_vector {
                    let reason = Reason::VectorMissing(name.clone());
                    found.add(reason, &column, Some(kind.describe()), None);
                }
                continue;
            };
            if let Some(is) = misshapen(vector, *kind) {
                let reason = Reason::VectorShape(name.clone());
                found.add(reason, &column, Some(kind.describe()), Some(is));
            } else if let Some(norm) = wrong_norm(vector, *kind) {
                let reason = Reason::VectorNorm(name.clone());
                let wanted = Some("of length 1".to_owned());
                found.add(reason, &column, wanted, Some(format!("of length {norm}")));
            } else if let (true, Some(made), Vector::Dense(stored)) =
                (name == text_vector, made.get(&point.id), vector)
                && !is_same_but_for_length(made, stored)
            {
                let reason = Reason::VectorOther(name.clone());
                let wanted = Some("that of its text".to_owned());
                let is = format!("another one, cosine to it {:.6}", cosine(made, stored));
                found.add(reason, &column, wanted, Some(is));
            }
        }
    }
}

#[derive(Default)]
struct Found {
    reasons: Vec<Reason>,
    fields: Vec<FieldDifference>,
}

impl Found {
    fn add(&mut self, reason: Reason, name: &str, wanted: Option<String>, is: Option<String>) {
        self.reasons.push(reason);
        self.fields.push(FieldDifference { name: name.to_owned(), wanted, is });
    }

    /// Every field of the payload that differs; there is at least one.
    fn fields(&mut self, wanted: &Payload, is: &Payload) {
        self.reasons.push(Reason::Payload);
        let about = ["payload_hash", "version", "embedder"];
        let mut both: BTreeMap<&String, (Option<&Value>, Option<&Value>)> = BTreeMap::new();
        for (name, value) in wanted {
            both.entry(name).or_default().0 = Some(value);
        }
        for (name, value) in is.iter().filter(|(name, _)| !about.contains(&name.as_str())) {
            both.entry(name).or_default().1 = Some(value);
        }
        for (name, (wanted, is)) in both {
            if wanted != is {
                let (wanted, is) = (wanted.map(Value::to_string), is.map(Value::to_string));
                self.fields.push(FieldDifference { name: name.clone(), wanted, is });
            }
        }
    }
}

fn text_of<'p>(point: &'p Point, name: &str) -> Option<&'p str> {
    point.payload.get(name).and_then(Value::as_str)
}

/// What is wrong with its shape.
fn misshapen(vector: &Vector, kind: VectorKind) -> Option<String> {
    let size = kind.size().and_then(|size| usize::try_from(size).ok());
    let rows: &[Vec<f32>] = match (vector, kind) {
        (Vector::Dense(row), VectorKind::Dense { .. }) => std::slice::from_ref(row),
        (Vector::Multi(rows), VectorKind::Multi { .. }) => rows,
        (Vector::Sparse { values, .. }, VectorKind::Sparse) => std::slice::from_ref(values),
        _ => return Some("of another kind".to_owned()),
    };
    for row in rows {
        if size.is_some_and(|size| size != row.len()) {
            return Some(format!("{} numbers", row.len()));
        }
        if row.iter().any(|number| !number.is_finite()) {
            return Some("with a number that is not finite".to_owned());
        }
    }
    None
}

/// The length of a vector that should be 1; all zero is what there is for a text of nothing.
fn wrong_norm(vector: &Vector, kind: VectorKind) -> Option<f32> {
    let (VectorKind::Dense { distance, .. } | VectorKind::Multi { distance, .. }) = kind else {
        return None;
    };
    if distance != Distance::Cosine {
        return None;
    }
    let rows: &[Vec<f32>] = match vector {
        Vector::Dense(row) => std::slice::from_ref(row),
        Vector::Multi(rows) => rows,
        Vector::Sparse { .. } => return None,
    };
    let norms = rows.iter().map(|row| row.iter().map(|x| x * x).sum::<f32>().sqrt());
    norms.into_iter().find(|norm| *norm != 0.0 && (norm - 1.0).abs() > NORM_TOLERANCE)
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(f32::MIN_POSITIVE)
}

/// Whether `stored` is `made`, bit by bit, or was divided by one length near 1, as stores do that
/// normalise: the sum of squares depends on the order in which a machine adds them.
fn is_same_but_for_length(made: &[f32], stored: &[f32]) -> bool {
    let is_divided_by = |length: f32| {
        made.len() == stored.len()
            && made.iter().zip(stored).all(|(made, is)| (made / length).to_bits() == is.to_bits())
    };
    if is_divided_by(1.0) {
        return true;
    }
    let greatest = made.iter().zip(stored).max_by(|(a, _), (b, _)| a.abs().total_cmp(&b.abs()));
    let Some((made, is)) = greatest else { return false };
    let length = made / is;
    let is_near = (length - 1.0).abs() <= LENGTH_TOLERANCE;
    if !is_near {
        return false;
    }
    // The quotient says the length but for its last bits.
    let mut lengths = vec![length];
    let (mut up, mut down) = (length, length);
    for _ in 0..4 {
        (up, down) = (up.next_up(), down.next_down());
        lengths.extend([up, down]);
    }
    lengths.into_iter().any(is_divided_by)
}

/// What a payload says its point is of.
pub(super) fn extra_of(point: &Point) -> Extra {
    Extra { id: point.id, entity_type: text_of(point, "entity_type").map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qdrant::embed::Hashed;

    #[test]
    fn a_vector_divided_by_a_length_is_the_same_and_one_with_any_bit_flipped_is_another() {
        let made = Hashed::new(384).vector("Spike Spiegel\n\nA bounty hunter.");
        for length in [1.0_f32, 1.000_000_1, 0.999_999, 1.000_01] {
            let stored: Vec<f32> = made.iter().map(|number| number / length).collect();
            assert!(is_same_but_for_length(&made, &stored), "{length}");
            for at in [0, 7, 100, 383] {
                for bit in 0..32 {
                    let mut flipped = stored.clone();
                    flipped[at] = f32::from_bits(flipped[at].to_bits() ^ (1 << bit));
                    assert!(!is_same_but_for_length(&made, &flipped), "{length} {at} {bit}");
                }
            }
        }
        assert!(!is_same_but_for_length(&made, &made[1..]));
        assert!(!is_same_but_for_length(&made, &[0.0; 384]));
    }
}
