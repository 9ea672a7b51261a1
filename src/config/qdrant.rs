//! Settings of the vector store and of embeddings.
//!
//! | setting | flag | environment | `toolkit.toml` | default |
//! |---|---|---|---|---|
//! | Qdrant server (gRPC) | `--qdrant-url` | `QDRANT_URL` | `qdrant_url` | `embedded` |
//! | its key | | `QDRANT_API_KEY` | `qdrant_api_key` | none |
//! | collection, vectors, batches, time limits | | | `[qdrant]` | see [`Qdrant`] |
//! | embeddings | | `TOOLKIT_EMBEDDING_URL`, `_MODEL`, `_API_KEY` | `[embedding]` | offline |

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::{Error, ErrorKind, Result};

/// A server by URL.
#[derive(Clone, PartialEq, Eq)]
pub struct QdrantServer {
    /// `http://host:6334`, or `https://`.
    pub url: String,
    /// Never printed.
    pub api_key: Option<String>,
    /// Longest an answer may take, in milliseconds.
    pub timeout_ms: u32,
    /// Longest a connection may take, in milliseconds.
    pub connect_timeout_ms: u32,
}

impl QdrantServer {
    /// A server with every default but its URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), api_key: None, timeout_ms: 30_000, connect_timeout_ms: 10_000 }
    }
}

impl std::fmt::Debug for QdrantServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("QdrantServer(***)")
    }
}

/// One named vector of the collection, as configured.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VectorSetting {
    /// How many numbers; none for a sparse vector.
    pub size: Option<u64>,
    /// cosine, dot, euclid or manhattan.
    pub distance: Option<String>,
    /// Several of them per point.
    #[serde(default)]
    pub multi: bool,
    /// Numbers by index.
    #[serde(default)]
    pub sparse: bool,
}

/// The collection and how it is written.
#[derive(Debug, Clone)]
pub struct Qdrant {
    /// The server; None: the engine in this process.
    pub server: Option<QdrantServer>,
    /// Alias, or name, of the collection.
    pub collection: String,
    /// The vector that embeddings go to.
    pub text_vector: String,
    /// Named vectors; the text vector is added where it is not among them.
    pub vectors: BTreeMap<String, VectorSetting>,
    /// Points per write.
    pub batch: u32,
}

impl Default for Qdrant {
    fn default() -> Self {
        Self {
            server: None,
            collection: "anime_database".to_owned(),
            text_vector: "text_vector".to_owned(),
            vectors: BTreeMap::new(),
            batch: 256,
        }
    }
}

/// Where embeddings come from.
#[derive(Clone)]
pub struct Embedding {
    /// An OpenAI-compatible endpoint, up to and with `/v1`; None: hashed n-grams, offline.
    pub url: Option<String>,
    /// The model's name there.
    pub model: String,
    /// Never printed.
    pub api_key: Option<String>,
    /// Numbers of a vector.
    pub dimension: u32,
    /// Texts per request.
    pub batch: u32,
    /// Longest an answer may take, in milliseconds.
    pub timeout_ms: u32,
}

impl std::fmt::Debug for Embedding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedding")
            .field("model", &self.model)
            .field("dimension", &self.dimension)
            .finish_non_exhaustive()
    }
}

impl Default for Embedding {
    fn default() -> Self {
        Self {
            url: None,
            model: String::new(),
            api_key: None,
            dimension: 384,
            batch: 64,
            timeout_ms: 60_000,
        }
    }
}

/// What `toolkit.toml` says; every part may be missing.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct QdrantFile {
    collection: Option<String>,
    text_vector: Option<String>,
    vectors: BTreeMap<String, VectorSetting>,
    batch: Option<u32>,
    timeout_ms: Option<u32>,
    connect_timeout_ms: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct EmbeddingFile {
    url: Option<String>,
    model: Option<String>,
    api_key: Option<String>,
    dimension: Option<u32>,
    batch: Option<u32>,
    timeout_ms: Option<u32>,
}

impl Qdrant {
    /// The server's URL and key come from flag, environment or file, the rest from the file.
    pub(super) fn resolve(
        url: Option<String>,
        api_key: Option<String>,
        file: QdrantFile,
    ) -> Result<Self> {
        let server = url.filter(|url| url != "embedded").map(|url| QdrantServer {
            api_key,
            timeout_ms: file.timeout_ms.unwrap_or(30_000),
            connect_timeout_ms: file.connect_timeout_ms.unwrap_or(10_000),
            ..QdrantServer::new(url)
        });
        let default = Self::default();
        let this = Self {
            server,
            collection: file.collection.unwrap_or(default.collection),
            text_vector: file.text_vector.unwrap_or(default.text_vector),
            vectors: file.vectors,
            batch: file.batch.unwrap_or(default.batch),
        };
        within("qdrant.batch", this.batch, 1, 10_000)?;
        if this.collection.is_empty() || this.text_vector.is_empty() {
            let detail = "qdrant.collection and qdrant.text_vector must not be empty";
            return Err(Error::new(ErrorKind::Config, detail));
        }
        Ok(this)
    }
}

impl Embedding {
    pub(super) fn resolve(
        url: Option<String>,
        model: Option<String>,
        api_key: Option<String>,
        file: EmbeddingFile,
    ) -> Result<Self> {
        let default = Self::default();
        let this = Self {
            url: url.or(file.url),
            model: model.or(file.model).unwrap_or(default.model),
            api_key: api_key.or(file.api_key),
            dimension: file.dimension.unwrap_or(default.dimension),
            batch: file.batch.unwrap_or(default.batch),
            timeout_ms: file.timeout_ms.unwrap_or(default.timeout_ms),
        };
        within("embedding.dimension", this.dimension, 8, 65_536)?;
        within("embedding.batch", this.batch, 1, 2_048)?;
        within("embedding.timeout_ms", this.timeout_ms, 1, 3_600_000)?;
        if this.url.is_some() && this.model.is_empty() {
            return Err(Error::new(
                ErrorKind::Config,
                "embedding.url is set but no model is named",
            )
            .advice("add `model = \"NAME\"` to [embedding] in toolkit.toml"));
        }
        Ok(this)
    }
}

fn within(name: &str, value: u32, least: u32, most: u32) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let detail = format!("{name} is {value}; it must be {least} to {most}");
    Err(Error::new(ErrorKind::Config, detail))
}
