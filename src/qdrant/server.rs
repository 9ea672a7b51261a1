//! A Qdrant server over gRPC.
//!
//! Written for server 1.18. Writes wait until they are applied, in the order of one leader where a
//! collection has replicas; counts are exact; a write that was only acknowledged in time counts as
//! not done and is tried again. A request that is too much for the server, or for a proxy before
//! it, is sent in parts.

mod convert;
mod patience;
mod probe;
mod refusal;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use qdrant_client::qdrant as grpc;
use qdrant_client::{Qdrant, QdrantError};
use tokio::sync::OnceCell;
use tonic::Status;
use tonic::metadata::AsciiMetadataValue;

use self::patience::Patience;
pub(super) use self::refusal::is_of_a_server;
use self::refusal::{
    broke_off, explain, is_missing, is_no_such_collection, is_of_exact_search, is_of_rate,
    is_too_much, not_grpc, to_be_parted,
};
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

/// Oldest server whose interface is the one that is spoken here.
const OLDEST_VERSION: (u32, u32) = (1, 13);
/// Points in one page where they are walked to be counted.
const COUNTED_AT_ONCE: u32 = 1_000;

/// A server; connections are made on first use and shared.
pub struct Server {
    client: Qdrant,
    url: String,
    place: String,
    /// Set once the server is known not to be too old.
    is_fit: OnceCell<()>,
    /// Points in one request, and in one page, that were not too many yet.
    points_max: AtomicUsize,
    page_max: AtomicU32,
    patience: Patience,
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
        if host.split('/').next().unwrap_or_default().contains('@') {
            return Err(wrong(format!("{place} names a user, which Qdrant has none of")));
        }
        // The client would show it in what it says of it.
        if settings.api_key.as_deref().is_some_and(|key| key.parse::<AsciiMetadataValue>().is_err())
        {
            let detail = "the Qdrant key holds a character that no header can carry";
            return Err(Error::new(ErrorKind::Config, detail).advice(
                "look at QDRANT_API_KEY, or qdrant_api_key in toolkit.toml, as for a line break at \
                 its end",
            ));
        }
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
        Ok(Self {
            client,
            url: settings.url.clone(),
            place,
            is_fit: OnceCell::new(),
            points_max: AtomicUsize::new(usize::MAX),
            page_max: AtomicU32::new(u32::MAX),
            patience: Patience::new(),
        })
    }

    /// The server's version. It is said without a key, too.
    pub async fn version(&self) -> Result<String> {
        Ok(self.asked(|| self.client.health_check()).await?.version)
    }

    /// Refuses a server that would misread what it is sent; once, before anything is written. One
    /// that does not say its version is taken as it is.
    async fn check_version(&self) -> Result<()> {
        let check = async || {
            let Ok(health) = self.client.health_check().await else { return Ok(()) };
            let parts: Vec<u32> =
                health.version.split('.').map_while(|part| part.parse().ok()).collect();
            match *parts.as_slice() {
                [major, minor, ..] if (major, minor) < OLDEST_VERSION => {
                    let (place, version) = (&self.place, &health.version);
                    let detail = format!("Qdrant at {place} is of version {version}");
                    let (major, minor) = OLDEST_VERSION;
                    Err(Error::new(ErrorKind::Config, detail).advice(format!(
                        "this program speaks to {major}.{minor} and later, and is written for 1.18"
                    )))
                }
                _ => Ok(()),
            }
        };
        self.is_fit.get_or_try_init(check).await.copied()
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
        let error = match answer {
            Ok(answer) => return Ok(answer),
            Err(error) => explain(&self.place, error),
        };
        let is_elsewhere = broke_off(&error) && probe::answers_http1(&self.url).await;
        Err(if is_elsewhere { not_grpc(&self.place, error) } else { error })
    }

    /// As [`Server::asked`], for a write that must be applied when it returns.
    async fn written<T, F>(&self, mut call: impl FnMut() -> F + Send) -> Result<()>
    where
        T: Applied,
        F: Future<Output = Result<T, QdrantError>> + Send,
    {
        let write = || {
            let writing = Box::pin(call());
            async move {
                let done = self.answered(writing.await).await?;
                if done.is_applied() {
                    return Ok(());
                }
                let detail =
                    format!("Qdrant at {} took a write but did not apply it in time", self.place);
                let status = Status::deadline_exceeded("acknowledged, not completed");
                Err(Error::new(ErrorKind::StoreUnreachable, detail)
                    .because(QdrantError::ResponseError { status })
                    .advice("it is busy, or a replica catches up; or lower qdrant.batch"))
            }
        };
        self.patience.with(write).await
    }

    /// Does `work` with all items, a request at a time; what is too much for one request is done
    /// in two, and later requests are smaller. Every item's work may be repeated.
    async fn in_parts<T, F>(
        &self,
        items: Vec<T>,
        bytes: fn(&T) -> usize,
        work: impl Fn(Vec<T>) -> F,
    ) -> Result<()>
    where
        T: Clone,
        F: Future<Output = Result<()>>,
    {
        let mut open = in_requests(items, self.points_max.load(Ordering::Relaxed), bytes);
        while let Some(mut items) = open.pop_front() {
            match work(items.clone()).await {
                Err(error) if items.len() > 1 && is_too_much(&error) => {
                    let rest = items.split_off(items.len() / 2);
                    if !is_of_rate(&error) {
                        tracing::debug!("{error}; {} at once from now on", items.len());
                        self.points_max.fetch_min(items.len(), Ordering::Relaxed);
                    }
                    open.push_front(rest);
                    open.push_front(items);
                }
                done => done?,
            }
        }
        Ok(())
    }

    /// Counts by walking, where the server does not count exactly.
    async fn walked(&self, collection: &str, filter: &Filter) -> Result<u64> {
        let (mut count, mut from) = (0, None);
        loop {
            let page = self.scroll(collection, filter, from, COUNTED_AT_ONCE, With::ID).await?;
            count += page.points.len() as u64;
            if page.next.is_none() {
                return Ok(count);
            }
            from = page.next;
        }
    }

    async fn info(&self, collection: &str) -> Result<Option<grpc::CollectionInfo>> {
        let found = self.asked(|| self.client.collection_info(collection)).await;
        let info = match found {
            Ok(response) => response.result,
            Err(error) if is_no_such_collection(&error) => None,
            Err(error) => return Err(error),
        };
        // Whoever writes has asked this first.
        self.check_version().await?;
        Ok(info)
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
        !self.result.is_empty()
            && self.result.iter().all(|one| one.status() == grpc::UpdateStatus::Completed)
    }
}

