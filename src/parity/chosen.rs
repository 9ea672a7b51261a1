//! Which stored verification a person means by a run id or by `latest`.

use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use crate::error::{Error, ErrorKind, Result};

/// The word for the newest verification that fits.
const LATEST: &str = "latest";

/// What a verification is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WantedFor {
    /// To be shown: any.
    Report,
    /// To be repaired: one that compared rows with the sources, and so names them.
    Repair,
}

/// A stored verification that was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenRun {
    /// Its id.
    pub run_id: String,
    /// Its pack.
    pub pack: String,
    /// Its level.
    pub level: String,
    /// When it ended, in UTC.
    pub finished_at: String,
    /// Rows that differed.
    pub differing_rows: u64,
    /// Whether it was asked for as `latest`.
    pub is_latest: bool,
}

impl ChosenRun {
    /// Which one `latest` took, for the person who said so; None where an id was given.
    #[must_use]
    pub fn told(&self) -> Option<String> {
        self.is_latest.then(|| {
            format!(
                "latest is verification {} of pack {}: level {}, ended {} UTC, differing rows: {}",
                self.run_id, self.pack, self.level, self.finished_at, self.differing_rows
            )
        })
    }
}

/// Finds a stored verification by id; `latest` is the newest one that fits, of `pack` if one is
/// named. What a certificate check left behind is found by its id alone.
///
/// Errors: there is none; `latest` without a pack where several packs have some.
pub async fn chosen_run(
    conn: &mut PgConnection,
    run: &str,
    pack: Option<&str>,
    wanted: WantedFor,
) -> Result<ChosenRun> {
    let is_there: bool = sqlx::query_scalar("SELECT to_regclass('toolkit.parity_run') IS NOT NULL")
        .fetch_one(&mut *conn)
        .await?;
    if !is_there {
        return Err(none(run, pack, wanted));
    }
    let rows = sqlx::query(include_str!("../sql/parity/chosen_run.sql"))
        .bind(run)
        .bind(pack)
        .bind(wanted == WantedFor::Repair)
        .fetch_all(conn)
        .await?;
    let Some(newest) = rows.first() else { return Err(none(run, pack, wanted)) };
    let mut packs =
        rows.iter().map(|row| row.try_get("pack")).collect::<Result<Vec<String>, _>>()?;
    packs.sort();
    packs.dedup();
    let is_latest = run == LATEST;
    if is_latest && packs.len() > 1 {
        let detail = format!("there are verifications of several packs: {}", packs.join(", "));
        return Err(Error::new(ErrorKind::Usage, detail)
            .advice("say whose latest one is meant with --pack, or give a run id"));
    }
    Ok(ChosenRun {
        run_id: newest.try_get("run_id")?,
        pack: newest.try_get("pack")?,
        level: newest.try_get("level")?,
        finished_at: newest.try_get("finished_at")?,
        differing_rows: newest.try_get::<i64, _>("differing_rows")?.unsigned_abs(),
        is_latest,
    })
}

fn none(run: &str, pack: Option<&str>, wanted: WantedFor) -> Error {
    let of_pack = pack.map(|pack| format!(" of pack {pack}")).unwrap_or_default();
    let detail = match (run, wanted) {
        (LATEST, WantedFor::Report) => format!("there is no stored verification{of_pack}"),
        (LATEST, WantedFor::Repair) => {
            format!("there is no stored verification{of_pack} that compared rows")
        }
        (run, _) => format!("there is no stored verification `{run}`{of_pack}"),
    };
    let advice = match wanted {
        WantedFor::Report => "`toolkit verify-parity` makes one, and prints its run id",
        WantedFor::Repair => {
            "`toolkit verify-parity` at level full (or sample) names rows, and prints its run id"
        }
    };
    Error::new(ErrorKind::Usage, detail).advice(advice)
}
