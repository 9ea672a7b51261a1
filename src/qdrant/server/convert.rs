//! Between our points and those of gRPC.

use qdrant_client::Payload as GrpcPayload;
use qdrant_client::qdrant::{self as grpc, vector_output, vectors_config, vectors_output};
use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};
use crate::qdrant::point::{Condition, Filter, Payload, Point, PointId, Scored, Vector, Vectors};
use crate::qdrant::schema::{Distance, Index, Schema, VectorKind};

pub(super) fn create(collection: &str, schema: &Schema) -> grpc::CreateCollection {
    let mut dense = grpc::VectorParamsMap::default();
    let mut sparse = grpc::SparseVectorConfig::default();
    for (name, kind) in &schema.vectors {
        let params = |size: u64, distance: Distance, is_multi: bool| grpc::VectorParams {
            size,
            distance: distance_of(distance).into(),
            multivector_config: is_multi.then(|| grpc::MultiVectorConfig {
                comparator: grpc::MultiVectorComparator::MaxSim.into(),
            }),
            ..grpc::VectorParams::default()
        };
        match *kind {
            VectorKind::Dense { size, distance } => {
                dense.map.insert(name.clone(), params(size, distance, false));
            }
            VectorKind::Multi { size, distance } => {
                dense.map.insert(name.clone(), params(size, distance, true));
            }
            VectorKind::Sparse => {
                sparse.map.insert(name.clone(), grpc::SparseVectorParams::default());
            }
        }
    }
    grpc::CreateCollection {
        collection_name: collection.to_owned(),
        vectors_config: Some(grpc::VectorsConfig {
            config: Some(vectors_config::Config::ParamsMap(dense)),
        }),
        sparse_vectors_config: (!sparse.map.is_empty()).then_some(sparse),
        ..grpc::CreateCollection::default()
    }
}

fn distance_of(distance: Distance) -> grpc::Distance {
    match distance {
        Distance::Cosine => grpc::Distance::Cosine,
        Distance::Dot => grpc::Distance::Dot,
        Distance::Euclid => grpc::Distance::Euclid,
        Distance::Manhattan => grpc::Distance::Manhattan,
    }
}

pub(super) fn schema(info: grpc::CollectionInfo) -> Schema {
    let params = info.config.and_then(|config| config.params).unwrap_or_default();
    let has_shard_keys = params.sharding_method() == grpc::ShardingMethod::Custom;
    let mut schema = Schema { has_shard_keys, ..Schema::default() };
    let dense = match params.vectors_config.and_then(|config| config.config) {
        // The one vector of a collection without named ones.
        Some(vectors_config::Config::Params(one)) => [(String::new(), one)].into(),
        Some(vectors_config::Config::ParamsMap(map)) => map.map,
        None => std::collections::HashMap::new(),
    };
    for (name, params) in dense {
        let size = params.size;
        if let Some(datatype) = datatype(params.datatype()) {
            schema.datatypes.insert(name.clone(), datatype);
        }
        let distance = match params.distance() {
            grpc::Distance::Cosine | grpc::Distance::UnknownDistance => Distance::Cosine,
            grpc::Distance::Dot => Distance::Dot,
            grpc::Distance::Euclid => Distance::Euclid,
            grpc::Distance::Manhattan => Distance::Manhattan,
        };
        let kind = if params.multivector_config.is_some() {
            VectorKind::Multi { size, distance }
        } else {
            VectorKind::Dense { size, distance }
        };
        schema.vectors.insert(name, kind);
    }
    for name in params.sparse_vectors_config.unwrap_or_default().map.into_keys() {
        schema.vectors.insert(name, VectorKind::Sparse);
    }
    for (field, info) in info.payload_schema {
        let index = match info.data_type() {
            grpc::PayloadSchemaType::Keyword => Index::Keyword,
            grpc::PayloadSchemaType::Integer => Index::Integer,
            grpc::PayloadSchemaType::Bool => Index::Bool,
            grpc::PayloadSchemaType::Uuid => Index::Uuid,
            grpc::PayloadSchemaType::Text => Index::Text,
            grpc::PayloadSchemaType::Float => Index::Float,
            grpc::PayloadSchemaType::Datetime => Index::Datetime,
            _ => Index::Other,
        };
        schema.indexes.insert(field, index);
    }
    schema
}

