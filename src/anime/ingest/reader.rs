//! A thread that reads an artifact entry by entry and hands out groups of them, read in the
//! target's terms. At most three groups are in memory.

use std::sync::Arc;

use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::JoinHandle;

use crate::anime::entry::{self, Entry, Read};
use crate::cast::redact::Redactor;
use crate::cast::{Note, Refusal};
use crate::derive::original_bytes;
use crate::error::{Error, ErrorKind, Result};
use crate::json::Json;
use crate::shell::shell_word;
use crate::source::documents::{DocumentKind, DocumentSource};
use crate::source::{Content, Flow, Locator, Position, SourceFile, SourceRecord};

/// When a group is full.
#[derive(Debug, Clone, Copy)]
pub(in crate::anime) struct GroupLimits {
    pub(in crate::anime) entries_max: usize,
    pub(in crate::anime) bytes_max: usize,
}

/// A record of an artifact.
#[derive(Debug)]
pub(in crate::anime) struct Item {
    pub(in crate::anime) locator: String,
    pub(in crate::anime) position: Position,
    /// As the artifact has it, without secrets.
    pub(in crate::anime) bytes: Vec<u8>,
    pub(in crate::anime) has_secret: bool,
    pub(in crate::anime) notes: Vec<Note>,
    pub(in crate::anime) content: ItemContent,
}

#[derive(Debug)]
pub(in crate::anime) enum ItemContent {
    Entry(Box<Entry>),
    Refused(Refusal),
}

/// Entries that follow each other.
#[derive(Debug, Default)]
pub(in crate::anime) struct Group {
    pub(in crate::anime) items: Vec<Item>,
    /// What the artifact says beside its entries, with the first group.
    pub(in crate::anime) header: Option<Json>,
}

/// How a file is read: by its name, and by its first byte.
pub(in crate::anime) fn kind_of(file: &SourceFile) -> Result<DocumentKind> {
    use std::io::Read as _;
    let lower = file.relative.to_ascii_lowercase();
    if [".jsonl", ".ndjson"].iter().any(|end| lower.ends_with(end)) {
        return Ok(DocumentKind::Jsonl);
    }
    let mut first = [0; 64];
    let mut opened = std::fs::File::open(&file.path)?;
    let count = opened.read(&mut first)?;
    let is_list = first[..count]
        .iter()
        .find(|byte| !byte.is_ascii_whitespace() && !b"\xef\xbb\xbf".contains(byte))
        == Some(&b'[');
    let records = if is_list { "" } else { "/data" };
    // The header comes along as long as it is small; asking for it would have an artifact that is cut
    // off read whole, and refused whole.
    Ok(DocumentKind::Json { records: Some(records.to_owned()), beside: Vec::new() })
}

/// How files begin that are no text at all, what they are, and what makes an artifact of them.
const FOREIGN: [(&[u8], &str, &str); 9] = [
    (b"\x1f\x8b", "is compressed by gzip", "unpack it: gunzip FILE"),
    (b"PK\x03\x04", "is a zip archive", "unpack it: unzip FILE"),
    (b"\x28\xb5\x2f\xfd", "is compressed by zstd", "unpack it: zstd -d FILE"),
    (b"BZh", "is compressed by bzip2", "unpack it: bunzip2 FILE"),
    (b"\xfd7zXZ\0", "is compressed by xz", "unpack it: unxz FILE"),
    (b"SQLite format 3\0", "is a SQLite database", "`toolkit copy FILE` reads those"),
    (b"\xff\xfe", "is UTF-16", "make UTF-8 of it: iconv -f UTF-16 -t UTF-8 FILE"),
    (b"\xfe\xff", "is UTF-16", "make UTF-8 of it: iconv -f UTF-16 -t UTF-8 FILE"),
    (b"<", "is HTML or XML", "look what it says: a download may have failed"),
];

/// Refuses what is not JSON in UTF-8 by its first bytes, before anything is begun.
pub(in crate::anime) fn refuse_foreign(file: &SourceFile) -> Result<()> {
    use std::io::Read as _;
    let mut head = Vec::new();
    let opened = std::fs::File::open(&file.path);
    opened?.take(64).read_to_end(&mut head)?;
    let found = FOREIGN.iter().find(|(beginning, _, _)| head.starts_with(beginning));
    let Some((_, what, advice)) = found else { return Ok(()) };
    let path = file.path.display().to_string();
    Err(Error::new(ErrorKind::SourceUnreadable, format!("{path} {what}, not JSON in UTF-8"))
        .advice(advice.replace("FILE", &shell_word(&path))))
}

/// Begins to read `file` after `from`.
pub(in crate::anime) fn start(
    file: SourceFile,
    from: Option<Position>,
    redactor: Arc<Redactor>,
    limits: GroupLimits,
) -> (Receiver<Group>, JoinHandle<Result<()>>) {
    let (sender, receiver) = channel(2);
    let thread = tokio::task::spawn_blocking(move || {
        let kind = kind_of(&file)?;
        let is_lines = kind == DocumentKind::Jsonl;
        let mut source = DocumentSource::new(vec![file], kind);
        let mut group = Group::default();
        let mut bytes = 0;
        let mut is_first = true;
        source.read(from.as_ref(), &mut |record| {
            if std::mem::take(&mut is_first)
                && let Content::Json { root, .. } = &record.content
                && !is_lines
            {
                group.header = header_of(root);
            }
            match item(record, is_lines, &redactor) {
                Made::Item(item) => {
                    bytes += item.bytes.len();
                    group.items.push(item);
                }
                Made::Header(header) => group.header = Some(header),
            }
            if group.items.len() >= limits.entries_max || bytes >= limits.bytes_max {
                bytes = 0;
                // Nobody listens any more: the run was stopped.
                if sender.blocking_send(std::mem::take(&mut group)).is_err() {
                    return Ok(Flow::Pause);
                }
            }
            Ok(Flow::Continue)
        })?;
        // The last one, even if empty: whoever gets it knows that the artifact was read to its end.
        let _ = sender.blocking_send(group);
        Ok(())
    });
    (receiver, thread)
}

enum Made {
    Item(Item),
    Header(Json),
}

fn item(record: &SourceRecord<'_>, is_lines: bool, redactor: &Redactor) -> Made {
    let mut notes = Vec::new();
    let content = match &record.content {
        Content::Json { element, .. } => {
            let is_first_line = is_lines && record.locator == Locator::Line(1);
            match entry::read(element, is_first_line, redactor, &mut notes) {
                Ok(Read::Header(header)) => return Made::Header(header),
                Ok(Read::Entry(entry)) => ItemContent::Entry(entry),
                Err(refusal) => ItemContent::Refused(refusal),
            }
        }
        Content::Broken { refusal, .. } => ItemContent::Refused(refusal.clone()),
        Content::Columns { .. } | Content::Duplicate { .. } => {
            ItemContent::Refused(Refusal::new("wrong_type", "an entry is a JSON object"))
        }
    };
    let (bytes, has_secret) = original_bytes(&record.content, redactor);
    Made::Item(Item {
        locator: record.locator.to_string(),
        position: record.position.clone(),
        bytes,
        has_secret,
        notes,
        content,
    })
}

/// What stands beside the entries.
fn header_of(root: &Json) -> Option<Json> {
    let members = root.members().iter().filter(|(key, _)| **key != *b"data").cloned();
    let members: Vec<_> = members.collect();
    (!members.is_empty()).then_some(Json::Object(members))
}
