//! What a piece of evidence holds for. It expires when one of these changes.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use crate::error::Result;
use crate::pack::{OpenedPack, Pack};
use crate::source::discover::Discovered;
use crate::source::sqlite::Database;
use crate::store::catalog::split_name;

/// The state of everything that evidence about a pack depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Basis {
    /// The generation of phase and route.
    pub generation: i64,
    /// Version of the pack.
    pub pack_version: i32,
    /// SHA-256 of its `pack.toml`.
    pub pack_fingerprint: String,
    /// SHA-256 over the columns and constraints of its targets.
    pub target_schema: String,
    /// SHA-256 over the schemas of its `SQLite` files; None where they were not looked at.
    pub source_schema: Option<String>,
    /// Rejects of the pack.
    pub rejects: i64,
    /// The newest of them.
    pub newest_reject: i64,
}

impl Basis {
    /// As things are now, with the sources.
    pub async fn of_opened(conn: &mut PgConnection, opened: &OpenedPack) -> Result<Self> {
        let source = source_schema(&opened.discovered)?;
        Self::now(conn, &opened.pack, &opened.plan.fingerprint, Some(source)).await
    }

    /// As things are now; `source_schema` where the sources were looked at.
    pub(super) async fn now(
        conn: &mut PgConnection,
        pack: &Pack,
        pack_fingerprint: &str,
        source_schema: Option<String>,
    ) -> Result<Self> {
        let (mut schemas, mut tables) = (Vec::new(), Vec::new());
        for stream in &pack.manifest.streams {
            for view in stream.views() {
                let (schema, table) = split_name(view.target.get_ref())?;
                schemas.push(schema);
                tables.push(table);
            }
        }
        let row = sqlx::query(include_str!("../sql/phase/basis.sql"))
            .bind(pack.name())
            .bind(schemas)
            .bind(tables)
            .fetch_one(conn)
            .await?;
        Ok(Self {
            generation: row.try_get("generation")?,
            pack_version: pack.manifest.pack.version,
            pack_fingerprint: pack_fingerprint.to_owned(),
            target_schema: row.try_get("target_schema")?,
            source_schema,
            rejects: row.try_get("rejects")?,
            newest_reject: row.try_get("newest_reject")?,
        })
    }

    /// Why evidence with this basis does not hold any more; None: it does.
    #[must_use]
    pub fn expired(&self, now: &Self) -> Option<String> {
        if self.pack_version != now.pack_version {
            return Some(format!(
                "the pack was version {} and is {} now",
                self.pack_version, now.pack_version
            ));
        }
        if self.pack_fingerprint != now.pack_fingerprint {
            return Some("pack.toml was changed".to_owned());
        }
        if self.target_schema != now.target_schema {
            return Some("the target's schema was changed".to_owned());
        }
        if let (Some(then), Some(now)) = (&self.source_schema, &now.source_schema)
            && then != now
        {
            return Some("the source's schema was changed".to_owned());
        }
        if now.rejects > self.rejects || now.newest_reject > self.newest_reject {
            return Some(format!(
                "records were rejected since ({} then, {} now)",
                self.rejects, now.rejects
            ));
        }
        None
    }
}

/// SHA-256 over what the `SQLite` files of a pack declare, the toolkit's own objects left out.
/// Blocking, for moments.
pub(super) fn source_schema(discovered: &Discovered) -> Result<String> {
    let mut files: Vec<_> = discovered
        .streams
        .values()
        .filter(|stream| stream.columns.is_some())
        .flat_map(|stream| &stream.files)
        .filter(|file| file.sha256.is_empty())
        .collect();
    files.sort_by(|a, b| a.relative.cmp(&b.relative));
    files.dedup_by(|a, b| a.path == b.path);
    let mut hash = Sha256::new();
    for file in files {
        hash.update(format!("file {}\n", file.relative));
        for statement in Database::open(&file.path)?.declarations()? {
            hash.update(format!("{}:{statement}\n", statement.len()));
        }
    }
    Ok(hex::encode(hash.finalize()))
}
