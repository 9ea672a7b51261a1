//! Bugs planted in casts: only the second reading can find them where backfill had them too.

use std::collections::BTreeSet;

use crate::cast::{Bug, PgType};
use crate::error::Result;
use crate::parity::Kind;
use crate::parity::self_test::bench::Bench;
use crate::parity::self_test::report::CastResult;

/// Plants every bug in every cast that can have it, one at a time; then each bug in all casts at
/// once, in backfill as in verification.
pub(super) async fn run(bench: &mut Bench<'_>) -> Result<Vec<CastResult>> {
    let types = bench.types();
    let mut results = vec![without_bug(bench, &types).await?];
    for (name, ty) in &types {
        for bug in Bug::ALL.into_iter().filter(|bug| bug.fits(ty)) {
            let planted = [(name.as_str(), bug)];
            let report = bench.read_twice(&planted).await?;
            let columns: BTreeSet<&str> = report
                .differences
                .iter()
                .filter(|difference| difference.kind == Kind::Miscast)
                .filter_map(|difference| difference.column.as_deref())
                .collect();
            results.push(CastResult {
                bug: Some(format!("{bug:?}")),
                columns: vec![name.clone()],
                ty: ty.name(),
                backfilled: false,
                detail: wrong_columns(&planted, &columns),
            });
        }
    }
    for bug in Bug::ALL {
        results.push(in_backfill_too(bench, bug, &types).await?);
    }
    Ok(results)
}

fn wrong_columns(planted: &[(&str, Bug)], found: &BTreeSet<&str>) -> Option<String> {
    let planted: BTreeSet<&str> = planted.iter().map(|(name, _)| *name).collect();
    (planted != *found).then(|| format!("found in {found:?}"))
}

/// Right casts: every column is read a second way, and no value differs.
async fn without_bug(bench: &mut Bench<'_>, types: &[(String, PgType)]) -> Result<CastResult> {
    let report = bench.read_twice(&[]).await?;
    let mut wrong: Vec<String> = report
        .independent
        .iter()
        .filter(|column| !column.has_second_way || column.unread > 0 || column.differing > 0)
        .map(|column| {
            let (unread, differing) = (column.unread, column.differing);
            format!("{}: {unread} unread, {differing} differ", column.column)
        })
        .collect();
    for (name, _) in types {
        let checked = report.independent.iter().find(|column| column.column == *name);
        if checked.is_none_or(|column| column.checked == 0) {
            wrong.push(format!("{name}: not read a second way"));
        }
    }
    Ok(CastResult {
        bug: None,
        columns: types.iter().map(|(name, _)| name.clone()).collect(),
        ty: "every type".to_owned(),
        backfilled: true,
        detail: (!wrong.is_empty()).then(|| wrong.join("; ")),
    })
}

/// Whether the store takes what a cast with this bug writes, and as it is: of a numeric it cuts
/// digits beyond the scale.
fn is_storable(bug: Bug, ty: &PgType) -> bool {
    let refused = matches!(
        ty,
        PgType::Json
            | PgType::Jsonb
            | PgType::Numeric(_)
            | PgType::Enum { .. }
            | PgType::Ltree
            | PgType::Other(_)
            | PgType::Array(_)
    );
    bug.fits(ty) && !refused
}

/// The same wrong casts wrote the target, so that both sides agree.
async fn in_backfill_too(
    bench: &mut Bench<'_>,
    bug: Bug,
    types: &[(String, PgType)],
) -> Result<CastResult> {
    let wrong: Vec<&(String, PgType)> =
        types.iter().filter(|(_, ty)| is_storable(bug, ty)).collect();
    let planted: Vec<(&str, Bug)> = wrong.iter().map(|(name, _)| (name.as_str(), bug)).collect();
    bench.clear().await?;
    bench.backfill(&planted).await?;
    let report = bench.read_twice(&planted).await?;
    let columns: BTreeSet<&str> =
        report.differences.iter().filter_map(|difference| difference.column.as_deref()).collect();
    let rows: u64 = report.units.iter().map(crate::parity::UnitResult::differing).sum();
    let detail = wrong_columns(&planted, &columns);
    let detail = detail.or_else(|| (rows > 0).then(|| format!("{rows} rows differ")));
    Ok(CastResult {
        bug: Some(format!("{bug:?}")),
        columns: wrong.iter().map(|(name, _)| name.clone()).collect(),
        ty: "all that can store it".to_owned(),
        backfilled: true,
        detail,
    })
}