/// What else than 32-bit floats a vector is stored as.
fn datatype(datatype: grpc::Datatype) -> Option<String> {
    match datatype {
        grpc::Datatype::Default | grpc::Datatype::Float32 => None,
        other => Some(other.as_str_name().to_lowercase()),
    }
}

pub(super) fn create_index(
    collection: &str,
    field: &str,
    index: Index,
) -> Result<grpc::CreateFieldIndexCollection> {
    let kind = match index {
        Index::Keyword => grpc::FieldType::Keyword,
        Index::Integer => grpc::FieldType::Integer,
        Index::Bool => grpc::FieldType::Bool,
        _ => {
            let detail = format!("no type for an index on {field:?}");
            return Err(Error::new(ErrorKind::Bug, detail));
        }
    };
    Ok(grpc::CreateFieldIndexCollection {
        collection_name: collection.to_owned(),
        wait: Some(true),
        field_name: field.to_owned(),
        field_type: Some(kind.into()),
        ..grpc::CreateFieldIndexCollection::default()
    })
}

pub(super) fn id(id: PointId) -> grpc::PointId {
    match id {
        PointId::Number(number) => number.into(),
        PointId::Uuid(uuid) => uuid.to_string().into(),
    }
}

pub(super) fn id_back(id: grpc::PointId) -> Result<PointId> {
    use grpc::point_id::PointIdOptions;
    match id.point_id_options {
        Some(PointIdOptions::Num(number)) => Ok(PointId::Number(number)),
        Some(PointIdOptions::Uuid(text)) => uuid::Uuid::parse_str(&text)
            .map(PointId::Uuid)
            .map_err(|_| unexpected(&format!("the point id {text:?}"))),
        None => Err(unexpected("a point without id")),
    }
}

fn unexpected(what: &str) -> Error {
    Error::new(ErrorKind::StoreFailed, format!("Qdrant answered with {what}"))
        .advice("check that the URL is Qdrant's gRPC port, and the server's version")
}

pub(super) fn selector(ids: &[PointId]) -> grpc::PointsSelector {
    let ids = ids.iter().copied().map(id).collect();
    grpc::PointsSelector {
        points_selector_one_of: Some(grpc::points_selector::PointsSelectorOneOf::Points(
            grpc::PointsIdsList { ids },
        )),
    }
}

pub(super) fn point(point: Point) -> grpc::PointStruct {
    let named: std::collections::HashMap<String, grpc::Vector> =
        point.vectors.into_iter().map(|(name, one)| (name, vector(one))).collect();
    grpc::PointStruct {
        id: Some(id(point.id)),
        payload: GrpcPayload::from(point.payload).into(),
        vectors: Some(grpc::Vectors::from(grpc::NamedVectors { vectors: named })),
    }
}

fn vector(vector: Vector) -> grpc::Vector {
    match vector {
        Vector::Dense(data) => grpc::DenseVector { data }.into(),
        Vector::Multi(rows) => multi(rows).into(),
        Vector::Sparse { indices, values } => grpc::SparseVector { values, indices }.into(),
    }
}

fn multi(rows: Vec<Vec<f32>>) -> grpc::MultiDenseVector {
    let vectors = rows.into_iter().map(|data| grpc::DenseVector { data }).collect();
    grpc::MultiDenseVector { vectors }
}

pub(super) fn query(vector: Vector) -> grpc::Query {
    use grpc::vector_input::Variant;
    let variant = match vector {
        Vector::Dense(data) => Variant::Dense(grpc::DenseVector { data }),
        Vector::Multi(rows) => Variant::MultiDense(multi(rows)),
        Vector::Sparse { indices, values } => {
            Variant::Sparse(grpc::SparseVector { values, indices })
        }
    };
    let nearest = grpc::VectorInput { variant: Some(variant) };
    grpc::Query { variant: Some(grpc::query::Variant::Nearest(nearest)) }
}

