//! Every store there is to test against.

use std::sync::Arc;

use tempfile::TempDir;
use toolkit::config::QdrantServer;
use toolkit::qdrant::{Embedded, Server, VectorStore};

use super::front::{Front, KEY};

/// A store, and what it lives in.
#[allow(clippy::struct_field_names)]
pub(super) struct Store {
    pub(super) name: &'static str,
    pub(super) store: Arc<dyn VectorStore>,
    pub(super) front: Option<Front>,
    _folder: TempDir,
}

pub(super) fn embedded() -> Store {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Embedded::open(folder.path()).unwrap());
    Store { name: "embedded", store, front: None, _folder: folder }
}

/// The gRPC client, against the engine in this process.
pub(super) async fn front() -> Store {
    front_with_messages_of(usize::MAX).await
}

/// The same, where no message may be longer.
pub(super) async fn front_with_messages_of(bytes_max: usize) -> Store {
    let folder = tempfile::tempdir().unwrap();
    let front = Front::start(Embedded::open(folder.path()).unwrap(), bytes_max, None).await;
    let server =
        QdrantServer { api_key: Some(KEY.to_owned()), ..QdrantServer::new(front.url.clone()) };
    let store = Arc::new(Server::new(&server).unwrap());
    Store { name: "gRPC front", store, front: Some(front), _folder: folder }
}

/// A real server: `TOOLKIT_TEST_QDRANT_URL` (with `TOOLKIT_TEST_QDRANT_API_KEY`), or Docker's.
async fn server() -> Option<Store> {
    let named = std::env::var("TOOLKIT_TEST_QDRANT_URL").ok().filter(|url| !url.is_empty());
    let url = match named {
        Some(url) => url,
        None => match container().await {
            Ok(url) => url,
            Err(error) => {
                println!("no Qdrant server: set TOOLKIT_TEST_QDRANT_URL; docker: {error}");
                return None;
            }
        },
    };
    let api_key = std::env::var("TOOLKIT_TEST_QDRANT_API_KEY").ok();
    let server = QdrantServer { api_key, ..QdrantServer::new(url) };
    let store = Arc::new(Server::new(&server).unwrap());
    Some(Store { name: "server", store, front: None, _folder: tempfile::tempdir().unwrap() })
}

/// Kept until the process ends; removed by testcontainers' own keeper.
async fn container() -> Result<String, Box<dyn std::error::Error>> {
    use testcontainers::GenericImage;
    use testcontainers::core::{IntoContainerPort, WaitFor};
    use testcontainers::runners::AsyncRunner;
    static STARTED: tokio::sync::OnceCell<Option<String>> = tokio::sync::OnceCell::const_new();
    let url = STARTED
        .get_or_init(async || {
            let image = GenericImage::new("qdrant/qdrant", "v1.18.0")
                .with_exposed_port(6334.tcp())
                .with_wait_for(WaitFor::message_on_stdout("Qdrant gRPC listening"));
            let container = image.start().await.ok()?;
            let port = container.get_host_port_ipv4(6334).await.ok()?;
            std::mem::forget(container);
            Some(format!("http://127.0.0.1:{port}"))
        })
        .await;
    url.clone().ok_or_else(|| "does not answer".into())
}

pub(super) async fn all() -> Vec<Store> {
    let mut all = vec![embedded(), front().await];
    all.extend(server().await);
    all
}
