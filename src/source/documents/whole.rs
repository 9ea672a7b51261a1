//! A JSON document held as a whole: one record, or records among which columns reach about.

use crate::cast::Refusal;
use crate::error::{Error, ErrorKind, Result};
use crate::json::{Json, ParseError};
use crate::source::documents::window::changed;
use crate::source::documents::{Standing, emit, position_in};
use crate::source::{Content, Locator, Position, SourceFile, Visitor};

/// See the module.
#[derive(Debug)]
pub(super) struct WholeReader {
    bytes: Vec<u8>,
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
        let bytes = std::fs::read(&file.path).map_err(|error| {
            let detail = format!("{} cannot be read: {error}", file.path.display());
            Error::new(ErrorKind::SourceUnreadable, detail).advice("check the file's permissions")
        })?;
        if hex::encode(crate::canonical::sha256(&bytes)) != file.sha256 {
            return Err(changed(&file.path));
        }
        let root = crate::json::parse(&bytes);
        Ok(Self { bytes, root, records: records.map(str::to_owned), next: standing.record })
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
            let content = Content::Json { element: root, root, bytes };
            return only(&mut self.next, file, content, visit);
        };
        let Some(Json::Array(elements)) = root.pointer(pointer) else {
            let detail = format!("the document has no array at {pointer}");
            let refusal = Refusal::new("no_records", detail);
            return only(&mut self.next, file, Content::Broken { bytes, refusal }, visit);
        };
        while let Some(element) = usize::try_from(self.next).ok().and_then(|at| elements.get(at)) {
            let record = self.next;
            self.next += 1;
            let text = element.to_source_text();
            let content = Content::Json { element, root, bytes: &text };
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
