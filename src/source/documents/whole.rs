//! A JSON document held as a whole: one record, or records among which columns reach about.

use crate::cast::Refusal;
use crate::error::Result;
use crate::json::{Json, ParseError};
use crate::source::documents::{Standing, emit, position_in, unchanged};
use crate::source::{Content, Locator, Position, RawBytes, SourceFile, Visitor};

/// The bytes of a larger document are not held beside what they were parsed to.
const HELD_BYTES_MAX: usize = 1 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct WholeReader {
    bytes: Vec<u8>,
    /// Whether the bytes were let go once they were parsed.
    is_released: bool,
    root: Result<Json, ParseError>,
    records: Option<String>,
    next: u64,
}

impl WholeReader {
    /// Reads a document and refuses it if it is no longer the one that was found.
    pub(super) fn open(
        file: &SourceFile,
        records: Option<&str>,
        standing: Standing,
    ) -> Result<Self> {
        let mut bytes = unchanged(file)?;
        let root = crate::json::parse(&bytes);
        let is_released = records.is_none() && root.is_ok() && bytes.len() > HELD_BYTES_MAX;
        if is_released {
            bytes = Vec::new();
        }
        let records = records.map(str::to_owned);
        Ok(Self { bytes, is_released, root, records, next: standing.record })
    }

    /// Whether its one record was handed out.
    pub(super) fn is_exhausted(&self) -> bool {
        self.next > 0 && (self.records.is_none() || self.root.is_err())
    }

    pub(super) fn read(
        &mut self,
        file: &SourceFile,
        visit: &mut Visitor<'_>,
    ) -> Result<Option<Position>> {
        let bytes = self.bytes.as_slice();
        let root = match &self.root {
            Ok(root) => root,
            Err(error) => {
                let refusal = Refusal::new("invalid_json", error.to_string());
                return only(&mut self.next, file, Content::Broken { bytes, refusal }, visit);
            }
        };
        let Some(pointer) = &self.records else {
            let bytes =
                if self.is_released { RawBytes::OnDisk(file) } else { RawBytes::Held(bytes) };
            let content = Content::Json { element: root, root, bytes };
            return only(&mut self.next, file, content, visit);
        };
        let Some(elements) = root.records(pointer) else {
            let detail = format!("the document has no array at {pointer}");
            let refusal = Refusal::new("no_records", detail);
            return only(&mut self.next, file, Content::Broken { bytes, refusal }, visit);
        };
        while let Some(element) = usize::try_from(self.next).ok().and_then(|at| elements.get(at)) {
            let record = self.next;
            self.next += 1;
            let text = element.to_source_text();
            let content = Content::Json { element, root, bytes: RawBytes::Held(&text) };
            let position = position_in(file, record, None);
            let paused = emit(visit, file, Locator::Element(record), position, content)?;
            if paused.is_some() {
                return Ok(paused);
            }
        }
        Ok(None)
    }
}

/// Hands out the one record of a document.
fn only(
    next: &mut u64,
    file: &SourceFile,
    content: Content<'_>,
    visit: &mut Visitor<'_>,
) -> Result<Option<Position>> {
    if *next > 0 {
        return Ok(None);
    }
    *next = 1;
    emit(visit, file, Locator::Document, position_in(file, 0, None), content)
}
