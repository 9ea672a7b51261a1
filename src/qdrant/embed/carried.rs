//! Vectors carried over from a collection: what was embedded once, perhaps by a model that is no
//! longer at hand, is copied.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::{Embedded, Embedder, Text};
use crate::error::Result;
use crate::qdrant::point::{Point, PointId, Vector, With};
use crate::qdrant::store::VectorStore;

/// The embedder's name of vectors that came with a collection which did not say who made them.
pub const CARRIED: &str = "carried";

/// Takes vectors from a collection where it has them for the same text, others from `otherwise`.
pub struct Carried {
    store: Arc<dyn VectorStore>,
    collection: String,
    vector: String,
    otherwise: Arc<dyn Embedder>,
}

impl Carried {
    /// Copies the vector named `vector` from `collection`.
    pub fn new(
        store: Arc<dyn VectorStore>,
        collection: impl Into<String>,
        vector: impl Into<String>,
        otherwise: Arc<dyn Embedder>,
    ) -> Self {
        Self { store, collection: collection.into(), vector: vector.into(), otherwise }
    }

    /// The point's vector, if it is of this text or does not say of which text it is.
    fn fitting(&self, text: &Text, point: &Point) -> Option<Embedded> {
        let field = |name: &str| point.payload.get(name).and_then(|value| value.as_str());
        let by = match (field("embedder"), field("text_hash")) {
            (None, None) => CARRIED,
            (Some(by), Some(hash))
                if hash == text.digest() && (by == CARRIED || by == self.otherwise.name()) =>
            {
                by
            }
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
impl Embedder for Carried {
    fn name(&self) -> &str {
        self.otherwise.name()
    }

    fn dimension(&self) -> u32 {
        self.otherwise.dimension()
    }

    async fn embed(&self, texts: &[Text]) -> Result<Vec<Embedded>> {
        let ids: Vec<PointId> = texts.iter().map(|text| text.id).collect();
        let found = self.store.retrieve(&self.collection, &ids, With::ALL).await?;
        let found: HashMap<PointId, Point> =
            found.into_iter().map(|point| (point.id, point)).collect();
        let mut made: Vec<Option<Embedded>> = texts
            .iter()
            .map(|text| found.get(&text.id).and_then(|point| self.fitting(text, point)))
            .collect();
        let missing: Vec<Text> = texts
            .iter()
            .zip(&made)
            .filter(|(_, made)| made.is_none())
            .map(|(text, _)| text.clone())
            .collect();
        let mut fresh = self.otherwise.embed(&missing).await?.into_iter();
        for slot in made.iter_mut().filter(|slot| slot.is_none()) {
            *slot = fresh.next();
        }
        Ok(made.into_iter().flatten().collect())
    }
}
