//! A server over TLS, with a key: the certificate is of an authority that only `SSL_CERT_FILE` names.

use std::process::{Command, Output};

use tempfile::TempDir;
use tonic::transport::Identity;
use toolkit::qdrant::Embedded;

use super::front::{Front, KEY};
use super::stores;
use super::world::World;
use crate::support::toolkit;

/// A front over TLS, by the name in its certificate.
async fn front() -> (String, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let identity =
        Identity::from_pem(include_str!("tls/server.pem"), include_str!("tls/server.key"));
    let store = Embedded::open(folder.path()).unwrap();
    let front = Front::start(store, usize::MAX, Some(identity)).await;
    (front.url.replace("127.0.0.1", "localhost"), folder)
}

fn command(world: &World, url: &str, arguments: &[&str]) -> Command {
    let mut command = toolkit();
    command
        .args(["--database-url", world.database.url(), "--qdrant-url", url])
        .args(arguments)
        .env("QDRANT_API_KEY", KEY)
        .current_dir(world.database.folder());
    command
}

async fn done(mut command: Command) -> (Output, String) {
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, said)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_over_tls_is_written_to_where_its_authority_is_trusted() {
    let world = World::new(stores::embedded(), 3).await;
    let (url, _folder) = front().await;
    let authority = world.database.folder().join("authority.pem");
    std::fs::write(&authority, include_str!("tls/authority.pem")).unwrap();
    for arguments in [&["outbox", "drain"][..], &["outbox", "rebuild"]] {
        let mut command = command(&world, &url, arguments);
        command.env("SSL_CERT_FILE", &authority);
        let (output, said) = done(command).await;
        assert!(output.status.success(), "{said}");
        assert!(!said.contains("unencrypted"), "{said}");
    }
    assert_eq!(world.pending().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_be_trusted_is_told_nothing_and_why_is_said() {
    let world = World::new(stores::embedded(), 3).await;
    let (url, _folder) = front().await;
    let nobody = world.database.folder().join("nobody.pem");
    std::fs::write(&nobody, "").unwrap();
    // Of other authorities, of none at all, and by another name than that of the certificate.
    let other = include_str!("tls/server.pem");
    let others = world.database.folder().join("others.pem");
    std::fs::write(&others, other).unwrap();
    for (url, trusted) in [(&url, &nobody), (&url, &others)] {
        let mut command = command(&world, url, &["outbox", "drain"]);
        command.env("SSL_CERT_FILE", trusted).env("SSL_CERT_DIR", world.database.folder());
        let (output, said) = done(command).await;
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("SSL_CERT_FILE"), "{said}");
        assert!(!said.contains(KEY), "{said}");
    }
    assert_eq!(world.pending().await, 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_text_to_a_port_with_tls_ends_at_once_with_the_scheme_to_use() {
    let world = World::new(stores::embedded(), 1).await;
    let (url, _folder) = front().await;
    let plain = url.replace("https://", "http://");
    let (output, said) = done(command(&world, &plain, &["outbox", "drain"])).await;
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("https://"), "{said}");
}
