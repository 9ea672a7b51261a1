//! The projection as one of the stores that a verification compares: the junction tables are right,
//! `graph_edge` has to follow.

use serde_json::Map;
use sqlx::{Connection as _, PgConnection, Row as _};

use super::reconcile::absent;
use crate::error::Result;
use crate::parity::{Against, Compared, Difference, Kind, StoreResult, UnitResult};

/// Compares every edge in both directions, in one snapshot; a slice per junction table. At most
/// `differences_max` edges are named.
///
/// # Errors
/// `Migration` where the pack's tables are not there.
pub async fn compare(connection: &mut PgConnection, differences_max: usize) -> Result<Compared> {
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    let mut transaction = connection.begin_with(begin).await?;
    let rows = sqlx::query(include_str!("../sql/graph/sides.sql"))
        .fetch_all(&mut *transaction)
        .await
        .map_err(absent)?;
    let units = rows.iter().map(unit).collect::<Result<Vec<_>>>()?;
    let mut differences = Vec::new();
    if units.iter().any(|unit| unit.differing() > 0) {
        let rows = sqlx::query(include_str!("../sql/graph/drifted.sql"))
            .bind(i64::try_from(differences_max).unwrap_or(i64::MAX))
            .fetch_all(&mut *transaction)
            .await?;
        differences = rows.iter().map(difference).collect::<Result<Vec<_>>>()?;
    }
    transaction.commit().await?;
    Ok(Compared {
        store: StoreResult {
            against: Against::Graph,
            place: "table graph_edge".to_owned(),
            on_the_way: 0,
            notes: vec!["every edge that the junction tables make, in both directions".to_owned()],
        },
        units,
        differences,
    })
}

/// Slice of the edges that a junction table makes; those that name none are nobody's.
fn slice(junction: &str) -> String {
    let junction = if junction.is_empty() { "none" } else { junction };
    format!("{}.{junction}", Against::Graph.name())
}

fn unit(row: &sqlx::postgres::PgRow) -> Result<UnitResult> {
    let count = |name: &str| row.try_get(name).map(i64::unsigned_abs);
    Ok(UnitResult {
        target: slice(row.try_get("junction")?),
        against: Against::Graph,
        source_rows: count("expected")?,
        target_rows: count("there")?,
        missing: count("missing")?,
        extra: count("extra")?,
        ..UnitResult::default()
    })
}

fn difference(row: &sqlx::postgres::PgRow) -> Result<Difference> {
    let is_extra: bool = row.try_get("is_extra")?;
    let mut key = Map::new();
    for (name, column) in
        [("from", "from_node"), ("type", "edge_type"), ("to", "to_node"), ("origin", "origin")]
    {
        key.insert(name.to_owned(), row.try_get::<String, _>(column)?.into());
    }
    let kind = if is_extra { Kind::Extra } else { Kind::Missing };
    let target = slice(row.try_get("junction")?);
    Ok(Difference::of_row(Against::Graph.name(), target, kind, key))
}