/// All replicas apply writes in the order of one leader: one that was sent twice, because its first
/// answer was late, lands nowhere after a newer one.
pub(super) fn ordering() -> grpc::WriteOrdering {
    grpc::WriteOrdering { r#type: grpc::WriteOrderingType::Strong.into() }
}

/// One request whatever their number: they are applied in order.
pub(super) fn overwrite(
    collection: &str,
    payloads: Vec<(PointId, Payload)>,
) -> grpc::UpdateBatchPoints {
    use grpc::points_update_operation::{Operation, OverwritePayload};
    let operation = |(id, payload): (PointId, Payload)| grpc::PointsUpdateOperation {
        operation: Some(Operation::OverwritePayload(OverwritePayload {
            payload: GrpcPayload::from(payload).into(),
            points_selector: Some(selector(&[id])),
            ..OverwritePayload::default()
        })),
    };
    grpc::UpdateBatchPoints {
        collection_name: collection.to_owned(),
        wait: Some(true),
        ordering: Some(ordering()),
        operations: payloads.into_iter().map(operation).collect(),
        ..grpc::UpdateBatchPoints::default()
    }
}

fn payload_back(payload: std::collections::HashMap<String, grpc::Value>) -> Payload {
    payload.into_iter().map(|(key, value)| (key, value.into_json())).collect()
}

pub(super) fn point_back(point: grpc::RetrievedPoint) -> Result<Point> {
    let id = id_back(point.id.unwrap_or_default())?;
    let back = |vector: grpc::VectorOutput| match vector.into_vector() {
        vector_output::Vector::Dense(dense) => Vector::Dense(dense.data),
        vector_output::Vector::MultiDense(rows) => {
            Vector::Multi(rows.vectors.into_iter().map(|row| row.data).collect())
        }
        vector_output::Vector::Sparse(sparse) => {
            Vector::Sparse { indices: sparse.indices, values: sparse.values }
        }
    };
    let vectors = match point.vectors.and_then(|vectors| vectors.vectors_options) {
        None => Vectors::new(),
        Some(vectors_output::VectorsOptions::Vector(one)) => [(String::new(), back(one))].into(),
        Some(vectors_output::VectorsOptions::Vectors(named)) => {
            named.vectors.into_iter().map(|(name, one)| (name, back(one))).collect()
        }
    };
    Ok(Point { id, payload: payload_back(point.payload), vectors })
}

pub(super) fn scored(point: grpc::ScoredPoint) -> Result<Scored> {
    let id = id_back(point.id.unwrap_or_default())?;
    Ok(Scored { id, score: point.score, payload: payload_back(point.payload) })
}

pub(super) fn filter(filter: &Filter) -> Result<Option<grpc::Filter>> {
    if filter.0.is_empty() {
        return Ok(None);
    }
    let must = filter.0.iter().map(condition).collect::<Result<Vec<_>>>()?;
    Ok(Some(grpc::Filter::must(must)))
}

fn condition(condition: &Condition) -> Result<grpc::Condition> {
    let refused = |key: &str| {
        Error::new(ErrorKind::Usage, format!("{key:?} is compared with what no field can be"))
    };
    Ok(match condition {
        Condition::Is(key, Value::String(text)) => {
            grpc::Condition::matches(key.as_str(), text.clone())
        }
        Condition::Is(key, Value::Bool(truth)) => grpc::Condition::matches(key.as_str(), *truth),
        Condition::Is(key, Value::Number(number)) => {
            let whole = number.as_i64().ok_or_else(|| refused(key))?;
            grpc::Condition::matches(key.as_str(), whole)
        }
        Condition::Is(key, _) => return Err(refused(key)),
        Condition::AnyOf(key, values) => grpc::Condition::matches(key.as_str(), values.clone()),
    })
}
