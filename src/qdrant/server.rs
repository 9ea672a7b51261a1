//! A Qdrant server over gRPC.
//!
//! Written for server 1.18. Writes wait until they are applied; counts are exact; a write that
//! was only acknowledged in time counts as not done and is tried again.

mod convert;

use std::time::Duration;

use async_trait::async_trait;
use qdrant_client::qdrant as grpc;
use qdrant_client::{Qdrant, QdrantError};
use tonic::Code;

use super::point::{Filter, Payload, Point, PointId, Scored, Vector, With, payload_bytes};
use super::schema::Schema;
use super::store::{Page, VectorStore};
use crate::config::QdrantServer;
use crate::error::{Error, ErrorKind, Result};
use crate::retry::steadily;
use crate::store::redact_url;

/// Most bytes of points in one request, about. Servers take any size, proxies before them do not,
/// and a request is in memory here and there.
const REQUEST_BYTES_MAX: usize = 16 << 20;
/// Longest wait that a server which limits its rate is granted between two tries.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(1);

/// A server; connections are made on first use and shared.
pub struct Server {
    client: Qdrant,
    place: String,
}

impl Server {
    /// Prepares for the server the settings name; nothing is sent yet.
    pub fn new(settings: &QdrantServer) -> Result<Self> {
        let place = redact_url(&settings.url);
        let wrong = |detail: String| {
            Error::new(ErrorKind::Config, detail).advice(
                "write http://host:6334, or https:// for TLS; 6334 is Qdrant's gRPC port, 6333 \
                 its REST port; the key belongs in QDRANT_API_KEY",
            )
        };
        let is_plain = settings.url.starts_with("http://");
        if !is_plain && !settings.url.starts_with("https://") {
            return Err(wrong(format!("{place} is not a Qdrant URL")));
        }
        let host = settings.url.split("://").nth(1).unwrap_or_default();
        let is_loopback = ["localhost", "127.", "[::1]"].iter().any(|own| host.starts_with(own));
        if is_plain && settings.api_key.is_some() && !is_loopback {
            tracing::warn!("the Qdrant key goes to {place} unencrypted; https:// would hide it");
        }
        let timeout = Duration::from_millis(settings.timeout_ms.into());
        let client = Qdrant::from_url(&settings.url)
            .api_key(settings.api_key.clone())
            .timeout(timeout)
            .connect_timeout(Duration::from_millis(settings.connect_timeout_ms.into()))
            // It would print its findings on standard output.
            .skip_compatibility_check()
            .build()
            .map_err(|error| wrong(format!("the Qdrant URL {place} cannot be read: {error}")))?;
        Ok(Self { client, place })
    }

    /// The server's version; the first sign that it answers and takes the key.
    pub async fn version(&self) -> Result<String> {
        Ok(self.asked(|| self.client.health_check()).await?.version)
    }

    /// Asks, and asks again while what stands in the way passes by itself.
    async fn asked<T, F>(&self, mut call: impl FnMut() -> F + Send) -> Result<T>
    where
        F: Future<Output = Result<T, QdrantError>> + Send,
    {
        steadily(|| {
            let asking = Box::pin(call());
            async move { self.answered(asking.await).await }
        })
        .await
    }

    /// The answer; a refusal that says when to come back only after that time.
    async fn answered<T>(&self, answer: Result<T, QdrantError>) -> Result<T> {
        if let Err(QdrantError::ResourceExhaustedError { retry_after_seconds, .. }) = &answer {
            tokio::time::sleep(Duration::from_secs(*retry_after_seconds).min(RETRY_AFTER_MAX))
                .await;
        }
        answer.map_err(|error| explain(&self.place, error))
    }

    /// As [`Server::asked`], for a write that must be applied when it returns.
    async fn written<T, F>(&self, mut call: impl FnMut() -> F + Send) -> Result<()>
    where
        T: Applied,
        F: Future<Output = Result<T, QdrantError>> + Send,
    {
        steadily(|| {
            let writing = Box::pin(call());
            async move {
                let done = self.answered(writing.await).await?;
                if done.is_applied() {
                    return Ok(());
                }
                let detail =
                    format!("Qdrant at {} took a write but did not apply it in time", self.place);
                Err(Error::new(ErrorKind::StoreUnreachable, detail).advice(
                    "it is busy; raise qdrant.timeout_ms of toolkit.toml, or lower qdrant.batch",
                ))
            }
        })
        .await
    }

