//! Qdrant's gRPC services over the engine in this process: enough of a server for the client.
//!
//! It insists on what a real one needs to be told (wait, ordering, exact counts, the key), answers
//! what is missing with `NOT_FOUND` and what is there with `ALREADY_EXISTS`, and says about the
//! number of points what is only about right. It can be away, strict, slow, locked, limit its rate,
//! be of another version, and take only short messages, as [`State`] is told.

mod wire;
mod words;

use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use qdrant_client::qdrant as grpc;
use qdrant_client::qdrant::collections_server::{Collections, CollectionsServer};
use qdrant_client::qdrant::points_server::{Points, PointsServer};
use qdrant_client::qdrant::qdrant_server::{Qdrant, QdrantServer};
use tonic::transport::{Identity, ServerTlsConfig};
use tonic::{Request, Response, Status};
use toolkit::qdrant::{Embedded, Index, PointId, Schema, Vector, VectorKind, VectorStore, With};

use self::wire::{
    distance, filter, id, id_back, info, is_character, payload_of, point, retrieved, selected, with,
};
pub(super) use self::words::limited;
use self::words::{in_order, over};

pub(super) const KEY: &str = "front-key";

/// A running front; it ends with the runtime of its test.
pub(super) struct Front {
    pub(super) url: String,
    pub(super) state: Arc<State>,
}

/// What a test may look at and change.
pub(super) struct State {
    store: Embedded,
    /// Answers UNAVAILABLE while set.
    pub(super) is_away: AtomicBool,
    /// Requests so far, but for those after its health.
    pub(super) requests: AtomicU64,
    /// What it is like besides.
    pub(super) manner: Mutex<Manner>,
}

/// What a server is like; by default, like one without limits.
pub(super) struct Manner {
    pub(super) version: &'static str,
    /// Strict mode's limits.
    pub(super) upsert_max: usize,
    pub(super) limit_max: u32,
    pub(super) is_exact_allowed: bool,
    /// What it stores vectors as, as far as it says.
    pub(super) datatype: grpc::Datatype,
    /// Refused instead of done: the next writes, in this order.
    pub(super) refusals: VecDeque<Status>,
    /// The next writes are applied, but the answer is that they were waited for too long.
    pub(super) slow_writes: u32,
    /// The next collection is made, but the answer is this.
    pub(super) lost_answer: Option<Status>,
    /// Every write is refused, whatever it is.
    pub(super) refusal: Option<Status>,
    /// Characters are in a shard that has lost its replicas.
    pub(super) is_shard_lost: bool,
    /// Collections are of `sharding_method: custom`.
    pub(super) is_sharded_by_key: bool,
    /// Operations of one batch that the rate leaves room for until one is refused; then there is
    /// room for as many again.
    pub(super) rate: usize,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            version: "1.18.0",
            upsert_max: usize::MAX,
            limit_max: u32::MAX,
            is_exact_allowed: true,
            datatype: grpc::Datatype::Default,
            refusals: VecDeque::new(),
            slow_writes: 0,
            lost_answer: None,
            refusal: None,
            is_shard_lost: false,
            is_sharded_by_key: false,
            rate: usize::MAX,
        }
    }
}

impl Manner {
    /// Reads and writes need a replica of each point's shard.
    fn reaches(&self, ids: &[PointId]) -> Result<(), Status> {
        if self.is_shard_lost && ids.iter().any(|id| is_character(*id)) {
            return Err(Status::internal(
                "Service internal error: The replica set for shard 1 on peer 1 has no active replica",
            ));
        }
        Ok(())
    }
}

impl State {
    pub(super) fn change(&self, change: impl FnOnce(&mut Manner)) {
        change(&mut self.manner.lock().unwrap());
    }
}

impl Front {
    /// One that takes messages of so many bytes at most; with a certificate, over TLS alone.
    pub(super) async fn start(
        store: Embedded,
        bytes_max: usize,
        identity: Option<Identity>,
    ) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let state = Arc::new(State {
            store,
            is_away: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            manner: Mutex::default(),
        });
        let service = Service(Arc::clone(&state));
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let scheme = if identity.is_some() { "https" } else { "http" };
        let mut server = tonic::transport::Server::builder();
        if let Some(identity) = identity {
            server = server.tls_config(ServerTlsConfig::new().identity(identity)).unwrap();
        }
        let server = server
            .add_service(PointsServer::new(service.clone()).max_decoding_message_size(bytes_max))
            .add_service(QdrantServer::new(service.clone()))
            .add_service(CollectionsServer::new(service));
        tokio::spawn(server.serve_with_incoming(incoming));
        Self { url: format!("{scheme}://{address}"), state }
    }
}

