//! What a failed call means: by gRPC's code, and where the code says too little, by the words of
//! the server, which are the same in all its versions.

use qdrant_client::QdrantError;
use tonic::{Code, Status};

use crate::error::{Error, ErrorKind};

const MISSING_ADVICE: &str =
    "`toolkit outbox drain` makes the collection; `toolkit outbox rebuild` fills it anew";
const PORT_ADVICE: &str = "gRPC is on port 6334, 6333 is the REST port; https:// only where the \
                           server, or a proxy before it, has TLS";
const TRUST_ADVICE: &str = "the server's certificate must be for the host of the URL and of an \
                            authority that this machine trusts; SSL_CERT_FILE names a file with \
                            that authority, where the machine does not know it";

/// Words of whoever is there but speaks no gRPC, or no TLS, or nothing else: HTTP/1 read as a
/// frame of HTTP/2, plain text read as TLS.
const NO_GRPC: [&str; 3] =
    ["frame with invalid size", "InvalidContentType", "received corrupt message"];

/// Words of a certificate that no root of this machine vouches for, or of no such root at all.
const UNTRUSTED: [&str; 3] =
    ["invalid peer certificate", "InvalidCertificate", "Failed to create TLS config"];

/// Words of a limit that fewer things in one request keep: of strict mode, of a rate below the cost
/// of one request, of a message's length here and there, of a proxy.
const TOO_MUCH: [&str; 4] =
    ["Limit exceeded", RATE, "message length too large", "HTTP status code 413"];
/// Without a time to come back after: of a request that costs more than there ever is, or of one
/// that [`to_be_parted`] made such.
const RATE: &str = "rate limit exceeded";

/// How a server begins to say that something in it failed, as a shard without a live replica.
const OWN_TROUBLE: &str = "Service internal error";

/// Words of a collection that may not grow, or of a server that has no room, whatever the point. A
/// full disk is `Internal` to a server, as what passes by itself is.
const FULL: [&str; 6] = [
    "storage size limit of",
    "points count limit",
    "Max points count",
    "Resident memory usage",
    "No space left on device",
    "Out of memory, free: ",
];

/// What went wrong. `Internal` and `Unknown` are the client's codes for a connection that failed or
/// broke, and the server's for trouble of its own that may pass.
pub(super) fn explain(place: &str, error: QdrantError) -> Error {
    let (kind, detail, advice) = match &error {
        QdrantError::ResourceExhaustedError { .. } => (
            ErrorKind::Busy,
            format!("Qdrant at {place} limits the rate of requests"),
            "lower qdrant.batch or the number of workers",
        ),
        QdrantError::ResponseError { status } => of_status(place, status),
        _ => (
            ErrorKind::StoreFailed,
            format!("Qdrant at {place}: {error}"),
            "check the URL and the server's version",
        ),
    };
    Error::new(kind, detail).because(error).advice(advice)
}

