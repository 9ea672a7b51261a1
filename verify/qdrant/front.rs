//! Qdrant's gRPC services over the engine in this process: enough of a server for the client.
//!
//! It insists on what a real one needs to be told (wait, exact counts, the key), answers what is
//! missing with `NOT_FOUND`, and can be away.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use qdrant_client::qdrant as grpc;
use qdrant_client::qdrant::collections_server::{Collections, CollectionsServer};
use qdrant_client::qdrant::points_server::{Points, PointsServer};
use tonic::{Request, Response, Status};
use toolkit::qdrant::{
    Condition, Distance, Embedded, Filter, Index, Payload, Point, PointId, Schema, Vector,
    VectorKind, VectorStore, With,
};

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
    /// Requests so far.
    pub(super) requests: AtomicU64,
}

impl Front {
    pub(super) async fn start(store: Embedded) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let state =
            Arc::new(State { store, is_away: AtomicBool::new(false), requests: AtomicU64::new(0) });
        let service = Service(Arc::clone(&state));
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let server = tonic::transport::Server::builder()
            .add_service(PointsServer::new(service.clone()).max_decoding_message_size(usize::MAX))
            .add_service(CollectionsServer::new(service));
        tokio::spawn(server.serve_with_incoming(incoming));
        Self { url: format!("http://{address}"), state }
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

    async fn known(&self, collection: &str) -> Result<Schema, Status> {
        self.store().schema(collection).await.map_err(refused)?.ok_or_else(|| {
            Status::not_found(format!("Not found: Collection `{collection}` doesn't exist!"))
        })
    }

    async fn upsert_points(
        &self,
        request: grpc::UpsertPoints,
    ) -> Result<grpc::PointsOperationResponse, Status> {
        let waits = waits(request.wait)?;
        self.known(&request.collection_name).await?;
        let points = request.points.into_iter().map(point).collect();
        self.store().upsert(&request.collection_name, points).await.map_err(refused)?;
        Ok(waits)
    }

    async fn delete_points(
        &self,
        request: grpc::DeletePoints,
    ) -> Result<grpc::PointsOperationResponse, Status> {
        let waits = waits(request.wait)?;
        self.known(&request.collection_name).await?;
        let ids = selected(request.points);
        self.store().delete(&request.collection_name, &ids).await.map_err(refused)?;
        Ok(waits)
    }

    async fn batch(
        &self,
        request: grpc::UpdateBatchPoints,
    ) -> Result<grpc::UpdateBatchResponse, Status> {
        use grpc::points_update_operation::Operation;
        let waits = waits(request.wait)?.result.unwrap();
        self.known(&request.collection_name).await?;
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
        let result = vec![waits; payloads.len()];
        self.store().set_payloads(&request.collection_name, payloads).await.map_err(refused)?;
        Ok(grpc::UpdateBatchResponse { result, ..Default::default() })
    }

    async fn make_index(
        &self,
        request: grpc::CreateFieldIndexCollection,
    ) -> Result<grpc::PointsOperationResponse, Status> {
        let waits = waits(request.wait)?;
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
            return Err(Status::failed_precondition("an estimate would do for nobody here"));
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
        let result = Some(info(schema));
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
        self.store().create(&request.collection_name, &schema).await.map_err(refused)?;
        Ok(done(true))
    }

