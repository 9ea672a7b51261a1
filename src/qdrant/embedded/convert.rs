//! Between our points and the engine's.

use std::collections::HashMap;

use qdrant_edge as edge;
use qdrant_edge::{OperationError, OperationResult};
use serde_json::json;

use crate::error::{Error, ErrorKind, Result};
use crate::qdrant::point::{
    Condition, Filter, Payload, Point, PointId, Scored, Vector, Vectors, With,
};
use crate::qdrant::schema::{Distance, Index, Schema, VectorKind};

pub(super) fn config(schema: &Schema) -> edge::EdgeConfig {
    let mut config = edge::EdgeConfig::default();
    for (name, kind) in &schema.vectors {
        let dense = |size: u64, distance: Distance, is_multi: bool| {
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            let mut params = edge::EdgeVectorParams::builder(size, distance_of(distance)).build();
            params.multivector_config = is_multi.then(edge::MultiVectorConfig::default);
            params
        };
        match *kind {
            VectorKind::Dense { size, distance } => {
                config.vectors.insert(name.clone(), dense(size, distance, false));
            }
            VectorKind::Multi { size, distance } => {
                config.vectors.insert(name.clone(), dense(size, distance, true));
            }
            VectorKind::Sparse => {
                config.sparse_vectors.insert(name.clone(), edge::EdgeSparseVectorParams::default());
            }
        }
    }
    config
}

fn distance_of(distance: Distance) -> edge::Distance {
    match distance {
        Distance::Cosine => edge::Distance::Cosine,
        Distance::Dot => edge::Distance::Dot,
        Distance::Euclid => edge::Distance::Euclid,
        Distance::Manhattan => edge::Distance::Manhattan,
    }
}

pub(super) fn schema(shard: &edge::EdgeShard) -> Schema {
    let mut schema = Schema::default();
    let config = shard.config();
    for (name, params) in &config.vectors {
        let size = params.size as u64;
        let distance = match params.distance {
            edge::Distance::Cosine => Distance::Cosine,
            edge::Distance::Dot => Distance::Dot,
            edge::Distance::Euclid => Distance::Euclid,
            edge::Distance::Manhattan => Distance::Manhattan,
        };
        let kind = if params.multivector_config.is_some() {
            VectorKind::Multi { size, distance }
        } else {
            VectorKind::Dense { size, distance }
        };
        schema.vectors.insert(name.clone(), kind);
    }
    for name in config.sparse_vectors.keys() {
        schema.vectors.insert(name.clone(), VectorKind::Sparse);
    }
    drop(config);
    for (field, info) in shard.info().payload_schema {
        let index = match info.data_type {
            edge::PayloadSchemaType::Keyword => Index::Keyword,
            edge::PayloadSchemaType::Integer => Index::Integer,
            edge::PayloadSchemaType::Bool => Index::Bool,
            edge::PayloadSchemaType::Uuid => Index::Uuid,
            edge::PayloadSchemaType::Text => Index::Text,
            edge::PayloadSchemaType::Float => Index::Float,
            edge::PayloadSchemaType::Datetime => Index::Datetime,
            edge::PayloadSchemaType::Geo => Index::Other,
        };
        schema.indexes.insert(field.to_string(), index);
    }
    schema
}

pub(super) fn create_index(field: &str, index: Index) -> OperationResult<edge::UpdateOperation> {
    let kind = match index {
        Index::Keyword => edge::PayloadSchemaType::Keyword,
        Index::Integer => edge::PayloadSchemaType::Integer,
        Index::Bool => edge::PayloadSchemaType::Bool,
        _ => {
            return Err(OperationError::ValidationError {
                description: format!("no type for an index on {field:?}"),
            });
        }
    };
    let field_name = field.parse().map_err(|()| OperationError::ValidationError {
        description: format!("{field:?} cannot be indexed"),
    })?;
    let create = edge::CreateIndex {
        field_name,
        field_schema: Some(edge::PayloadFieldSchema::FieldType(kind)),
    };
    Ok(edge::UpdateOperation::FieldIndexOperation(edge::FieldIndexOperations::CreateIndex(create)))
}

pub(super) fn id(id: PointId) -> edge::PointId {
    match id {
        PointId::Number(number) => edge::PointId::NumId(number),
        PointId::Uuid(uuid) => edge::PointId::Uuid(uuid),
    }
}

pub(super) fn id_back(id: edge::PointId) -> PointId {
    match id {
        edge::PointId::NumId(number) => PointId::Number(number),
        edge::PointId::Uuid(uuid) => PointId::Uuid(uuid),
    }
}