fn of_status(place: &str, status: &Status) -> (ErrorKind, String, &'static str) {
    let message = status.message();
    if UNTRUSTED.iter().any(|words| says(status, words)) {
        let detail = format!("there is no trust in what answers at {place}: {}", chain(status));
        return (ErrorKind::Config, detail, TRUST_ADVICE);
    }
    if NO_GRPC.iter().any(|words| says(status, words)) {
        let detail = format!("what answers at {place} is no gRPC service: {}", chain(status));
        return (ErrorKind::Config, detail, PORT_ADVICE);
    }
    if TOO_MUCH.iter().any(|words| message.contains(words)) {
        return (
            ErrorKind::StoreFailed,
            format!("Qdrant at {place} takes no request of this size: {message}"),
            "raise that limit of the server or the collection; requests were made smaller already",
        );
    }
    if FULL.iter().any(|words| message.contains(words)) {
        return (
            ErrorKind::StoreExhausted,
            format!("Qdrant at {place} takes no more points: {message}"),
            "raise that limit, or free room; nothing is lost, what Qdrant has not learnt waits",
        );
    }
    if message.contains(OWN_TROUBLE) {
        return (
            ErrorKind::StoreUnreachable,
            format!("Qdrant at {place} has trouble of its own: {message}"),
            "look at the server's log, and at its shards if it is a cluster; nothing is lost, what \
             it has not learnt waits in the outbox",
        );
    }
    if is_timeout(status) {
        return (
            ErrorKind::StoreUnreachable,
            format!("Qdrant at {place} did not answer in time: {}", chain(status)),
            "raise qdrant.timeout_ms of toolkit.toml, or lower qdrant.batch; a server that makes \
             an index over many points goes on with it meanwhile",
        );
    }
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => (
            ErrorKind::StoreDenied,
            format!("Qdrant at {place} refuses the key: {message}"),
            "set QDRANT_API_KEY, or qdrant_api_key in toolkit.toml; the key needs write access for \
             all commands but parity",
        ),
        Code::Internal
        | Code::Unavailable
        | Code::Unknown
        | Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted => (
            ErrorKind::StoreUnreachable,
            format!("Qdrant at {place} does not answer: {}", chain(status)),
            "check the URL (gRPC is on port 6334, 6333 is the REST port), and that the server \
             runs; nothing is lost, what it has not learnt waits in the outbox",
        ),
        Code::FailedPrecondition => (
            ErrorKind::Busy,
            format!("Qdrant at {place} does not do this now: {message}"),
            "it is locked, or being restored; nothing is lost, the outbox waits",
        ),
        Code::ResourceExhausted => (
            ErrorKind::StoreExhausted,
            format!("Qdrant at {place} has no room: {message}"),
            "free disk or memory of the server, or lower qdrant.batch",
        ),
        Code::NotFound => {
            (ErrorKind::StoreFailed, format!("Qdrant at {place}: {message}"), MISSING_ADVICE)
        }
        Code::Unimplemented => (
            ErrorKind::Config,
            format!("Qdrant at {place} does not know a request: {message}"),
            "check the URL (gRPC is on port 6334, 6333 is the REST port, and https:// without a \
             port is 443) and the server's version; this program is written for 1.18",
        ),
        _ => (
            ErrorKind::StoreFailed,
            format!("Qdrant at {place} refused a request: {message}"),
            "`toolkit outbox status` says which entities wait",
        ),
    }
}

/// Whether a time ran out, here (the client's word for it) or there.
fn is_timeout(status: &Status) -> bool {
    status.code() == Code::DeadlineExceeded
        || (status.code() == Code::Cancelled && status.message().contains("Timeout expired"))
}

/// Whether the connection failed or broke, so that nobody knows who is there.
pub(super) fn broke_off(error: &Error) -> bool {
    error.kind() == ErrorKind::StoreUnreachable
        && status_of(error).is_some_and(|status| std::error::Error::source(status).is_some())
}

/// The error of a connection that broke, once it is known that HTTP/1 is spoken there.
pub(super) fn not_grpc(place: &str, error: Error) -> Error {
    let detail = format!("what answers at {place} speaks HTTP/1, not gRPC");
    Error::new(ErrorKind::Config, detail).because(error).advice(PORT_ADVICE)
}

/// The status's message, and what its causes say that it does not.
fn chain(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let says = error.to_string();
        if !text.contains(&says) {
            text.push_str(": ");
            text.push_str(&says);
        }
        cause = error.source();
    }
    text
}

fn says(status: &Status, words: &str) -> bool {
    matches!(status.code(), Code::Internal | Code::Unknown | Code::Unavailable | Code::Cancelled)
        && chain(status).contains(words)
}

/// Whether it is a server, or the way to it, that failed.
pub(in crate::qdrant) fn is_of_a_server(error: &Error) -> bool {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<QdrantError>())
        .is_some()
}

/// A refused rate as one that never serves so many at once, where there are several.
pub(super) fn to_be_parted(error: QdrantError, is_several: bool) -> QdrantError {
    match error {
        QdrantError::ResourceExhaustedError { status, .. } if is_several => {
            QdrantError::ResponseError { status }
        }
        error => error,
    }
}

fn status_of(error: &Error) -> Option<&Status> {
    match std::error::Error::source(error)?.downcast_ref::<QdrantError>()? {
        QdrantError::ResponseError { status } => Some(status),
        _ => None,
    }
}

/// Whether what was named is not there.
pub(super) fn is_missing(error: &Error) -> bool {
    status_of(error).is_some_and(|status| status.code() == Code::NotFound)
}

/// Whether there is no collection, nor an alias, of the name: not a shard or a replica of it.
pub(super) fn is_no_such_collection(error: &Error) -> bool {
    is_missing(error)
        && status_of(error).is_some_and(|status| {
            let message = status.message();
            message.contains("ollection") || message.contains("doesn't exist")
        })
}

/// Whether it is the rate that makes it too much.
pub(super) fn is_of_rate(error: &Error) -> bool {
    status_of(error).is_some_and(|status| status.message().contains(RATE))
}

/// Whether a smaller request may be taken.
pub(super) fn is_too_much(error: &Error) -> bool {
    let message = status_of(error).map(Status::message).unwrap_or_default();
    TOO_MUCH.iter().any(|words| message.contains(words))
}

