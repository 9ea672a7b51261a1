//! Deleting applied entries from a log, without standing in the application's way. Blocking.

use std::path::Path;
use std::time::Duration;

use crate::capture::LOG_TABLE;
use crate::capture::log::{LogPosition, failed, open_for_writing};
use crate::error::Result;

/// Entries deleted in one transaction: well below a millisecond of an application's waiting.
const ENTRIES_AT_ONCE: i64 = 500;

/// Transactions at a time; the rest waits for the next time.
const ROUNDS_MAX: usize = 40;

/// How long a writing application is waited for before it is left alone.
const PATIENCE: Duration = Duration::from_millis(20);

/// Deletes entries before `position`. That one stays: its number must not be given out again, and
/// it tells this history from another.
pub(super) fn trim(path: &Path, position: LogPosition) -> Result<usize> {
    let file = path.display().to_string();
    let connection = open_for_writing(path, PATIENCE)?;
    let mut deleted = 0;
    for _ in 0..ROUNDS_MAX {
        let rows = connection
            .execute(
                &format!(
                    "DELETE FROM {LOG_TABLE} WHERE seq < ?1 AND seq IN \
                     (SELECT seq FROM {LOG_TABLE} WHERE seq < ?1 ORDER BY seq LIMIT ?2)"
                ),
                [position, ENTRIES_AT_ONCE],
            )
            .map_err(|error| failed(&file, error))?;
        deleted += rows;
        if rows == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(deleted)
}
