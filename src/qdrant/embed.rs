//! Texts to vectors, behind one trait: an OpenAI-compatible endpoint, hashed n-grams without any
//! model, and vectors carried over from a collection that has them.
//!
//! A text is names, a line each, and after an empty line whatever else describes the thing.

mod carried;
mod hashed;
mod http;

use std::sync::Arc;

use async_trait::async_trait;
use sha2::{Digest, Sha256};

pub use carried::{CARRIED, Carried};
pub use hashed::Hashed;
pub use http::Http;

use super::point::PointId;
use crate::config::Settings;
use crate::error::Result;

/// A text to embed, and the point it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// The point.
    pub id: PointId,
    /// Names, an empty line, the rest.
    pub text: String,
}

impl Text {
    /// SHA-256 of the text, kept in the payload: the same text needs no new vector.
    pub fn digest(&self) -> String {
        hex::encode(Sha256::digest(&self.text))
    }
}

/// A vector, and which embedder made it.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// As many numbers as [`Embedder::dimension`].
    pub vector: Vec<f32>,
    /// [`Embedder::name`] of who made it.
    pub by: String,
}

/// Makes vectors of texts.
#[async_trait]
pub trait Embedder: Send + Sync {
    /// What is kept beside a vector: vectors of another name are in another space.
    fn name(&self) -> &str;

    /// Numbers of a vector.
    fn dimension(&self) -> u32;

    /// Whether it makes the same vector of a text every time, at hardly any cost: then none is
    /// copied from a collection, whose files may be damaged.
    fn is_repeatable(&self) -> bool {
        false
    }

    /// A vector for each text, in their order.
    async fn embed(&self, texts: &[Text]) -> Result<Vec<Embedded>>;
}

/// The embedder whose vectors can be made anew and compared: the offline one, which gives the same
/// numbers every time.
pub fn recomputing(settings: &Settings) -> Option<Arc<dyn Embedder>> {
    let embedding = &settings.embedding;
    embedding.url.is_none().then(|| Arc::new(Hashed::new(embedding.dimension)) as Arc<dyn Embedder>)
}

/// The embedder the settings name: the endpoint, or hashed n-grams where there is none.
pub fn embedder(settings: &Settings) -> Result<Arc<dyn Embedder>> {
    let embedding = &settings.embedding;
    Ok(match &embedding.url {
        Some(_) => Arc::new(Http::new(embedding)?),
        None => Arc::new(Hashed::new(embedding.dimension)),
    })
}