#[derive(Clone)]
struct Service(Arc<State>);

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send + 'a>>;

/// Methods as tonic's traits want them; those without a body are not served.
macro_rules! methods {
    ($($name:ident($request:ident) -> $answer:ident $(= $body:expr)?;)*) => {$(
        fn $name<'life0, 'async_trait>(
            &'life0 self,
            request: Request<grpc::$request>,
        ) -> Answer<'async_trait, grpc::$answer>
        where
            'life0: 'async_trait,
            Self: 'async_trait,
        {
            Box::pin(async move {
                self.admit(&request)?;
                methods!(@body self, request, $answer $(, $body)?)
            })
        }
    )*};
    (@body $self:ident, $request:ident, $answer:ident, $body:expr) => {
        ($body)($self, $request.into_inner()).await.map(Response::new)
    };
    (@body $self:ident, $request:ident, $answer:ident) => {{
        drop($request);
        Err(Status::unimplemented(stringify!($answer)))
    }};
}

impl Service {
    fn admit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        self.0.requests.fetch_add(1, Ordering::SeqCst);
        if self.0.is_away.load(Ordering::SeqCst) {
            return Err(Status::unavailable("away"));
        }
        let key = request.metadata().get("api-key").and_then(|key| key.to_str().ok());
        if key == Some(KEY) { Ok(()) } else { Err(Status::unauthenticated("no such key")) }
    }

    fn store(&self) -> &Embedded {
        &self.0.store
    }

    fn manner<T>(&self, look: impl FnOnce(&Manner) -> T) -> T {
        look(&self.0.manner.lock().unwrap())
    }

    /// A real server would answer before it has applied the write.
    fn waits(
        &self,
        wait: Option<bool>,
        ids: &[PointId],
    ) -> Result<grpc::PointsOperationResponse, Status> {
        if wait != Some(true) {
            return Err(Status::invalid_argument("a write nobody waits for"));
        }
        let mut manner = self.0.manner.lock().unwrap();
        if let Some(refusal) = &manner.refusal {
            return Err(refusal.clone());
        }
        if manner.is_sharded_by_key && !ids.is_empty() {
            return Err(Status::invalid_argument("Wrong input: Shard key not specified"));
        }
        manner.reaches(ids)?;
        if let Some(refusal) = manner.refusals.pop_front() {
            return Err(refusal);
        }
        let is_slow = manner.slow_writes > 0;
        manner.slow_writes = manner.slow_writes.saturating_sub(1);
        let status =
            if is_slow { grpc::UpdateStatus::WaitTimeout } else { grpc::UpdateStatus::Completed };
        let result = Some(grpc::UpdateResult { operation_id: Some(0), status: status.into() });
        Ok(grpc::PointsOperationResponse { result, ..Default::default() })
    }

    async fn known(&self, collection: &str) -> Result<Schema, Status> {
        self.store().schema(collection).await.map_err(refused)?.ok_or_else(|| {
            Status::not_found(format!("Not found: Collection `{collection}` doesn't exist!"))
        })
    }

    async fn upsert_points(
        &self,
        request: grpc::UpsertPoints,
    ) -> Result<grpc::PointsOperationResponse, Status> {
        in_order(request.ordering)?;
        over(request.points.len(), self.manner(|manner| manner.upsert_max), "upsert limit")?;
        let points: Vec<_> = request.points.into_iter().map(point).collect();
        let ids: Vec<PointId> = points.iter().map(|point| point.id).collect();
        let waits = self.waits(request.wait, &ids)?;
        self.known(&request.collection_name).await?;
        self.store().upsert(&request.collection_name, points).await.map_err(refused)?;
        Ok(waits)
    }

    async fn delete_points(
        &self,
        request: grpc::DeletePoints,
    ) -> Result<grpc::PointsOperationResponse, Status> {
        in_order(request.ordering)?;
        let ids = selected(request.points);
        let waits = self.waits(request.wait, &ids)?;
        self.known(&request.collection_name).await?;
        self.store().delete(&request.collection_name, &ids).await.map_err(refused)?;
        Ok(waits)
    }

    async fn batch(
        &self,
        request: grpc::UpdateBatchPoints,
    ) -> Result<grpc::UpdateBatchResponse, Status> {
        use grpc::points_update_operation::Operation;
        in_order(request.ordering)?;
        let mut payloads = Vec::new();
        for operation in request.operations {
            let Some(Operation::OverwritePayload(set)) = operation.operation else {
                return Err(Status::unimplemented("an operation"));
            };
            let payload = payload_of(set.payload);
            for id in selected(set.points_selector) {
                payloads.push((id, payload.clone()));
            }
        }
        let ids: Vec<PointId> = payloads.iter().map(|(id, _)| *id).collect();
        let waits = self.waits(request.wait, &ids)?.result.unwrap();
        self.known(&request.collection_name).await?;
        let found = self.store().retrieve(&request.collection_name, &ids, With::ID).await;
        let found: Vec<PointId> = found.map_err(refused)?.iter().map(|point| point.id).collect();
        if let Some(missing) = ids.iter().find(|id| !found.contains(id)) {
            return Err(Status::not_found(format!("Not found: No point with id {missing} found")));
        }
        // One after the other: what comes before a refused one is done.
        let room = self.manner(|manner| manner.rate);
        let is_over = payloads.len() > room;
        payloads.truncate(room);
        let result = vec![waits; payloads.len()];
        self.store().set_payloads(&request.collection_name, payloads).await.map_err(refused)?;
        if is_over {
            return Err(limited(0));
        }
        Ok(grpc::UpdateBatchResponse { result, ..Default::default() })
    }

    async fn make_index(
        &self,
        request: grpc::CreateFieldIndexCollection,
    ) -> Result<grpc::PointsOperationResponse, Status> {
        let waits = self.waits(request.wait, &[])?;
        self.known(&request.collection_name).await?;
        let index = match request.field_type() {
            grpc::FieldType::Keyword => Index::Keyword,
            grpc::FieldType::Integer => Index::Integer,
            grpc::FieldType::Bool => Index::Bool,
            _ => return Err(Status::unimplemented("an index")),
        };
        let schema = Schema { indexes: [(request.field_name, index)].into(), ..Schema::default() };
        self.store().ensure_indexes(&request.collection_name, &schema).await.map_err(refused)?;
        Ok(waits)
    }

    async fn get_points(&self, request: grpc::GetPoints) -> Result<grpc::GetResponse, Status> {
        self.known(&request.collection_name).await?;
        let ids: Vec<PointId> = request.ids.into_iter().map(id).collect();
        self.manner(|manner| manner.reaches(&ids))?;
        let with = with(request.with_payload, request.with_vectors);
        let found = self.store().retrieve(&request.collection_name, &ids, with).await;
        let result = found.map_err(refused)?.into_iter().map(retrieved).collect();
        Ok(grpc::GetResponse { result, ..Default::default() })
    }

    async fn scroll_points(
        &self,
        request: grpc::ScrollPoints,
    ) -> Result<grpc::ScrollResponse, Status> {
        self.known(&request.collection_name).await?;
        let with = with(request.with_payload, request.with_vectors);
        let (filter, from) = (filter(request.filter), request.offset.map(id));
        let limit = request.limit.unwrap_or(10);
        over(limit as usize, self.manner(|manner| manner.limit_max) as usize, "limit")?;
        let page = self.store().scroll(&request.collection_name, &filter, from, limit, with).await;
        let page = page.map_err(refused)?;
        Ok(grpc::ScrollResponse {
            next_page_offset: page.next.map(id_back),
            result: page.points.into_iter().map(retrieved).collect(),
            ..Default::default()
        })
    }

    async fn count_points(
        &self,
        request: grpc::CountPoints,
    ) -> Result<grpc::CountResponse, Status> {
        self.known(&request.collection_name).await?;
        if request.exact != Some(true) {
            return Err(Status::invalid_argument("an estimate would do for nobody here"));
        }
        if !self.manner(|manner| manner.is_exact_allowed) {
            return Err(Status::invalid_argument(
                "Bad request: Exact search disabled!. Help: Set exact=false.",
            ));
        }
        let count = self.store().count(&request.collection_name, &filter(request.filter)).await;
        let result = Some(grpc::CountResult { count: count.map_err(refused)? });
        Ok(grpc::CountResponse { result, ..Default::default() })
    }

    async fn query_points(
        &self,
        request: grpc::QueryPoints,
    ) -> Result<grpc::QueryResponse, Status> {
        use grpc::vector_input::Variant;
        self.known(&request.collection_name).await?;
        let Some(grpc::query::Variant::Nearest(nearest)) =
            request.query.and_then(|query| query.variant)
        else {
            return Err(Status::unimplemented("a query"));
        };
        let vector = match nearest.variant {
            Some(Variant::Dense(dense)) => Vector::Dense(dense.data),
            Some(Variant::MultiDense(rows)) => {
                Vector::Multi(rows.vectors.into_iter().map(|row| row.data).collect())
            }
            Some(Variant::Sparse(sparse)) => {
                Vector::Sparse { indices: sparse.indices, values: sparse.values }
            }
            _ => return Err(Status::unimplemented("a vector")),
        };
        let using = request.using.unwrap_or_default();
        let limit = u32::try_from(request.limit.unwrap_or(10)).unwrap();
        over(limit as usize, self.manner(|manner| manner.limit_max) as usize, "limit")?;
        let filter = filter(request.filter);
        let name = &request.collection_name;
        let found = self.store().search(name, &using, vector, &filter, limit).await;
        let scored = found.map_err(refused)?.into_iter().map(|point| grpc::ScoredPoint {
            id: Some(id_back(point.id)),
            score: point.score,
            payload: qdrant_client::Payload::from(point.payload).into(),
            ..Default::default()
        });
        Ok(grpc::QueryResponse { result: scored.collect(), ..Default::default() })
    }

    async fn info(
        &self,
        request: grpc::GetCollectionInfoRequest,
    ) -> Result<grpc::GetCollectionInfoResponse, Status> {
        let schema = self.known(&request.collection_name).await?;
        let mut info = info(schema, self.manner(|manner| manner.datatype));
        if self.manner(|manner| manner.is_sharded_by_key)
            && let Some(params) = info.config.as_mut().and_then(|config| config.params.as_mut())
        {
            params.sharding_method = Some(grpc::ShardingMethod::Custom.into());
        }
        let result = Some(info);
        Ok(grpc::GetCollectionInfoResponse { result, ..Default::default() })
    }

    async fn list_all(
        &self,
        _: grpc::ListCollectionsRequest,
    ) -> Result<grpc::ListCollectionsResponse, Status> {
        let names = self.store().collections().await.map_err(refused)?;
        let collections =
            names.into_iter().map(|name| grpc::CollectionDescription { name }).collect();
        Ok(grpc::ListCollectionsResponse { collections, ..Default::default() })
    }

    async fn make(
        &self,
        request: grpc::CreateCollection,
    ) -> Result<grpc::CollectionOperationResponse, Status> {
        let mut schema = Schema::default();
        if let Some(grpc::vectors_config::Config::ParamsMap(map)) =
            request.vectors_config.and_then(|config| config.config)
        {
            for (name, params) in map.map {
                let (size, distance) = (params.size, distance(params.distance()));
                let kind = if params.multivector_config.is_some() {
                    VectorKind::Multi { size, distance }
                } else {
                    VectorKind::Dense { size, distance }
                };
                schema.vectors.insert(name, kind);
            }
        }
        for name in request.sparse_vectors_config.unwrap_or_default().map.into_keys() {
            schema.vectors.insert(name, VectorKind::Sparse);
        }
        let name = &request.collection_name;
        if self.known(name).await.is_ok() {
            let detail = format!("Wrong input: Collection `{name}` already exists!");
            return Err(Status::already_exists(detail));
        }
        self.store().create(name, &schema).await.map_err(refused)?;
        match self.0.manner.lock().unwrap().lost_answer.take() {
            Some(instead) => Err(instead),
            None => Ok(done(true)),
        }
    }

    async fn drop_one(
        &self,
        request: grpc::DeleteCollection,
    ) -> Result<grpc::CollectionOperationResponse, Status> {
        let names = self.store().collections().await.map_err(refused)?;
        let is_there = names.contains(&request.collection_name);
        // Its aliases go with it.
        for (alias, collection) in self.store().aliases().await.map_err(refused)? {
            if collection == request.collection_name {
                self.store().remove_alias(&alias).await.map_err(refused)?;
            }
        }
        self.store().remove(&request.collection_name).await.map_err(refused)?;
        Ok(done(is_there))
    }

    async fn change_aliases(
        &self,
        request: grpc::ChangeAliases,
    ) -> Result<grpc::CollectionOperationResponse, Status> {
        use grpc::alias_operations::Action;
        for action in request.actions {
            match action.action {
                Some(Action::CreateAlias(create)) => self
                    .store()
                    .set_alias(&create.alias_name, &create.collection_name)
                    .await
                    .map_err(refused)?,
                Some(Action::DeleteAlias(delete)) => {
                    self.store().remove_alias(&delete.alias_name).await.map_err(refused)?;
                }
                _ => return Err(Status::unimplemented("an alias action")),
            }
        }
        Ok(done(true))
    }

    async fn all_aliases(
        &self,
        _: grpc::ListAliasesRequest,
    ) -> Result<grpc::ListAliasesResponse, Status> {
        let aliases = self.store().aliases().await.map_err(refused)?;
        let described = aliases.into_iter().map(|(alias_name, collection_name)| {
            grpc::AliasDescription { alias_name, collection_name }
        });
        let aliases = described.collect();
        Ok(grpc::ListAliasesResponse { aliases, ..Default::default() })
    }
}

