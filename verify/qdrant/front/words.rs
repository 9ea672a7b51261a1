//! What a real server says when it refuses, word for word.

use qdrant_client::qdrant as grpc;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

/// As a limited rate is refused, with a time to come back after.
pub(in crate::qdrant) fn limited(seconds: u32) -> Status {
    let mut metadata = MetadataMap::new();
    metadata.insert("retry-after", MetadataValue::from(seconds));
    let detail = "Rate limiting exceeded: Write rate limit exceeded: Operation requires 16 tokens \
                  but only 0.0 were available. Retry after 1s";
    Status::with_metadata(Code::ResourceExhausted, detail, metadata)
}

/// As strict mode says it.
pub(super) fn over(value: usize, limit: usize, name: &str) -> Result<(), Status> {
    if value <= limit {
        return Ok(());
    }
    Err(Status::invalid_argument(format!(
        "Bad request: Limit exceeded {value} > {limit} for \"{name}\". Help: Reduce the \"{name}\" \
         parameter to or below {limit}."
    )))
}

/// Replicas of a real server may apply others' order.
pub(super) fn in_order(ordering: Option<grpc::WriteOrdering>) -> Result<(), Status> {
    if ordering.unwrap_or_default().r#type() == grpc::WriteOrderingType::Strong {
        return Ok(());
    }
    Err(Status::invalid_argument("a write in no order"))
}
