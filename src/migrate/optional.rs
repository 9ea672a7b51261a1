//! What the schema takes from the server where it is there.

use sqlx::PgConnection;

use crate::Result;

/// Something a server may have or not, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Optional {
    /// `vector` or `lz4`.
    pub name: String,
    /// Whether the migrated schema uses it.
    pub used: bool,
    /// A sentence for people: what is used, or what stands in for it and why.
    pub state: String,
}

/// For every optional part that the migrated schemas could use: whether they do. Parts whose tables
/// are not there (yet) are left out.
pub async fn optional_extensions(connection: &mut PgConnection) -> Result<Vec<Optional>> {
    let rows: Vec<(String, bool, String)> =
        sqlx::query_as(include_str!("../sql/migration_optional.sql")).fetch_all(connection).await?;
    Ok(rows.into_iter().map(|(name, used, state)| Optional { name, used, state }).collect())
}

/// What the server offers of the optional parts that `pending` migrations mention.
pub(super) async fn available(
    connection: &mut PgConnection,
    pending: &[&str],
) -> Result<Vec<Optional>> {
    let rows: Vec<(String, bool, String)> =
        sqlx::query_as(include_str!("../sql/migration_available.sql"))
            .fetch_all(connection)
            .await?;
    let is_mentioned = |name: &str| {
        let mark = format!(" {name}");
        pending.iter().any(|sql| sql.contains(&mark))
    };
    Ok(rows
        .into_iter()
        .filter(|(name, ..)| is_mentioned(name))
        .map(|(name, used, state)| Optional { name, used, state })
        .collect())
}
