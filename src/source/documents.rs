//! JSON documents, JSON lines and CSV files.

use std::collections::HashMap;

use crate::cast::{Refusal, Value};
use crate::error::{Error, ErrorKind, Result};
use crate::json::Json;
use crate::source::discover::SourceFile;
use crate::source::{Content, Flow, Locator, Position, SourceRecord, Visitor};

/// What is in the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocumentKind {
    /// One JSON document a file, or an array of records at a pointer.
    Json {
        /// Pointer to the array.
        records: Option<String>,
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
        Self { files, kind, first_of }
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
        let (start, mut already) = match from {
            None => (0, 0),
            Some(Position::Document { path, record }) => {
                let at = self.files.partition_point(|file| file.relative < *path);
                (at, record + 1)
            }
            Some(_) => {
                return Err(Error::new(
                    ErrorKind::SourceChanged,
                    "this stream was not read from documents when the run started",
                )
                .advice("start over with --restart"));
            }
        };
        for at in start..self.files.len() {
            let is_resumed = matches!(from, Some(Position::Document { path, .. })
                if *path == self.files[at].relative);
            if !is_resumed {
                already = 0;
            }
            if let Some(position) = self.read_file(at, already, visit)? {
                return Ok(Some(position));
            }
        }
        Ok(None)
    }

    fn read_file(
        &self,
        at: usize,
        already: u64,
        visit: &mut Visitor<'_>,
    ) -> Result<Option<Position>> {
        let file = &self.files[at];
        let position = |record: u64| Position::Document { path: file.relative.clone(), record };
        if let Some(first) = self.first_of[at] {
            if already > 0 {
                return Ok(None);
            }
            let content =
                Content::Duplicate { of: &self.files[first].relative, sha256: &file.sha256 };
            return emit(visit, file, Locator::Document, position(0), content);
        }
        let bytes = read_unchanged(file)?;
        match &self.kind {
            DocumentKind::Json { records } => {
                json_file(file, &bytes, records.as_deref(), already, visit)
            }
            DocumentKind::Jsonl => json_lines(file, &bytes, already, visit),
            DocumentKind::Csv => csv_file(file, &bytes, already, visit),
        }
    }
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

fn position_in(file: &SourceFile, record: u64) -> Position {
    Position::Document { path: file.relative.clone(), record }
}

fn json_file(
    file: &SourceFile,
    bytes: &[u8],
    records: Option<&str>,
    already: u64,
    visit: &mut Visitor<'_>,
) -> Result<Option<Position>> {
    let root = match crate::json::parse(bytes) {
        Ok(root) => root,
        Err(error) => {
            if already > 0 {
                return Ok(None);
            }
            let refusal = Refusal::new("invalid_json", error.to_string());
            let content = Content::Broken { bytes, refusal };
            return emit(visit, file, Locator::Document, position_in(file, 0), content);
        }
    };
    let Some(pointer) = records else {
        if already > 0 {
            return Ok(None);
        }
        let content = Content::Json { element: &root, root: &root, bytes };
        return emit(visit, file, Locator::Document, position_in(file, 0), content);
    };
    let Some(Json::Array(elements)) = root.pointer(pointer) else {
        let refusal = Refusal::new("no_records", format!("the document has no array at {pointer}"));
        let content = Content::Broken { bytes, refusal };
        return emit(visit, file, Locator::Document, position_in(file, 0), content);
    };
    for (index, element) in elements.iter().enumerate() {
        let index = index as u64;
        if index < already {
            continue;
        }
        let content = Content::Json { element, root: &root, bytes };
        let stop = emit(visit, file, Locator::Element(index), position_in(file, index), content)?;
        if stop.is_some() {
            return Ok(stop);
        }
    }
    Ok(None)
}

fn json_lines(
    file: &SourceFile,
    bytes: &[u8],
    already: u64,
    visit: &mut Visitor<'_>,
) -> Result<Option<Position>> {
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let index = index as u64;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if index < already || line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let parsed = crate::json::parse(line);
        let content = match &parsed {
            Ok(root) => Content::Json { element: root, root, bytes: line },
            Err(error) => Content::Broken {
                bytes: line,
                refusal: Refusal::new("invalid_json", error.to_string()),
            },
        };
        let locator = Locator::Line(index + 1);
        let stop = emit(visit, file, locator, position_in(file, index), content)?;
        if stop.is_some() {
            return Ok(stop);
        }
    }
    Ok(None)
}

fn csv_file(
    file: &SourceFile,
    bytes: &[u8],
    already: u64,
    visit: &mut Visitor<'_>,
) -> Result<Option<Position>> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(bytes);
    let broken = |error: csv::Error| {
        Error::new(ErrorKind::SourceUnreadable, format!("{}: {error}", file.path.display()))
    };
    let header = reader.byte_headers().map_err(broken)?.clone();
    let names: Vec<String> =
        header.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    let mut record = csv::ByteRecord::new();
    let mut index = 0_u64;
    while reader.read_byte_record(&mut record).map_err(broken)? {
        index += 1;
        if index <= already {
            continue;
        }
        let line = record.position().map_or(0, csv::Position::line);
        let values: Vec<Value<'_>> = record.iter().map(Value::Text).collect();
        // The line as it stands in the file: the fields alone have lost what separated them.
        let start = record.position().map_or(0, csv::Position::byte);
        let raw = piece(bytes, start, reader.position().byte());
        let content = if values.len() == names.len() {
            Content::Columns { names: &names, values: &values, companion: None }
        } else {
            let detail = format!("{} fields where the header has {}", values.len(), names.len());
            Content::Broken { bytes: raw, refusal: Refusal::new("wrong_field_count", detail) }
        };
        let locator = Locator::Line(line);
        let stop = emit(visit, file, locator, position_in(file, index - 1), content)?;
        if stop.is_some() {
            return Ok(stop);
        }
    }
    Ok(None)
}

fn piece(bytes: &[u8], start: u64, end: u64) -> &[u8] {
    let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    // The reader stops between the two bytes of a CRLF.
    let is_break = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let piece = &bytes[at(start)..at(end)];
    let first = piece.iter().position(|byte| !is_break(byte)).unwrap_or(piece.len());
    let last = piece.iter().rposition(|byte| !is_break(byte)).map_or(first, |last| last + 1);
    &piece[first..last]
}

/// Reads a document and refuses it if it is no longer the one that was found.
fn read_unchanged(file: &SourceFile) -> Result<Vec<u8>> {
    let bytes = std::fs::read(&file.path).map_err(|error| {
        let detail = format!("{} cannot be read: {error}", file.path.display());
        Error::new(ErrorKind::SourceUnreadable, detail)
    })?;
    if hex::encode(crate::canonical::sha256(&bytes)) == file.sha256 {
        return Ok(bytes);
    }
    Err(Error::new(
        ErrorKind::SourceChanged,
        format!("{} changed while the run was reading it", file.path.display()),
    )
    .advice(
        "stop its writer, or use dual-write; then start over with --restart, which finds what was \
         stored so far unchanged",
    ))
}
