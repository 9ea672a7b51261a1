//! The pack `anime`: a document graph, which no table of casts could say.
//!
//! | part | what it does |
//! |---|---|
//! | [`entry`] | reads one entry of an artifact in the target's terms |
//! | [`urls`], [`vocabulary`] | platforms' urls, relations, formats, states |
//! | [`policy`] | what an artifact may change, and what a person decides |
//! | [`points`] | what the Qdrant collection holds of an entity |
//! | `store` | a group of entries in one transaction |
//! | [`ingest`] | a run: read, write, checkpoint, resolve |
//! | [`parity`] | every value of every entry is in Postgres, or accounted for |
//! | [`dedup`] | near-duplicate characters: proposed, merged, taken back |
//! | [`resolve`] | edges find their targets |
//! | [`retry`] | refused records, corrected or as they are |
//! | [`review`] | the queue of changes that wait for a person |
//! | [`derived`] | sidecars and the collection, compared with Postgres |
//! | [`sidecar`] | the ingestion state as a file beside the artifact |
//!
//! The outbox and the graph's edges are written by triggers of the schema, in the transaction of
//! whatever changes their rows.

pub mod dedup;
pub mod derived;
pub mod doc;
pub mod entry;
pub mod ingest;
pub mod parity;
pub mod points;
pub mod policy;
pub mod resolve;
pub mod retry;
pub mod review;
pub mod sidecar;
mod store;
pub mod urls;
pub mod vocabulary;

use crate::anime::policy::Policy;
use crate::error::{Error, ErrorKind, Result};
use crate::pack::Pack;
use crate::pack::manifest::DocumentsManifest;

/// The pack's name.
pub const PACK: &str = "anime";

/// `[documents]` of a pack whose transform this is, read.
#[derive(Debug, Clone)]
pub struct Documents {
    /// As written.
    pub manifest: DocumentsManifest,
    /// What an artifact may change.
    pub policy: Policy,
}

/// Reads `[documents]` of a pack.
pub fn documents(pack: &Pack) -> Result<Documents> {
    let Some(manifest) = pack.manifest.documents.clone() else {
        let detail = format!("the pack {} has no [documents]", pack.name());
        return Err(Error::new(ErrorKind::Pack, detail));
    };
    if manifest.transform.get_ref() != PACK {
        let detail = format!("there is no transform `{}`", manifest.transform.get_ref());
        return Err(pack
            .error_at(manifest.transform.span().start, detail)
            .advice("built in is: anime"));
    }
    let policy = manifest.policy.clone().try_into().map_err(|error: toml::de::Error| {
        pack.error_at(
            manifest.transform.span().start,
            format!("[documents.policy]: {}", error.message()),
        )
    })?;
    Ok(Documents { manifest, policy })
}
