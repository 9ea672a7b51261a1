//! Who answers, where a connection broke without a word of gRPC.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest wait for an answer that a server which is there gives at once.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether what listens at this plain URL answers HTTP/1, as Qdrant's REST port does. Such a server
/// may refuse gRPC and close so soon that its refusal is lost with the connection.
pub(super) async fn answers_http1(url: &str) -> bool {
    let Some(authority) = authority(url) else { return false };
    timeout(PATIENCE, asked(&authority)).await.is_ok_and(std::result::Result::unwrap_or_default)
}

async fn asked(authority: &str) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(authority).await?;
    let request = format!("GET / HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).await?;
    Ok(&answer == b"HTTP/1.")
}

/// `host:port` of a plain URL; None of one with TLS, where nothing is known before the handshake.
fn authority(url: &str) -> Option<String> {
    let rest = url.strip_prefix("http://")?;
    let authority = rest.split('/').next()?;
    let has_port = authority.rsplit(':').next()?.parse::<u16>().is_ok();
    Some(if has_port { authority.to_owned() } else { format!("{authority}:80") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_plain_url_is_its_host_and_port() {
        assert_eq!(authority("http://h:6333").as_deref(), Some("h:6333"));
        assert_eq!(authority("http://[::1]:6333/x").as_deref(), Some("[::1]:6333"));
        assert_eq!(authority("http://h/").as_deref(), Some("h:80"));
        assert_eq!(authority("https://h:6333"), None);
    }
}
