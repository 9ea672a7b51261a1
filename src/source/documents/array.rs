//! A JSON document's array of records, element by element.

use crate::cast::Refusal;
use crate::error::Result;
use crate::json::{Json, ParseError, Prefix, parse_prefix};
use crate::source::documents::outline::Outline;
use crate::source::documents::window::{RECORD_BYTES_MAX, Window};
use crate::source::documents::{Standing, emit, position_in};
use crate::source::{Content, Locator, Position, RawBytes, SourceFile, Visitor};

/// What has to come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// An element, or the end of an empty array.
    First,
    /// A comma or the end.
    Separator,
    /// An element.
    Element,
    /// Nothing.
    Nothing,
}

/// See the module.
#[derive(Debug)]
pub(super) struct ArrayReader {
    window: Window,
    beside: Json,
    fault: Option<String>,
    /// Position in the array of the element that is due.
    next: u64,
    /// Elements before this one were handed out already.
    from: u64,
    due: Due,
}

impl ArrayReader {
    pub(super) fn open(file: &SourceFile, outline: Outline, standing: Standing) -> Result<Self> {
        let Outline { array, beside, fault } = outline;
        let (offset, next, due) = match standing.offset {
            Some(offset) if offset > file.size_bytes => (offset, standing.record, Due::Nothing),
            Some(offset) => (offset, standing.record, Due::Separator),
            None => (array + 1, 0, Due::First),
        };
        let window = Window::open(file, offset)?;
        Ok(Self { window, beside, fault, next, from: standing.record, due })
    }

    pub(super) fn read(
        &mut self,
        file: &SourceFile,
        visit: &mut Visitor<'_>,
    ) -> Result<Option<Position>> {
        while self.due != Due::Nothing {
            self.window.skip_white_space()?;
            let first = self.window.peek()?;
            let paused = match (self.due, first) {
                (Due::First | Due::Separator, Some(b']')) => self.end(file, visit)?,
                (Due::Separator, Some(b',')) => {
                    self.window.consume(1);
                    self.due = Due::Element;
                    None
                }
                (Due::Separator, Some(_)) => {
                    self.lost(file, &self.at("expected a comma or ]"), visit)?
                }
                (_, None) => {
                    self.lost(file, &self.at("the document ends inside its array"), visit)?
                }
                (_, Some(_)) => self.element(file, visit)?,
            };
            if paused.is_some() {
                return Ok(paused);
            }
        }
        self.window.finish()?;
        Ok(None)
    }

    fn end(&mut self, file: &SourceFile, visit: &mut Visitor<'_>) -> Result<Option<Position>> {
        self.due = Due::Nothing;
        let Some(fault) = self.fault.take() else { return Ok(None) };
        let records = self.next;
        let detail =
            format!("after the array of records: {fault}; its {records} records were read");
        self.broken(file, detail, visit)
    }

    fn element(&mut self, file: &SourceFile, visit: &mut Visitor<'_>) -> Result<Option<Position>> {
        let (element, length) = loop {
            match parse_prefix(self.window.bytes(), self.window.is_last()) {
                Ok(Prefix::Value(element, length)) => break (element, length),
                Ok(Prefix::Incomplete) if self.window.bytes().len() > RECORD_BYTES_MAX => {
                    let what = format!("a record of more than {RECORD_BYTES_MAX} bytes");
                    return self.lost(file, &self.at(&what), visit);
                }
                Ok(Prefix::Incomplete) => {
                    self.window.more()?;
                }
                Err(fault) if fault.is_too_deep() => return self.too_deep(file, fault, visit),
                Err(fault) => {
                    let fault = self.window.place(fault).to_string();
                    return self.lost(file, &fault, visit);
                }
            }
        };
        let record = self.next;
        self.next += 1;
        self.due = Due::Separator;
        let mut paused = None;
        if record >= self.from {
            let bytes = &self.window.bytes()[..length];
            let offset = self.window.offset() + length as u64;
            let content = Content::Json {
                element: &element,
                root: &self.beside,
                bytes: RawBytes::Held(bytes),
            };
            let position = position_in(file, record, Some(offset));
            paused = emit(visit, file, Locator::Element(record), position, content)?;
        }
        self.window.consume(length);
        Ok(paused)
    }

    /// The record is refused alone: its brackets show where it ends.
    fn too_deep(
        &mut self,
        file: &SourceFile,
        fault: ParseError,
        visit: &mut Visitor<'_>,
    ) -> Result<Option<Position>> {
        let fault = self.window.place(fault).to_string();
        let Some(length) = self.extent()? else { return self.lost(file, &fault, visit) };
        let record = self.next;
        self.next += 1;
        self.due = Due::Separator;
        let mut paused = None;
        if record >= self.from {
            let bytes = &self.window.bytes()[..length];
            let content = Content::Broken { bytes, refusal: Refusal::new("too_deep", fault) };
            let offset = self.window.offset() + length as u64;
            let position = position_in(file, record, Some(offset));
            paused = emit(visit, file, Locator::Element(record), position, content)?;
        }
        self.window.consume(length);
        Ok(paused)
    }

    /// Bytes of the array or object at hand, by its brackets and quotes alone; None if the file ends
    /// before it does, or it is larger than a record may be.
    fn extent(&mut self) -> Result<Option<usize>> {
        let (mut at, mut depth) = (0, 0_u64);
        let (mut in_string, mut is_escaped) = (false, false);
        loop {
            for byte in &self.window.bytes()[at..] {
                at += 1;
                match byte {
                    _ if is_escaped => is_escaped = false,
                    b'\\' if in_string => is_escaped = true,
                    b'"' => in_string = !in_string,
                    _ if in_string => {}
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' if depth == 1 => return Ok(Some(at)),
                    b'}' | b']' => depth = depth.saturating_sub(1),
                    _ => {}
                }
            }
            if at > RECORD_BYTES_MAX || !self.window.more()? {
                return Ok(None);
            }
        }
    }

    fn at(&self, what: &str) -> String {
        let place = ParseError { offset: 0, line: 1, column: 1, message: what.to_owned() };
        self.window.place(place).to_string()
    }

    /// The array cannot be followed beyond this place: brackets and quotes after a fault may be
    /// anybody's, and what looks like a record may be a piece of a text.
    fn lost(
        &mut self,
        file: &SourceFile,
        fault: &str,
        visit: &mut Visitor<'_>,
    ) -> Result<Option<Position>> {
        self.due = Due::Nothing;
        let from = self.window.offset();
        let detail = format!(
            "{fault}; the {} records before it were read, the {} bytes from byte {from} to the end \
             of the file were not",
            self.next,
            file.size_bytes.saturating_sub(from)
        );
        self.broken(file, detail, visit)
    }

    fn broken(
        &mut self,
        file: &SourceFile,
        detail: String,
        visit: &mut Visitor<'_>,
    ) -> Result<Option<Position>> {
        if self.next < self.from {
            return Ok(None);
        }
        let refusal = Refusal::new("invalid_json", detail);
        let content = Content::Broken { bytes: self.window.kept(), refusal };
        // Beyond the end, where no element ends: an array may be cut off right after one.
        let position = position_in(file, self.next, Some(file.size_bytes + 1));
        emit(visit, file, Locator::Element(self.next), position, content)
    }
}