impl Qdrant for Service {
    /// Whoever asks needs no key.
    fn health_check<'life0, 'async_trait>(
        &'life0 self,
        _: Request<grpc::HealthCheckRequest>,
    ) -> Answer<'async_trait, grpc::HealthCheckReply>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        let version = self.manner(|manner| manner.version).to_owned();
        let title = "qdrant - vector search engine".to_owned();
        Box::pin(async move {
            Ok(Response::new(grpc::HealthCheckReply { title, version, ..Default::default() }))
        })
    }
}

impl Points for Service {
    methods! {
        upsert(UpsertPoints) -> PointsOperationResponse = Service::upsert_points;
        delete(DeletePoints) -> PointsOperationResponse = Service::delete_points;
        get(GetPoints) -> GetResponse = Service::get_points;
        update_vectors(UpdatePointVectors) -> PointsOperationResponse;
        delete_vectors(DeletePointVectors) -> PointsOperationResponse;
        set_payload(SetPayloadPoints) -> PointsOperationResponse;
        overwrite_payload(SetPayloadPoints) -> PointsOperationResponse;
        delete_payload(DeletePayloadPoints) -> PointsOperationResponse;
        clear_payload(ClearPayloadPoints) -> PointsOperationResponse;
        create_field_index(CreateFieldIndexCollection) -> PointsOperationResponse
            = Service::make_index;
        delete_field_index(DeleteFieldIndexCollection) -> PointsOperationResponse;
        create_vector_name(CreateVectorNameRequest) -> PointsOperationResponse;
        delete_vector_name(DeleteVectorNameRequest) -> PointsOperationResponse;
        search(SearchPoints) -> SearchResponse;
        search_batch(SearchBatchPoints) -> SearchBatchResponse;
        search_groups(SearchPointGroups) -> SearchGroupsResponse;
        scroll(ScrollPoints) -> ScrollResponse = Service::scroll_points;
        recommend(RecommendPoints) -> RecommendResponse;
        recommend_batch(RecommendBatchPoints) -> RecommendBatchResponse;
        recommend_groups(RecommendPointGroups) -> RecommendGroupsResponse;
        discover(DiscoverPoints) -> DiscoverResponse;
        discover_batch(DiscoverBatchPoints) -> DiscoverBatchResponse;
        count(CountPoints) -> CountResponse = Service::count_points;
        update_batch(UpdateBatchPoints) -> UpdateBatchResponse = Service::batch;
        query(QueryPoints) -> QueryResponse = Service::query_points;
        query_batch(QueryBatchPoints) -> QueryBatchResponse;
        query_groups(QueryPointGroups) -> QueryGroupsResponse;
        facet(FacetCounts) -> FacetResponse;
        search_matrix_pairs(SearchMatrixPoints) -> SearchMatrixPairsResponse;
        search_matrix_offsets(SearchMatrixPoints) -> SearchMatrixOffsetsResponse;
    }
}

