//! Which rows changed in Postgres and were not written back yet, by the digests that
//! verifications know rows by.

use sqlx::postgres::PgConnection;

use super::triggers::targets;
use crate::canonical::digest_expression;
use crate::error::Result;
use crate::pack::plan::{PackPlan, Unit};
use crate::parity::KeysBySlice;
use crate::store::sql;

/// Those of `keys` whose rows have changes in the log, in the snapshot that `conn` reads.
///
/// In one snapshot with the rows themselves this is exact: a file is committed before its changes
/// leave the log, so that a row without a change in it is in the file as the snapshot has it, or
/// newer.
pub async fn waiting(
    conn: &mut PgConnection,
    plan: &PackPlan,
    keys: &KeysBySlice,
) -> Result<KeysBySlice> {
    let targets = targets(plan);
    let mut found = KeysBySlice::new();
    for (slice, digests) in keys.iter().filter(|(_, digests)| !digests.is_empty()) {
        let Some(unit) = plan.units.get(*slice) else { continue };
        let name = unit.table.display_name();
        let Some(target) = targets.iter().find(|target| target.name() == name) else { continue };
        let Some(statement) = statement(plan, unit, &target.key) else { continue };
        let digests: Vec<&[u8]> = digests.iter().map(<[u8; 16]>::as_slice).collect();
        let of_slice: Vec<Vec<u8>> = sqlx::query_scalar(sql(statement))
            .bind(&plan.name)
            .bind(&name)
            .bind(digests)
            .fetch_all(&mut *conn)
            .await?;
        let of_slice = of_slice.into_iter().filter_map(|digest| digest.try_into().ok());
        found.insert(*slice, of_slice.collect());
    }
    Ok(found)
}

/// Digests of the keys in the log that are among `$3`; None where the log's keys do not hold every
/// column of the slice's key.
fn statement(plan: &PackPlan, unit: &Unit, logged: &[String]) -> Option<String> {
    let (stream, output) = *unit.feeds.first()?;
    let output = &plan.streams[stream].outputs[output];
    let mut fields = Vec::new();
    for position in &output.key {
        let column = &output.columns[*position];
        let at = logged.iter().position(|name| *name == column.name)? + 1;
        let declared = output
            .catalog_column(*position)
            .map_or_else(|| "text".to_owned(), |found| found.declared_type.clone());
        fields.push((column.cast.ty(), format!("(k.key[{at}]::{declared})")));
    }
    let digest = digest_expression(&fields);
    Some(format!(
        "WITH k AS MATERIALIZED ( \
             SELECT old_key AS key FROM toolkit.reverse_log \
             WHERE pack = $1 AND target = $2 AND old_key IS NOT NULL \
             UNION SELECT new_key FROM toolkit.reverse_log \
             WHERE pack = $1 AND target = $2 AND new_key IS NOT NULL), \
         d AS (SELECT substr({digest}, 1, 16) AS digest FROM k) \
         SELECT digest FROM d WHERE digest IN (SELECT unnest($3::bytea[]))"
    ))
}