/// Items in requests of [`REQUEST_BYTES_MAX`] and at most `items_max` items, at least one each.
fn in_requests<T>(
    items: Vec<T>,
    items_max: usize,
    bytes: impl Fn(&T) -> usize,
) -> VecDeque<Vec<T>> {
    let mut requests: VecDeque<Vec<T>> = VecDeque::new();
    let mut room = 0;
    for item in items {
        let size = bytes(&item);
        match requests.back_mut().filter(|last| size <= room && last.len() < items_max) {
            Some(request) => {
                request.push(item);
                room -= size;
            }
            None => {
                requests.push_back(vec![item]);
                room = REQUEST_BYTES_MAX.saturating_sub(size);
            }
        }
    }
    requests
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
        let mut tries = 0;
        let made = self
            .asked(|| {
                tries += 1;
                self.client.create_collection(request.clone())
            })
            .await;
        if let Err(error) = made {
            // A try whose answer was lost may have made it: the next one was told that it is there.
            let is_lost = tries > 1 || crate::retry::is_passing(&error);
            let found = self.schema(collection).await?;
            let is_alike = found.is_some_and(|found| schema.differences(&found).is_empty());
            if !(is_lost && is_alike) {
                return Err(error);
            }
        }
        let made = self.ensure_indexes(collection, schema).await;
        if made.is_err() {
            // Of no use, and the next try makes another one.
            if let Err(other) = self.remove(collection).await {
                tracing::warn!("the collection {collection:?} stays half made: {other}");
            }
        }
        made
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

    async fn aliases(&self) -> Result<BTreeMap<String, String>> {
        let all = self.asked(|| self.client.list_aliases()).await?.aliases;
        Ok(all.into_iter().map(|one| (one.alias_name, one.collection_name)).collect())
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
        self.in_parts(points, Point::bytes, |points| async move {
            let request = grpc::UpsertPoints {
                collection_name: collection.to_owned(),
                wait: Some(true),
                points: points.into_iter().map(convert::point).collect(),
                ordering: Some(convert::ordering()),
                ..grpc::UpsertPoints::default()
            };
            self.written(|| self.client.upsert_points(request.clone())).await
        })
        .await
    }

    async fn set_payloads(
        &self,
        collection: &str,
        payloads: Vec<(PointId, Payload)>,
    ) -> Result<()> {
        fn bytes((_, payload): &(PointId, Payload)) -> usize {
            payload_bytes(payload)
        }
        self.in_parts(payloads, bytes, |payloads| async move {
            let is_one = payloads.len() == 1;
            let request = convert::overwrite(collection, payloads);
            self.written(|| {
                let sent = self.client.update_points_batch(request.clone());
                // Each of them counts by itself: sent again whole, the first ones would use up the
                // rate for ever.
                async move { sent.await.map_err(|error| to_be_parted(error, !is_one)) }
            })
            .await
        })
        .await
    }

    async fn delete(&self, collection: &str, ids: &[PointId]) -> Result<()> {
        self.in_parts(
            ids.to_vec(),
            |_| 0,
            |ids| async move {
                let request = grpc::DeletePoints {
                    collection_name: collection.to_owned(),
                    wait: Some(true),
                    points: Some(convert::selector(&ids)),
                    ordering: Some(convert::ordering()),
                    ..grpc::DeletePoints::default()
                };
                self.written(|| self.client.delete_points(request.clone())).await
            },
        )
        .await
    }

    async fn retrieve(&self, collection: &str, ids: &[PointId], with: With) -> Result<Vec<Point>> {
        let mut points = Vec::with_capacity(ids.len());
        let mut open = in_requests(ids.to_vec(), usize::MAX, |_| 0);
        while let Some(mut ids) = open.pop_front() {
            let request = grpc::GetPoints {
                collection_name: collection.to_owned(),
                ids: ids.iter().copied().map(convert::id).collect(),
                with_payload: Some(with.payload.into()),
                with_vectors: Some(with.vectors.into()),
                ..grpc::GetPoints::default()
            };
            let read = || {
                let reading = Box::pin(self.client.get_points(request.clone()));
                async move { self.answered(reading.await).await }
            };
            match self.patience.with(read).await {
                Err(error) if ids.len() > 1 && is_too_much(&error) => {
                    open.push_front(ids.split_off(ids.len() / 2));
                    open.push_front(ids);
                }
                found => {
                    for point in found?.result {
                        points.push(convert::point_back(point)?);
                    }
                }
            }
        }
        Ok(points)
    }

    async fn scroll(
        &self,
        collection: &str,
        filter: &Filter,
        from: Option<PointId>,
        limit: u32,
        with: With,
    ) -> Result<Page> {
        let mut request = grpc::ScrollPoints {
            collection_name: collection.to_owned(),
            filter: convert::filter(filter)?,
            offset: from.map(convert::id),
            limit: Some(limit.min(self.page_max.load(Ordering::Relaxed))),
            with_payload: Some(with.payload.into()),
            with_vectors: Some(with.vectors.into()),
            ..grpc::ScrollPoints::default()
        };
        let found = loop {
            match self.asked(|| self.client.scroll(request.clone())).await {
                Err(error) if request.limit > Some(1) && is_too_much(&error) => {
                    let half = request.limit.unwrap_or(2) / 2;
                    tracing::debug!("{error}; pages of {half} from now on");
                    self.page_max.fetch_min(half, Ordering::Relaxed);
                    request.limit = Some(half);
                }
                found => break found?,
            }
        };
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
        match self.asked(|| self.client.count(request.clone())).await {
            // An estimate would prove nothing.
            Err(error) if is_of_exact_search(&error) => self.walked(collection, filter).await,
            found => Ok(found?.result.map_or(0, |result| result.count)),
        }
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
    fn points_go_in_requests_of_a_bounded_size_and_none_is_left_out() {
        let sizes = [1, REQUEST_BYTES_MAX - 1, 1, 2 * REQUEST_BYTES_MAX, 5];
        let requests = in_requests(sizes.to_vec(), usize::MAX, |size| *size);
        assert_eq!(
            requests,
            [vec![1, REQUEST_BYTES_MAX - 1], vec![1], vec![2 * REQUEST_BYTES_MAX], vec![5]]
        );
        assert!(in_requests(Vec::new(), usize::MAX, |size: &usize| *size).is_empty());
        assert_eq!(in_requests(vec![1; 5], 2, |size| *size), [vec![1, 1], vec![1, 1], vec![1]]);
    }

    #[test]
    fn a_key_that_no_header_can_carry_is_refused_and_not_shown() {
        for key in ["hunter2\n", "hünter2\r\n", "hunter2\0"] {
            let settings = QdrantServer {
                api_key: Some(key.to_owned()),
                ..QdrantServer::new("https://localhost:6334")
            };
            let error = Server::new(&settings).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(!format!("{error:?}").contains("nter2"), "{error:?}");
            assert!(error.advice_text().unwrap().contains("QDRANT_API_KEY"));
        }
    }

    #[test]
    fn an_url_without_a_scheme_is_refused_with_the_port_to_use() {
        let error = Server::new(&QdrantServer::new("localhost:6334")).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.advice_text().unwrap().contains("6334"));
    }
}
