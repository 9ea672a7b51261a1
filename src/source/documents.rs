//! JSON documents, JSON lines and CSV files.
//!
//! Lines, CSV records and the elements of an array of records are read one at a time, in memory
//! bounded by the largest of them. A document without `records`, and one whose columns reach from
//! an element into the array itself (`^` or `^/items/0` of the records at `/items`), is held as a
//! whole.
//!
//! A file's SHA-256 is checked before its first record is handed out, so that nothing of another
//! file is stored, and again over the very bytes that were parsed, before the end of the file is
//! reported: it may have been written to in between.

mod array;
mod csv;
mod lines;
mod outline;
mod whole;
mod window;

use std::collections::HashMap;

use crate::error::{Error, ErrorKind, Result};
use crate::source::discover::SourceFile;
use crate::source::{Content, Flow, Locator, Position, SourceRecord, Visitor};

/// What is in the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocumentKind {
    /// One JSON document a file, or an array of records at a pointer.
    Json {
        /// Pointer to the array.
        records: Option<String>,
        /// What columns ask of the document as a whole (`^/...`), as pointers into it.
        beside: Vec<String>,
    },
    /// One JSON record a line.
    Jsonl,
    /// CSV with a header line.
    Csv,
}

/// The records of a set of files.
#[derive(Debug)]
pub struct DocumentSource {
    files: Vec<SourceFile>,
    kind: DocumentKind,
    /// For each file whose bytes an earlier file has: that file.
    first_of: Vec<Option<usize>>,
    /// The file that a pause left open.
    paused: Option<Box<Paused>>,
}

#[derive(Debug)]
struct Paused {
    at: usize,
    after: Position,
    reader: Reader,
}

/// How a file is read.
#[derive(Debug)]
enum Reader {
    Whole(whole::WholeReader),
    Array(array::ArrayReader),
    Lines(lines::LineReader),
    Csv(csv::CsvReader),
}

/// Where to go on in a file.
#[derive(Debug, Clone, Copy, Default)]
struct Standing {
    /// The next record.
    record: u64,
    /// Where the one before it ends, if that is known.
    offset: Option<u64>,
}

impl DocumentSource {
    /// Files in reading order.
    #[must_use]
    pub fn new(files: Vec<SourceFile>, kind: DocumentKind) -> Self {
        // An archived copy is the copy, though `archive/` comes before its siblings by name.
        let depth = |at: usize| files[at].relative.matches('/').count();
        let mut seen: HashMap<&str, usize> = HashMap::new();
        for (at, file) in files.iter().enumerate() {
            let first = seen.entry(&file.sha256).or_insert(at);
            if depth(at) < depth(*first) {
                *first = at;
            }
        }
        let first_of = files
            .iter()
            .enumerate()
            .map(|(at, file)| {
                let first = seen[file.sha256.as_str()];
                // Empty files are each a failed write of their own, not copies of one another.
                (first != at && file.size_bytes > 0).then_some(first)
            })
            .collect();
        Self { files, kind, first_of, paused: None }
    }

