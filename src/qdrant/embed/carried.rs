//! Vectors carried over from a collection: what was embedded once, perhaps by a model that is no
//! longer at hand, is copied.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::{Embedded, Embedder, Text};
use crate::error::Result;
use crate::qdrant::point::{Point, PointId, Vector};

/// The embedder's name of vectors that came with a collection which did not say who made them.
pub const CARRIED: &str = "carried";

/// Takes vectors from points that were read where they are of the same text, others from
/// `otherwise`.
pub struct Carried<'a> {
    points: &'a HashMap<PointId, Point>,
    vector: String,
    otherwise: Arc<dyn Embedder>,
}

impl<'a> Carried<'a> {
    /// Copies the vector named `vector` from `points`.
    pub fn new(
        points: &'a HashMap<PointId, Point>,
        vector: impl Into<String>,
        otherwise: Arc<dyn Embedder>,
    ) -> Self {
        Self { points, vector: vector.into(), otherwise }
    }

    /// The point's vector, if it is of this text or does not say of which text it is.
    fn fitting(&self, text: &Text, point: &Point) -> Option<Embedded> {
        let field = |name: &str| point.payload.get(name).and_then(|value| value.as_str());
        let is_kept = |by: &str| {
            by == CARRIED || by == self.otherwise.name() && !self.otherwise.is_repeatable()
        };
        let by = match (field("embedder"), field("text_hash")) {
            (None, None) => CARRIED,
            (Some(by), Some(hash)) if hash == text.digest() && is_kept(by) => by,
            _ => return None,
        };
        match point.vectors.get(&self.vector) {
            Some(Vector::Dense(vector)) if vector.len() == self.dimension() as usize => {
                Some(Embedded { vector: vector.clone(), by: by.to_owned() })
            }
            _ => None,
        }
    }
}

#[async_trait]
impl Embedder for Carried<'_> {
    fn name(&self) -> &str {
        self.otherwise.name()
    }

    fn dimension(&self) -> u32 {
        self.otherwise.dimension()
    }

    async fn embed(&self, texts: &[Text]) -> Result<Vec<Embedded>> {
        let mut made: Vec<Option<Embedded>> = texts
            .iter()
            .map(|text| self.points.get(&text.id).and_then(|point| self.fitting(text, point)))
            .collect();
        let missing: Vec<Text> = texts
            .iter()
            .zip(&made)
            .filter(|(_, made)| made.is_none())
            .map(|(text, _)| text.clone())
            .collect();
        let mut fresh = if missing.is_empty() {
            Vec::new().into_iter()
        } else {
            self.otherwise.embed(&missing).await?.into_iter()
        };
        for slot in made.iter_mut().filter(|slot| slot.is_none()) {
            *slot = fresh.next();
        }
        Ok(made.into_iter().flatten().collect())
    }
}