    async fn info(&self, collection: &str) -> Result<Option<grpc::CollectionInfo>> {
        let found = self.asked(|| self.client.collection_info(collection)).await;
        match found {
            Ok(response) => Ok(response.result),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// An answer that says whether a write is applied or only taken.
trait Applied {
    fn is_applied(&self) -> bool;
}

impl Applied for grpc::PointsOperationResponse {
    fn is_applied(&self) -> bool {
        self.result.as_ref().is_some_and(|one| one.status() == grpc::UpdateStatus::Completed)
    }
}

impl Applied for grpc::UpdateBatchResponse {
    fn is_applied(&self) -> bool {
        self.result.iter().all(|one| one.status() == grpc::UpdateStatus::Completed)
    }
}

/// Items in requests of [`REQUEST_BYTES_MAX`], at least one each.
fn in_requests<T>(items: Vec<T>, bytes: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut requests: Vec<Vec<T>> = Vec::new();
    let mut room = 0;
    for item in items {
        let size = bytes(&item);
        match requests.last_mut().filter(|_| size <= room) {
            Some(request) => {
                request.push(item);
                room -= size;
            }
            None => {
                requests.push(vec![item]);
                room = REQUEST_BYTES_MAX.saturating_sub(size);
            }
        }
    }
    requests
}

/// What went wrong, by gRPC's code. `Internal` and `Unknown` are the client's codes for a
/// connection that failed or broke, and the server's for trouble of its own that may pass.
fn explain(place: &str, error: QdrantError) -> Error {
    let (kind, detail, advice) = match &error {
        QdrantError::ResourceExhaustedError { .. } => (
            ErrorKind::Busy,
            format!("Qdrant at {place} limits the rate of requests"),
            "lower qdrant.batch or the number of workers",
        ),
        QdrantError::ResponseError { status } => {
            let message = status.message();
            match status.code() {
                Code::Unauthenticated | Code::PermissionDenied => (
                    ErrorKind::StoreDenied,
                    format!("Qdrant at {place} refuses the key: {message}"),
                    "set QDRANT_API_KEY, or qdrant_api_key in toolkit.toml; the key needs write \
                     access for all commands but parity",
                ),
                Code::Internal
                | Code::Unavailable
                | Code::Unknown
                | Code::Cancelled
                | Code::DeadlineExceeded
                | Code::Aborted => (
                    ErrorKind::StoreUnreachable,
                    format!("Qdrant at {place} does not answer: {message}"),
                    "check the URL (gRPC is on port 6334), and that the server runs; nothing is \
                     lost, what it has not learnt waits in the outbox",
                ),
                Code::ResourceExhausted => (
                    ErrorKind::StoreExhausted,
                    format!("Qdrant at {place} has no room: {message}"),
                    "free disk or memory of the server, or lower qdrant.batch",
                ),
                Code::NotFound => (
                    ErrorKind::StoreFailed,
                    format!("Qdrant at {place}: {message}"),
                    MISSING_ADVICE,
                ),
                _ => (
                    ErrorKind::StoreFailed,
                    format!("Qdrant at {place} refused a request: {message}"),
                    "`toolkit outbox status` says which entities wait",
                ),
            }
        }
        _ => (
            ErrorKind::StoreFailed,
            format!("Qdrant at {place}: {error}"),
            "check the URL and the server's version",
        ),
    };
    Error::new(kind, detail).because(error).advice(advice)
}

const MISSING_ADVICE: &str =
    "`toolkit outbox drain` makes the collection; `toolkit outbox rebuild` fills it anew";

fn is_missing(error: &Error) -> bool {
    let source = std::error::Error::source(error).and_then(|e| e.downcast_ref::<QdrantError>());
    matches!(source, Some(QdrantError::ResponseError { status }) if status.code() == Code::NotFound)
}

#[async_trait]
impl VectorStore for Server {
    fn describe(&self) -> String {
        format!("Qdrant at {}", self.place)
    }

    async fn schema(&self, collection: &str) -> Result<Option<Schema>> {
        Ok(self.info(collection).await?.map(convert::schema))
    }

    async fn collections(&self) -> Result<Vec<String>> {
        let listed = self.asked(|| self.client.list_collections()).await?;
        let mut names: Vec<String> = listed.collections.into_iter().map(|one| one.name).collect();
        names.sort();
        Ok(names)
    }

    async fn create(&self, collection: &str, schema: &Schema) -> Result<()> {
        let request = convert::create(collection, schema);
        let made = self.asked(|| self.client.create_collection(request.clone())).await;
        if let Err(error) = made {
            // A try whose answer was lost may have made it.
            let found = self.schema(collection).await?;
            let is_ours = found.is_some_and(|found| schema.differences(&found).is_empty());
            if !(is_ours && crate::retry::is_passing(&error)) {
                return Err(error);
            }
        }
        self.ensure_indexes(collection, schema).await
    }

    async fn ensure_indexes(&self, collection: &str, schema: &Schema) -> Result<()> {
        let found = self.schema(collection).await?.unwrap_or_default().indexes;
        for (field, index) in &schema.indexes {
            if found.contains_key(field) {
                continue;
            }
            let request = convert::create_index(collection, field, *index)?;
            self.written(|| self.client.create_field_index(request.clone())).await?;
        }
        Ok(())
    }

    async fn remove(&self, collection: &str) -> Result<()> {
        let gone = self.asked(|| self.client.delete_collection(collection)).await;
        match gone {
            Err(error) if !is_missing(&error) => Err(error),
            // Of a missing one the server says `false`, which is as well.
            _ => Ok(()),
        }
    }

    async fn alias(&self, alias: &str) -> Result<Option<String>> {
        let all = self.asked(|| self.client.list_aliases()).await?.aliases;
        let found = all.into_iter().find(|one| one.alias_name == alias);
        Ok(found.map(|one| one.collection_name))
    }

    async fn set_alias(&self, alias: &str, collection: &str) -> Result<()> {
        // Creating one that exists moves it, in one step.
        let request = grpc::CreateAlias {
            collection_name: collection.to_owned(),
            alias_name: alias.to_owned(),
        };
        self.asked(|| self.client.create_alias(request.clone())).await.map(drop)
    }

    async fn remove_alias(&self, alias: &str) -> Result<()> {
        if self.alias(alias).await?.is_none() {
            return Ok(());
        }
        let gone = self.asked(|| self.client.delete_alias(alias)).await;
        match gone {
            Err(error) if !is_missing(&error) => Err(error),
            _ => Ok(()),
        }
    }

    async fn upsert(&self, collection: &str, points: Vec<Point>) -> Result<()> {
        for points in in_requests(points, Point::bytes) {
            let request = grpc::UpsertPoints {
                collection_name: collection.to_owned(),
                wait: Some(true),
                points: points.into_iter().map(convert::point).collect(),
                ..grpc::UpsertPoints::default()
            };
            self.written(|| self.client.upsert_points(request.clone())).await?;
        }
        Ok(())
    }

    async fn set_payloads(
        &self,
        collection: &str,
        payloads: Vec<(PointId, Payload)>,
    ) -> Result<()> {
        for payloads in in_requests(payloads, |(_, payload)| payload_bytes(payload)) {
            let request = convert::overwrite(collection, payloads);
            self.written(|| self.client.update_points_batch(request.clone())).await?;
        }
        Ok(())
    }

    async fn delete(&self, collection: &str, ids: &[PointId]) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let request = grpc::DeletePoints {
            collection_name: collection.to_owned(),
            wait: Some(true),
            points: Some(convert::selector(ids)),
            ..grpc::DeletePoints::default()
        };
        self.written(|| self.client.delete_points(request.clone())).await
    }

    async fn retrieve(&self, collection: &str, ids: &[PointId], with: With) -> Result<Vec<Point>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let request = grpc::GetPoints {
            collection_name: collection.to_owned(),
            ids: ids.iter().copied().map(convert::id).collect(),
            with_payload: Some(with.payload.into()),
            with_vectors: Some(with.vectors.into()),
            ..grpc::GetPoints::default()
        };
        let found = self.asked(|| self.client.get_points(request.clone())).await?;
        found.result.into_iter().map(convert::point_back).collect()
    }

    async fn scroll(
        &self,
        collection: &str,
        filter: &Filter,
        from: Option<PointId>,
        limit: u32,
        with: With,
    ) -> Result<Page> {
        let request = grpc::ScrollPoints {
            collection_name: collection.to_owned(),
            filter: convert::filter(filter)?,
            offset: from.map(convert::id),
            limit: Some(limit),
            with_payload: Some(with.payload.into()),
            with_vectors: Some(with.vectors.into()),
            ..grpc::ScrollPoints::default()
        };
        let found = self.asked(|| self.client.scroll(request.clone())).await?;
        let points =
            found.result.into_iter().map(convert::point_back).collect::<Result<Vec<_>>>()?;
        Ok(Page { points, next: found.next_page_offset.map(convert::id_back).transpose()? })
    }

    async fn count(&self, collection: &str, filter: &Filter) -> Result<u64> {
        let request = grpc::CountPoints {
            collection_name: collection.to_owned(),
            filter: convert::filter(filter)?,
            exact: Some(true),
            ..grpc::CountPoints::default()
        };
        let found = self.asked(|| self.client.count(request.clone())).await?;
        Ok(found.result.map_or(0, |result| result.count))
    }

    async fn search(
        &self,
        collection: &str,
        using: &str,
        vector: Vector,
        filter: &Filter,
        limit: u32,
    ) -> Result<Vec<Scored>> {
        let request = grpc::QueryPoints {
            collection_name: collection.to_owned(),
            query: Some(convert::query(vector)),
            using: Some(using.to_owned()),
            filter: convert::filter(filter)?,
            limit: Some(limit.into()),
            with_payload: Some(true.into()),
            ..grpc::QueryPoints::default()
        };
        let found = self.asked(|| self.client.query(request.clone())).await?;
        found.result.into_iter().map(convert::scored).collect()
    }

    async fn flush(&self, collection: &str) -> Result<()> {
        // A server's log is replayed: what it applied, it keeps.
        let _ = collection;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_decides_whether_another_try_can_help_and_no_key_is_shown() {
        let kind = |code: Code| {
            let status = tonic::Status::new(code, "x");
            explain("h", QdrantError::ResponseError { status }).kind()
        };
        assert_eq!(kind(Code::Unavailable), ErrorKind::StoreUnreachable);
        assert_eq!(kind(Code::Internal), ErrorKind::StoreUnreachable);
        assert_eq!(kind(Code::Unauthenticated), ErrorKind::StoreDenied);
        assert_eq!(kind(Code::InvalidArgument), ErrorKind::StoreFailed);
        assert_eq!(kind(Code::NotFound), ErrorKind::StoreFailed);
    }

    #[test]
    fn points_go_in_requests_of_a_bounded_size_and_none_is_left_out() {
        let sizes = [1, REQUEST_BYTES_MAX - 1, 1, 2 * REQUEST_BYTES_MAX, 5];
        let requests = in_requests(sizes.to_vec(), |size| *size);
        assert_eq!(
            requests,
            [vec![1, REQUEST_BYTES_MAX - 1], vec![1], vec![2 * REQUEST_BYTES_MAX], vec![5]]
        );
        assert!(in_requests(Vec::new(), |size: &usize| *size).is_empty());
    }

    #[test]
    fn an_url_without_a_scheme_is_refused_with_the_port_to_use() {
        let error = Server::new(&QdrantServer::new("localhost:6334")).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.advice_text().unwrap().contains("6334"));
    }
}