/// Whether strict mode allows no exact search, and so no exact count.
pub(super) fn is_of_exact_search(error: &Error) -> bool {
    status_of(error).is_some_and(|status| status.message().contains("Exact search disabled"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(code: Code, message: &str) -> Error {
        explain("h", QdrantError::ResponseError { status: Status::new(code, message) })
    }

    #[test]
    fn a_status_decides_whether_another_try_can_help() {
        let kind = |code: Code| explained(code, "x").kind();
        assert_eq!(kind(Code::Unavailable), ErrorKind::StoreUnreachable);
        assert_eq!(kind(Code::Internal), ErrorKind::StoreUnreachable);
        assert_eq!(kind(Code::DeadlineExceeded), ErrorKind::StoreUnreachable);
        assert_eq!(kind(Code::FailedPrecondition), ErrorKind::Busy);
        assert_eq!(kind(Code::Unauthenticated), ErrorKind::StoreDenied);
        assert_eq!(kind(Code::InvalidArgument), ErrorKind::StoreFailed);
        assert_eq!(kind(Code::NotFound), ErrorKind::StoreFailed);
        assert_eq!(kind(Code::Unimplemented), ErrorKind::Config);
        for (code, full) in [
            (Code::InvalidArgument, "Bad request: Max vector storage size limit of 64MB reached!"),
            (
                Code::Internal,
                "Service internal error: 1 out of 2 shards failed to apply operation. First error \
                 captured: Service internal error: No space left on device: WAL buffer size \
                 exceeds available disk space",
            ),
            (Code::Internal, "Service internal error: Out of memory, free: 12, no segment"),
        ] {
            assert_eq!(explained(code, full).kind(), ErrorKind::StoreExhausted, "{full}");
        }
    }

    #[test]
    fn a_limit_that_a_smaller_request_keeps_is_known_by_its_words_whatever_the_code() {
        let limits = [
            (Code::InvalidArgument, "Bad request: Limit exceeded 256 > 100 for \"limit\". Help: x"),
            (Code::PermissionDenied, "Forbidden: Limit exceeded 256 > 100 for \"upsert limit\"."),
            (Code::ResourceExhausted, "Rate limiting exceeded: Write rate limit exceeded, never"),
            (Code::OutOfRange, "Error, decoded message length too large: found 5 bytes"),
            (Code::Unknown, "grpc-status header missing, mapped from HTTP status code 413"),
        ];
        for (code, message) in limits {
            let error = explained(code, message);
            assert!(is_too_much(&error), "{message}");
            assert!(!crate::retry::is_passing(&error), "{message}");
        }
        assert!(!is_too_much(&explained(Code::InvalidArgument, "Wrong input: Vector dimension")));
    }

    #[test]
    fn what_the_server_or_the_clock_says_is_not_called_a_server_that_is_away() {
        let shard = "Service internal error: The replica set for shard 1 on peer 2 has no active \
                     replica";
        let error = explained(Code::Internal, shard);
        assert!(crate::retry::is_passing(&error));
        assert!(error.detail().contains("trouble of its own"), "{error}");
        for (code, words) in [
            (Code::Cancelled, "Timeout expired"),
            (Code::DeadlineExceeded, "Timeout: Operation 'count' timed out after 60s"),
        ] {
            let error = explained(code, words);
            assert!(crate::retry::is_passing(&error));
            assert!(error.advice_text().unwrap().contains("qdrant.timeout_ms"), "{error:?}");
        }
    }

    #[test]
    fn a_missing_shard_is_no_missing_collection() {
        let missing = "Not found: Collection `c` doesn't exist!";
        assert!(is_no_such_collection(&explained(Code::NotFound, missing)));
        let shard = "Not found: Shard 2 not found";
        assert!(!is_no_such_collection(&explained(Code::NotFound, shard)));
    }

    #[test]
    fn without_roots_of_trust_no_other_try_is_made() {
        let error = explained(Code::Internal, "Failed to create TLS config: transport error");
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.advice_text().unwrap().contains("SSL_CERT_FILE"), "{error:?}");
    }

    #[test]
    fn an_answer_that_is_no_grpc_is_refused_at_once_and_names_both_ports() {
        let error = explained(Code::Internal, "h2 protocol error: frame with invalid size");
        assert_eq!(error.kind(), ErrorKind::Config);
        let advice = error.advice_text().unwrap();
        assert!(advice.contains("6333") && advice.contains("6334"), "{advice}");
    }
}
