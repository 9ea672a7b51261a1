//! Whether an unfinished run may be resumed: only over the inputs it was started with.

use serde_json::json;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use crate::backfill::Options;
use crate::backfill::snapshot::has_snapshot;
use crate::error::{Error, ErrorKind, Result};
use crate::pack::OpenedPack;
use crate::source::discover::Input;

/// What is left of an earlier run.
pub(super) enum Unfinished {
    None,
    Resume(String),
    Differs(Error),
}

/// The newest unfinished run of the pack that committed anything, if it may be resumed.
pub(super) async fn resumable(
    conn: &mut PgConnection,
    opened: &OpenedPack,
    options: &Options,
) -> Result<Unfinished> {
    let row = sqlx::query(include_str!("../sql/backfill/unfinished_run.sql"))
        .bind(&opened.plan.name)
        .fetch_optional(conn)
        .await?;
    let Some(row) = row else { return Ok(Unfinished::None) };
    let (run_id, differences) = compare(&row, opened, options)?;
    if differences.is_empty() {
        return Ok(Unfinished::Resume(run_id));
    }
    Ok(Unfinished::Differs(
        Error::new(
            ErrorKind::RunMismatch,
            format!(
                "run {run_id} is unfinished and was started with other inputs: {}",
                differences.join("; ")
            ),
        )
        .advice(
            "give it back what it started with, or start over with --restart: what it stored \
             stays, and is found unchanged or updated; a source that moves is read from a copy \
             with --snapshot",
        ),
    ))
}

/// The newest run of the pack, while somebody works on it: its id if it may be joined, an error
/// if it was started otherwise, None if it has just ended.
pub(super) async fn joinable(
    conn: &mut PgConnection,
    opened: &OpenedPack,
    options: &Options,
) -> Result<Option<String>> {
    let pack = &opened.plan.name;
    let row = sqlx::query(include_str!("../sql/backfill/running_run.sql"))
        .bind(pack)
        .fetch_optional(conn)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let (run_id, differences) = compare(&row, opened, options)?;
    if differences.is_empty() {
        return Ok(Some(run_id));
    }
    Err(Error::new(
        ErrorKind::Busy,
        format!(
            "another backfill of the pack {pack} is running, with other inputs or settings: {}",
            differences.join("; ")
        ),
    )
    .advice("wait for it; after a crash its lock goes within moments"))
}

/// A stored run's id, and how what it was started with differs from what is given now.
fn compare(
    row: &sqlx::postgres::PgRow,
    opened: &OpenedPack,
    options: &Options,
) -> Result<(String, Vec<String>)> {
    let run_id: String = row.try_get("run_id")?;
    let stored: serde_json::Value =
        serde_json::from_str(&row.try_get::<String, _>("settings")?).unwrap_or_default();
    let inputs: Vec<Input> =
        serde_json::from_str(&row.try_get::<String, _>("inputs")?).unwrap_or_default();
    let mut differences = Vec::new();
    if has_snapshot(&inputs) && options.snapshot.is_none() {
        differences.push(
            "it was started with --snapshot: give --snapshot again, so that it goes on reading \
             its copy"
                .to_owned(),
        );
        return Ok((run_id, differences));
    }
    let now = settings_json(opened, options);
    for name in
        ["pack_version", "pack_fingerprint", "streams", "encoding_version", "inferred_units"]
    {
        // Runs of earlier versions have inferred nothing and do not say so.
        let is_unsaid = stored[name].is_null() && now[name] == json!([]);
        if stored[name] != now[name] && !is_unsaid {
            differences.push(format!("{name} was {}, is {}", stored[name], now[name]));
        }
    }
    for input in &opened.discovered.inputs {
        let before =
            inputs.iter().find(|old| old.stream == input.stream && old.source == input.source);
        match before {
            Some(before) if before.token == input.token => {}
            Some(_) => {
                differences.push(format!("{} of stream {} changed", show(input), input.stream));
            }
            None => differences.push(format!("{} of stream {} is new", show(input), input.stream)),
        }
    }
    Ok((run_id, differences))
}

/// Name of an input, for people.
pub(super) fn show(input: &Input) -> &str {
    if input.source.is_empty() { "the set of documents" } else { &input.source }
}

/// The settings a run must be resumed with.
pub(super) fn settings_json(opened: &OpenedPack, options: &Options) -> serde_json::Value {
    json!({
        "pack_version": opened.plan.version,
        "pack_fingerprint": opened.plan.fingerprint,
        "streams": options.streams,
        "encoding_version": crate::canonical::ENCODING_VERSION,
        "inferred_units": opened.units,
        // Not compared: it only says that the run's pace is none to go by.
        "throttle": options.manners.throttle.map(|rate| rate.to_string()),
    })
}
