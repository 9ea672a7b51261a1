//! PostgreSQL's programs from an archive, where the machine has none (feature
//! `postgres-download`).

use std::path::PathBuf;

use postgresql_embedded::{PostgreSQL, SettingsBuilder, VersionReq};

use crate::error::{Error, ErrorKind, Result};

/// The version fetched where no cluster asks for its own.
const MAJOR_DEFAULT: u32 = 17;

/// Fetches and unpacks the programs of a version, once for all state folders of this user.
/// Returns their folder. Blocks.
pub(super) fn install(major: Option<u32>) -> Result<PathBuf> {
    let major = major.unwrap_or(MAJOR_DEFAULT);
    let failed = |e: Box<dyn std::error::Error + Send + Sync>| {
        Error::new(
            ErrorKind::StoreUnreachable,
            format!("PostgreSQL {major} could not be downloaded"),
        )
        .because(e)
        .advice("check the network, or install it (Debian, Ubuntu: `apt-get install postgresql`)")
    };
    let version = VersionReq::parse(&format!("^{major}")).map_err(|e| failed(Box::new(e)))?;
    // As root the server's user runs the programs, and cannot reach into root's home.
    let root = nix::unistd::Uid::effective().is_root();
    // Only the programs are wanted. Making a cluster is skipped where there seems to be one, and
    // as root it would be refused.
    let seeming = tempfile::tempdir()?;
    std::fs::write(seeming.path().join("postgresql.conf"), "")?;
    let mut settings = SettingsBuilder::new().version(version).data_dir(seeming.path());
    if root {
        settings = settings.installation_dir("/var/lib/toolkit/programs");
    }
    let mut installation = PostgreSQL::new(settings.build());
    tracing::info!(major, "downloading PostgreSQL's programs");
    tokio::runtime::Handle::current()
        .block_on(installation.setup())
        .map_err(|e| failed(Box::new(e)))?;
    Ok(installation.settings().binary_dir())
}
