//! A captured file, open, and what of it is followed.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use crate::capture::log::{self, CaptureState, LogPosition, failed};
use crate::capture::record::{CapturedTable, Cursor};
use crate::capture::shape::Identity;
use crate::capture::{LOG_TABLE, keys};
use crate::error::{Error, ErrorKind, Result};
use crate::pack::OpenedPack;
use crate::source::SourceFile;
use crate::source::sqlite::{Database, TableShape};

/// A captured file, open.
#[derive(Debug)]
pub(super) struct LiveFile {
    pub(super) source: SourceFile,
    pub(super) database: Database,
    inode: u64,
    pub(super) streams: Vec<LiveStream>,
    /// The schema's number when it was last compared.
    schema_version: Option<i64>,
}

/// A stream in one file.
#[derive(Debug)]
pub(super) struct LiveStream {
    pub(super) stream: usize,
    pub(super) shape: TableShape,
    /// Number of its table, its identity, and what the log keeps of it.
    pub(super) captured: CapturedTable,
    /// Names under which the pack knows the logged values.
    pub(super) names: Arc<[String]>,
    /// Positions in the logged values of the columns that keys are made of.
    pub(super) key: Vec<usize>,
    /// Whether rows have to be looked for by their key, too: the identity may change (VACUUM), or
    /// several rows may share a key.
    pub(super) by_key: bool,
}

impl LiveFile {
    /// Opens a file that capture is installed in.
    pub(super) fn open(
        opened: &OpenedPack,
        file: &SourceFile,
        tables: &[CapturedTable],
    ) -> Result<Self> {
        let database = Database::open_live(&file.path)?;
        let files = opened.discovered.streams.iter().filter(|(_, found)| found.files.len() > 1);
        let shared: HashSet<&str> = files.map(|(name, _)| name.as_str()).collect();
        let mut streams = Vec::new();
        for (index, stream) in opened.plan.streams.iter().enumerate() {
            let Some(found) = opened.discovered.streams.get(&stream.name) else { continue };
            let Some(table) = keys::table_of(stream) else { continue };
            if !found.files.iter().any(|known| known.path == file.path) {
                continue;
            }
            let captured = tables.iter().find(|known| known.table.eq_ignore_ascii_case(table));
            let Some(captured) = captured else {
                let detail = format!("{}: table {table} is not captured", file.relative);
                return Err(Error::new(ErrorKind::SourceChanged, detail)
                    .advice("the pack has changed: run `toolkit dual-write enable` again"));
            };
            let companion =
                stream.companion.clone().map(|pattern| (pattern, found.companions.clone()));
            let shape = TableShape::of(&database, file, table, companion)?;
            let wanted = keys::key_columns(stream)?;
            let (names, key) = logged(captured, &wanted);
            let is_shared = shared.contains(stream.name.as_str());
            let by_key = is_shared || !is_known_by_identity(captured, &key);
            streams.push(LiveStream {
                stream: index,
                shape,
                captured: captured.clone(),
                names: names.into(),
                key,
                by_key,
            });
        }
        let inode = inode(&file.path);
        Ok(Self { source: file.clone(), database, inode, streams, schema_version: None })
    }

    /// Whether the path leads to another file by now.
    pub(super) fn was_replaced(&self) -> bool {
        inode(&self.source.path) != self.inode
    }

    /// Whether rows of one key may stand in both: what a change in one of them makes of a row may
    /// depend on the other.
    pub(super) fn shares_stream(&self, other: &Self) -> bool {
        self.streams.iter().any(|one| other.streams.iter().any(|two| one.stream == two.stream))
    }

    pub(super) fn set_companions(&mut self, stream: usize, files: &BTreeMap<String, PathBuf>) {
        for live in self.streams.iter_mut().filter(|live| live.stream == stream) {
            live.shape.set_companions(files.clone());
        }
    }

    pub(super) fn name(&self) -> String {
        self.source.path.display().to_string()
    }

    /// Why nothing of this file may be applied; None: nothing stands against it.
    pub(super) fn halt(&mut self, pack: &str, cursor: &Cursor) -> Result<Option<String>> {
        let (file, connection) = (self.name(), self.database.connection());
        let Some(CaptureState { installation, pack: owner, .. }) =
            log::state_in(connection, &file)?
        else {
            return Ok(Some("capture was taken out of the file".to_owned()));
        };
        if installation != cursor.installation || owner != pack {
            return Ok(Some(format!(
                "the file's capture is another one ({installation}, not {})",
                cursor.installation
            )));
        }
        let version: i64 = connection
            .query_row("PRAGMA schema_version", [], |row| row.get(0))
            .map_err(|e| failed(&file, e))?;
        if self.schema_version == Some(version) {
            return Ok(None);
        }
        if !log::has_table(connection, &file, LOG_TABLE)? {
            return Ok(Some("the capture log vanished".to_owned()));
        }
        for table in &cursor.tables {
            if let Some(difference) = table.difference(connection, &file)? {
                return Ok(Some(difference));
            }
        }
        self.schema_version = Some(version);
        Ok(None)
    }

    /// Whether the entry at the cursor is the one that was applied: an older copy of the file has
    /// another history.
    pub(super) fn restored(&self, cursor: &Cursor, last: LogPosition) -> Result<Option<String>> {
        if cursor.position == 0 {
            return Ok(None);
        }
        let file = self.name();
        let mark: Option<f64> =
            rusqlite::OptionalExtension::optional(self.database.connection().query_row(
                &format!("SELECT at FROM {LOG_TABLE} WHERE seq = ?1"),
                [cursor.position],
                |row| row.get(0),
            ))
            .map_err(|e| failed(&file, e))?;
        let is_same = mark.map(mark_text) == cursor.mark;
        if last >= cursor.position && (is_same || cursor.mark.is_none()) {
            return Ok(None);
        }
        Ok(Some(format!(
            "the file was replaced by an older copy: its log ends at {last}, changes up to {} are \
             applied",
            cursor.position
        )))
    }
}

fn inode(path: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).map_or(0, |found| found.ino())
}

pub(super) fn mark_text(at: f64) -> String {
    format!("{:016x}", at.to_bits())
}

/// Names under which the pack knows the logged values, and which of them keys are made of.
fn logged(captured: &CapturedTable, wanted: &[String]) -> (Vec<String>, Vec<usize>) {
    let mut names = captured.values.clone();
    if let Identity::Rowid { column: Some(column), .. } = &captured.identity {
        names[0].clone_from(column);
    }
    let is_wanted = |name: &String| wanted.iter().any(|key| key.eq_ignore_ascii_case(name));
    let key = (0..names.len()).filter(|at| is_wanted(&names[*at])).collect();
    (names, key)
}

/// Whether a key is made of just what a row is known by, so that no other row can have it, and a
/// row keeps its identity for as long as it keeps its key.
fn is_known_by_identity(captured: &CapturedTable, key: &[usize]) -> bool {
    let count = match &captured.identity {
        Identity::Rowid { column: None, .. } => return false,
        Identity::Rowid { .. } => 1,
        Identity::Key { columns } => columns.len(),
    };
    (0..count).all(|at| key.contains(&at))
}