    async fn drop_one(
        &self,
        request: grpc::DeleteCollection,
    ) -> Result<grpc::CollectionOperationResponse, Status> {
        let names = self.store().collections().await.map_err(refused)?;
        let is_there = names.contains(&request.collection_name);
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

    /// Only those the tests make: the store cannot list its aliases.
    async fn all_aliases(
        &self,
        _: grpc::ListAliasesRequest,
    ) -> Result<grpc::ListAliasesResponse, Status> {
        let mut aliases = Vec::new();
        for name in ["things", "anime_database"] {
            for alias_name in [name.to_owned(), toolkit::qdrant::next_alias(name)] {
                if let Some(collection_name) =
                    self.store().alias(&alias_name).await.map_err(refused)?
                {
                    aliases.push(grpc::AliasDescription { alias_name, collection_name });
                }
            }
        }
        Ok(grpc::ListAliasesResponse { aliases, ..Default::default() })
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

/// A real server would answer before it has applied the write.
fn waits(wait: Option<bool>) -> Result<grpc::PointsOperationResponse, Status> {
    if wait != Some(true) {
        return Err(Status::failed_precondition("a write nobody waits for"));
    }
    let status = grpc::UpdateStatus::Completed.into();
    let result = Some(grpc::UpdateResult { operation_id: Some(0), status });
    Ok(grpc::PointsOperationResponse { result, ..Default::default() })
}

fn id(id: grpc::PointId) -> PointId {
    use grpc::point_id::PointIdOptions;
    match id.point_id_options.unwrap() {
        PointIdOptions::Num(number) => PointId::Number(number),
        PointIdOptions::Uuid(uuid) => PointId::Uuid(uuid.parse().unwrap()),
    }
}

fn id_back(id: PointId) -> grpc::PointId {
    match id {
        PointId::Number(number) => number.into(),
        PointId::Uuid(uuid) => uuid.to_string().into(),
    }
}

fn selected(selector: Option<grpc::PointsSelector>) -> Vec<PointId> {
    use grpc::points_selector::PointsSelectorOneOf;
    match selector.and_then(|selector| selector.points_selector_one_of) {
        Some(PointsSelectorOneOf::Points(list)) => list.ids.into_iter().map(id).collect(),
        _ => Vec::new(),
    }
}

fn with(
    payload: Option<grpc::WithPayloadSelector>,
    vectors: Option<grpc::WithVectorsSelector>,
) -> With {
    use grpc::{with_payload_selector as p, with_vectors_selector as v};
    let payload = payload.and_then(|one| one.selector_options);
    let vectors = vectors.and_then(|one| one.selector_options);
    With {
        payload: matches!(payload, Some(p::SelectorOptions::Enable(true))),
        vectors: matches!(vectors, Some(v::SelectorOptions::Enable(true))),
    }
}

fn filter(filter: Option<grpc::Filter>) -> Filter {
    use grpc::condition::ConditionOneOf;
    use grpc::r#match::MatchValue;
    let mut conditions = Vec::new();
    for condition in filter.unwrap_or_default().must {
        let Some(ConditionOneOf::Field(field)) = condition.condition_one_of else { panic!() };
        conditions.push(match field.r#match.unwrap().match_value.unwrap() {
            MatchValue::Keyword(text) => Condition::Is(field.key, text.into()),
            MatchValue::Integer(number) => Condition::Is(field.key, number.into()),
            MatchValue::Boolean(truth) => Condition::Is(field.key, truth.into()),
            MatchValue::Keywords(texts) => Condition::AnyOf(field.key, texts.strings),
            other => panic!("{other:?}"),
        });
    }
    Filter(conditions)
}

fn payload_of(payload: HashMap<String, grpc::Value>) -> Payload {
    payload.into_iter().map(|(key, value)| (key, value.into_json())).collect()
}

fn point(point: grpc::PointStruct) -> Point {
    use grpc::vector::Vector as V;
    let mut vectors = toolkit::qdrant::Vectors::new();
    if let Some(grpc::vectors::VectorsOptions::Vectors(named)) =
        point.vectors.and_then(|vectors| vectors.vectors_options)
    {
        for (name, vector) in named.vectors {
            let vector = match vector.vector.expect("the form of 1.16 and later") {
                V::Dense(dense) => Vector::Dense(dense.data),
                V::Sparse(sparse) => {
                    Vector::Sparse { indices: sparse.indices, values: sparse.values }
                }
                V::MultiDense(rows) => {
                    Vector::Multi(rows.vectors.into_iter().map(|row| row.data).collect())
                }
                other => panic!("{other:?}"),
            };
            vectors.insert(name, vector);
        }
    }
    Point { id: id(point.id.unwrap()), payload: payload_of(point.payload), vectors }
}

fn retrieved(point: Point) -> grpc::RetrievedPoint {
    use grpc::vector_output::Vector as V;
    let output = |vector: Vector| grpc::VectorOutput {
        vector: Some(match vector {
            Vector::Dense(data) => V::Dense(grpc::DenseVector { data }),
            Vector::Sparse { indices, values } => V::Sparse(grpc::SparseVector { values, indices }),
            Vector::Multi(rows) => V::MultiDense(grpc::MultiDenseVector {
                vectors: rows.into_iter().map(|data| grpc::DenseVector { data }).collect(),
            }),
        }),
        ..Default::default()
    };
    let vectors = point.vectors.into_iter().map(|(name, one)| (name, output(one))).collect();
    grpc::RetrievedPoint {
        id: Some(id_back(point.id)),
        payload: qdrant_client::Payload::from(point.payload).into(),
        vectors: Some(grpc::VectorsOutput {
            vectors_options: Some(grpc::vectors_output::VectorsOptions::Vectors(
                grpc::NamedVectorsOutput { vectors },
            )),
        }),
        ..Default::default()
    }
}

fn distance(distance: grpc::Distance) -> Distance {
    match distance {
        grpc::Distance::Cosine => Distance::Cosine,
        grpc::Distance::Dot => Distance::Dot,
        grpc::Distance::Euclid => Distance::Euclid,
        grpc::Distance::Manhattan => Distance::Manhattan,
        grpc::Distance::UnknownDistance => panic!("no distance"),
    }
}

fn info(schema: Schema) -> grpc::CollectionInfo {
    let mut dense = grpc::VectorParamsMap::default();
    let mut sparse = grpc::SparseVectorConfig::default();
    for (name, kind) in schema.vectors {
        let params = |size, distance: Distance, is_multi: bool| grpc::VectorParams {
            size,
            distance: match distance {
                Distance::Cosine => grpc::Distance::Cosine,
                Distance::Dot => grpc::Distance::Dot,
                Distance::Euclid => grpc::Distance::Euclid,
                Distance::Manhattan => grpc::Distance::Manhattan,
            }
            .into(),
            multivector_config: is_multi.then(grpc::MultiVectorConfig::default),
            ..Default::default()
        };
        match kind {
            VectorKind::Dense { size, distance } => {
                dense.map.insert(name, params(size, distance, false));
            }
            VectorKind::Multi { size, distance } => {
                dense.map.insert(name, params(size, distance, true));
            }
            VectorKind::Sparse => {
                sparse.map.insert(name, grpc::SparseVectorParams::default());
            }
        }
    }
    let schema_info = |index: Index| grpc::PayloadSchemaInfo {
        data_type: match index {
            Index::Keyword => grpc::PayloadSchemaType::Keyword,
            Index::Integer => grpc::PayloadSchemaType::Integer,
            Index::Bool => grpc::PayloadSchemaType::Bool,
            Index::Other => grpc::PayloadSchemaType::Text,
        }
        .into(),
        ..Default::default()
    };
    let params = grpc::CollectionParams {
        vectors_config: Some(grpc::VectorsConfig {
            config: Some(grpc::vectors_config::Config::ParamsMap(dense)),
        }),
        sparse_vectors_config: Some(sparse),
        ..Default::default()
    };
    grpc::CollectionInfo {
        config: Some(grpc::CollectionConfig { params: Some(params), ..Default::default() }),
        payload_schema: schema
            .indexes
            .into_iter()
            .map(|(field, index)| (field, schema_info(index)))
            .collect(),
        ..Default::default()
    }
}