    /// One name for the whole set.
    #[must_use]
    pub fn name(&self) -> &'static str {
        ""
    }

    /// Documents, or lines guessed from sizes.
    #[must_use]
    pub fn estimated_records(&self) -> u64 {
        self.files.len() as u64
    }

    /// Visits the records after `from` until the visitor pauses.
    pub fn read(
        &mut self,
        from: Option<&Position>,
        visit: &mut Visitor<'_>,
    ) -> Result<Option<Position>> {
        let (mut at, mut standing) = match from {
            None => (0, Standing::default()),
            Some(Position::Document { path, record, offset }) => {
                let at = self.files.partition_point(|file| file.relative < *path);
                let is_here = self.files.get(at).is_some_and(|file| file.relative == *path);
                let there = Standing { record: record + 1, offset: *offset };
                (at, if is_here { there } else { Standing::default() })
            }
            Some(_) => {
                return Err(Error::new(
                    ErrorKind::SourceChanged,
                    "this stream was not read from documents when the run started",
                )
                .advice("start over with --restart"));
            }
        };
        let mut left_open =
            self.paused.take().filter(|paused| paused.at == at && Some(&paused.after) == from);
        while at < self.files.len() {
            let reader = left_open.take().map(|paused| paused.reader);
            let paused = self.read_file(at, reader, standing, visit)?;
            if paused.is_some() {
                return Ok(paused);
            }
            (at, standing) = (at + 1, Standing::default());
        }
        Ok(None)
    }

    fn read_file(
        &mut self,
        at: usize,
        reader: Option<Reader>,
        standing: Standing,
        visit: &mut Visitor<'_>,
    ) -> Result<Option<Position>> {
        let file = &self.files[at];
        if let Some(first) = self.first_of[at] {
            if standing.record > 0 {
                return Ok(None);
            }
            let content =
                Content::Duplicate { of: &self.files[first].relative, sha256: &file.sha256 };
            return emit(visit, file, Locator::Document, position_in(file, 0, None), content);
        }
        let opened = match reader {
            Some(reader) => Some(reader),
            None => open(file, &self.kind, standing)?,
        };
        let Some(mut reader) = opened else { return Ok(None) };
        let after = match &mut reader {
            Reader::Whole(reader) => reader.read(file, visit)?,
            Reader::Array(reader) => reader.read(file, visit)?,
            Reader::Lines(reader) => reader.read(file, visit)?,
            Reader::Csv(reader) => reader.read(file, visit)?,
        };
        // What is left to read of it is kept open; a document that is done with must not stay in
        // memory beside the chunk that is made of it.
        if !matches!(&reader, Reader::Whole(whole) if whole.is_exhausted()) {
            self.paused = after.clone().map(|after| Box::new(Paused { at, after, reader }));
        }
        Ok(after)
    }
}

/// Opens a file at its next record; None if all of it was handed out.
fn open(file: &SourceFile, kind: &DocumentKind, standing: Standing) -> Result<Option<Reader>> {
    Ok(Some(match kind {
        DocumentKind::Json { records: None, .. } if standing.record > 0 => return Ok(None),
        DocumentKind::Json { records: None, .. } => {
            Reader::Whole(whole::WholeReader::open(file, None, standing)?)
        }
        DocumentKind::Json { records: Some(records), beside } => {
            let reaches_in = |pointer: &String| {
                let below = |outer: &str, inner: &str| {
                    inner.strip_prefix(outer).is_some_and(|t| t.is_empty() || t.starts_with('/'))
                };
                below(pointer, records) || below(records, pointer)
            };
            let outline = if beside.iter().any(reaches_in) {
                None
            } else {
                outline::outline(file, records, !beside.is_empty())?
            };
            match outline {
                Some(outline) => Reader::Array(array::ArrayReader::open(file, outline, standing)?),
                None => Reader::Whole(whole::WholeReader::open(file, Some(records), standing)?),
            }
        }
        DocumentKind::Jsonl => Reader::Lines(lines::LineReader::open(file, standing)?),
        DocumentKind::Csv => Reader::Csv(csv::CsvReader::open(file, standing)?),
    }))
}

/// Column names of a CSV file, as its reader sees them.
pub fn csv_header(file: &SourceFile) -> Result<Vec<String>> {
    csv::names(file)
}

/// The bytes of a document, if it still is the one that was found.
pub(super) fn unchanged(file: &SourceFile) -> Result<Vec<u8>> {
    let bytes = std::fs::read(&file.path).map_err(|error| {
        let detail = format!("{} cannot be read: {error}", file.path.display());
        Error::new(ErrorKind::SourceUnreadable, detail).advice("check the file's permissions")
    })?;
    if hex::encode(crate::canonical::sha256(&bytes)) == file.sha256 {
        return Ok(bytes);
    }
    Err(window::changed(&file.path))
}

fn emit(
    visit: &mut Visitor<'_>,
    file: &SourceFile,
    locator: Locator,
    position: Position,
    content: Content<'_>,
) -> Result<Option<Position>> {
    let record = SourceRecord { file, locator, position, content };
    Ok((visit(&record)? == Flow::Pause).then_some(record.position))
}

fn position_in(file: &SourceFile, record: u64, offset: Option<u64>) -> Position {
    Position::Document { path: file.relative.clone(), record, offset }
}
