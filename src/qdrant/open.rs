//! The store the settings name.

use std::sync::Arc;

use super::server::Server;
use super::store::VectorStore;
use crate::config::Settings;
use crate::error::Result;

/// The server by URL, or the engine in this process where none is given.
///
/// Fails with [`crate::ErrorKind::Busy`] while another process has the embedded one open, and
/// with [`crate::ErrorKind::Config`] where none is given and this program was built without it.
pub async fn open(settings: &Settings) -> Result<Arc<dyn VectorStore>> {
    if let Some(server) = &settings.qdrant.server {
        return Ok(Arc::new(Server::new(server)?));
    }
    embedded(settings).await
}

/// As [`open`]; None where there is no server, and nobody made the one in this process yet: nothing
/// is made.
pub async fn open_existing(settings: &Settings) -> Result<Option<Arc<dyn VectorStore>>> {
    let is_there = settings.qdrant.server.is_some()
        || (cfg!(feature = "embedded-qdrant") && settings.state_dir.join("qdrant").is_dir());
    if is_there { open(settings).await.map(Some) } else { Ok(None) }
}

#[cfg(feature = "embedded-qdrant")]
async fn embedded(settings: &Settings) -> Result<Arc<dyn VectorStore>> {
    let state_dir = settings.state_dir.clone();
    let opened = tokio::task::spawn_blocking(move || super::Embedded::open(&state_dir)).await;
    Ok(Arc::new(opened.map_err(crate::pack::join_error)??))
}

#[cfg(not(feature = "embedded-qdrant"))]
async fn embedded(_settings: &Settings) -> Result<Arc<dyn VectorStore>> {
    Err(crate::Error::new(
        crate::ErrorKind::Config,
        "no Qdrant server is named, and this toolkit was built without the embedded one",
    )
    .advice("give --qdrant-url or QDRANT_URL, or build with the feature embedded-qdrant"))
}