impl Collections for Service {
    methods! {
        get(GetCollectionInfoRequest) -> GetCollectionInfoResponse = Service::info;
        list(ListCollectionsRequest) -> ListCollectionsResponse = Service::list_all;
        create(CreateCollection) -> CollectionOperationResponse = Service::make;
        update(UpdateCollection) -> CollectionOperationResponse;
        delete(DeleteCollection) -> CollectionOperationResponse = Service::drop_one;
        update_aliases(ChangeAliases) -> CollectionOperationResponse = Service::change_aliases;
        list_collection_aliases(ListCollectionAliasesRequest) -> ListAliasesResponse;
        list_aliases(ListAliasesRequest) -> ListAliasesResponse = Service::all_aliases;
        collection_cluster_info(CollectionClusterInfoRequest) -> CollectionClusterInfoResponse;
        collection_exists(CollectionExistsRequest) -> CollectionExistsResponse;
        update_collection_cluster_setup(UpdateCollectionClusterSetupRequest)
            -> UpdateCollectionClusterSetupResponse;
        create_shard_key(CreateShardKeyRequest) -> CreateShardKeyResponse;
        delete_shard_key(DeleteShardKeyRequest) -> DeleteShardKeyResponse;
        list_shard_keys(ListShardKeysRequest) -> ListShardKeysResponse;
    }
}

#[allow(clippy::needless_pass_by_value)] // For map_err.
fn refused(error: toolkit::Error) -> Status {
    Status::invalid_argument(error.to_string())
}

fn done(result: bool) -> grpc::CollectionOperationResponse {
    grpc::CollectionOperationResponse { result, ..Default::default() }
}