fn vector(vector: Vector) -> OperationResult<edge::Vector> {
    match vector {
        Vector::Dense(numbers) => Ok(edge::Vector::new_dense(numbers)),
        Vector::Multi(rows) => edge::Vector::new_multi(rows),
        Vector::Sparse { indices, values } => edge::Vector::new_sparse(indices, values),
    }
}

fn vector_back(vector: edge::VectorInternal) -> Vector {
    match vector {
        edge::VectorInternal::Dense(numbers) => Vector::Dense(numbers),
        edge::VectorInternal::MultiDense(rows) => Vector::Multi(rows.into_multi_vectors()),
        edge::VectorInternal::Sparse(sparse) => {
            Vector::Sparse { indices: sparse.indices, values: sparse.values }
        }
    }
}

pub(super) fn upsert(points: Vec<Point>) -> OperationResult<edge::UpdateOperation> {
    let mut list = Vec::with_capacity(points.len());
    for point in points {
        let mut named = HashMap::new();
        for (name, one) in point.vectors {
            named.insert(name, vector(one)?);
        }
        let payload = serde_json::Value::Object(point.payload);
        list.push(edge::PointStruct::new(id(point.id), named, payload).into());
    }
    let insert = edge::PointInsertOperations::PointsList(list);
    Ok(edge::UpdateOperation::PointOperation(edge::PointOperations::UpsertPoints(insert)))
}

pub(super) fn overwrite(point: PointId, payload: Payload) -> edge::UpdateOperation {
    let set = edge::SetPayloadOp {
        payload: edge::Payload(payload),
        points: Some(vec![id(point)]),
        filter: None,
        key: None,
    };
    edge::UpdateOperation::PayloadOperation(edge::PayloadOps::OverwritePayload(set))
}

pub(super) fn delete(ids: &[PointId]) -> edge::UpdateOperation {
    let ids = ids.iter().copied().map(id).collect();
    edge::UpdateOperation::PointOperation(edge::PointOperations::DeletePoints { ids })
}

pub(super) fn point(record: edge::Record) -> Point {
    let vectors = match record.vector {
        None => Vectors::new(),
        Some(edge::VectorStructInternal::Named(named)) => {
            named.into_iter().map(|(name, vector)| (name, vector_back(vector))).collect()
        }
        Some(edge::VectorStructInternal::Single(numbers)) => {
            Vectors::from([(String::new(), Vector::Dense(numbers))])
        }
        Some(edge::VectorStructInternal::MultiDense(rows)) => {
            Vectors::from([(String::new(), Vector::Multi(rows.into_multi_vectors()))])
        }
    };
    let payload = record.payload.map(|payload| payload.0).unwrap_or_default();
    Point { id: id_back(record.id), payload, vectors }
}

/// The engine reads a filter as its REST API does.
pub(super) fn filter(filter: &Filter) -> Result<Option<edge::Filter>> {
    if filter.0.is_empty() {
        return Ok(None);
    }
    let must: Vec<_> = filter
        .0
        .iter()
        .map(|condition| match condition {
            Condition::Is(key, value) => json!({ "key": key, "match": { "value": value } }),
            Condition::AnyOf(key, values) => json!({ "key": key, "match": { "any": values } }),
        })
        .collect();
    serde_json::from_value(json!({ "must": must })).map(Some).map_err(|error| {
        Error::new(ErrorKind::Usage, "the filter compares a field with what no field can be")
            .because(error)
    })
}

pub(super) fn scroll(
    filter: Option<edge::Filter>,
    from: Option<PointId>,
    limit: u32,
    with: With,
) -> edge::ScrollRequest {
    edge::ScrollRequest {
        offset: from.map(id),
        limit: Some(limit as usize),
        filter,
        with_payload: Some(with.payload.into()),
        with_vector: with.vectors.into(),
        order_by: None,
    }
}

pub(super) fn search(
    using: String,
    query: Vector,
    filter: Option<edge::Filter>,
    limit: u32,
) -> OperationResult<edge::SearchRequest> {
    let named = edge::NamedQuery { query: vector(query)?.0, using: Some(using) };
    Ok(edge::SearchRequest {
        query: edge::QueryEnum::Nearest(named),
        filter,
        params: None,
        limit: limit as usize,
        offset: 0,
        with_payload: Some(true.into()),
        with_vector: None,
        score_threshold: None,
    })
}

pub(super) fn scored(point: edge::ScoredPoint) -> Scored {
    let payload = point.payload.map(|payload| payload.0).unwrap_or_default();
    Scored { id: id_back(point.id), score: point.score, payload }
}
