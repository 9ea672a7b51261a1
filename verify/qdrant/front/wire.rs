//! Between the engine's points and those of gRPC, as the server's side has it.

use std::collections::HashMap;

use qdrant_client::qdrant as grpc;
use toolkit::qdrant::{
    Condition, Distance, Filter, Index, Payload, Point, PointId, Schema, Vector, VectorKind, With,
};

pub(super) fn id(id: grpc::PointId) -> PointId {
    use grpc::point_id::PointIdOptions;
    match id.point_id_options.unwrap() {
        PointIdOptions::Num(number) => PointId::Number(number),
        PointIdOptions::Uuid(uuid) => PointId::Uuid(uuid.parse().unwrap()),
    }
}

/// As [`super::super::world`] makes ids of characters.
pub(super) fn is_character(id: PointId) -> bool {
    id.uuid().is_some_and(|uuid| uuid.as_u64_pair().1 == 2)
}

pub(super) fn id_back(id: PointId) -> grpc::PointId {
    match id {
        PointId::Number(number) => number.into(),
        PointId::Uuid(uuid) => uuid.to_string().into(),
    }
}

pub(super) fn selected(selector: Option<grpc::PointsSelector>) -> Vec<PointId> {
    use grpc::points_selector::PointsSelectorOneOf;
    match selector.and_then(|selector| selector.points_selector_one_of) {
        Some(PointsSelectorOneOf::Points(list)) => list.ids.into_iter().map(id).collect(),
        _ => Vec::new(),
    }
}

pub(super) fn with(
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

pub(super) fn filter(filter: Option<grpc::Filter>) -> Filter {
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

pub(super) fn payload_of(payload: HashMap<String, grpc::Value>) -> Payload {
    payload.into_iter().map(|(key, value)| (key, value.into_json())).collect()
}

pub(super) fn point(point: grpc::PointStruct) -> Point {
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

pub(super) fn retrieved(point: Point) -> grpc::RetrievedPoint {
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

pub(super) fn distance(distance: grpc::Distance) -> Distance {
    match distance {
        grpc::Distance::Cosine => Distance::Cosine,
        grpc::Distance::Dot => Distance::Dot,
        grpc::Distance::Euclid => Distance::Euclid,
        grpc::Distance::Manhattan => Distance::Manhattan,
        grpc::Distance::UnknownDistance => panic!("no distance"),
    }
}

pub(super) fn info(schema: Schema, datatype: grpc::Datatype) -> grpc::CollectionInfo {
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
            datatype: Some(datatype.into()),
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
            Index::Uuid => grpc::PayloadSchemaType::Uuid,
            Index::Float => grpc::PayloadSchemaType::Float,
            Index::Datetime => grpc::PayloadSchemaType::Datetime,
            Index::Text | Index::Other => grpc::PayloadSchemaType::Text,
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
        // Optimising, and with a number that is only about right: as a busy server says.
        status: grpc::CollectionStatus::Yellow.into(),
        points_count: Some(7),
        config: Some(grpc::CollectionConfig { params: Some(params), ..Default::default() }),
        payload_schema: schema
            .indexes
            .into_iter()
            .map(|(field, index)| (field, schema_info(index)))
            .collect(),
        ..Default::default()
    }
}
