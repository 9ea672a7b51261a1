//! CSV with a header line, one record at a time.
//!
//! Records and fields are told apart as the crate `csv` does (RFC 4180, forgiving), but for two
//! things: a record's bytes are known exactly, and a quote that is never closed is named instead of
//! making one field of the rest of the file.

use std::sync::Arc;

use crate::cast::{Refusal, Value};
use crate::error::{Error, ErrorKind, Result};
use crate::source::documents::window::{RECORD_BYTES_MAX, Window, verify};
use crate::source::documents::{Standing, emit, position_in};
use crate::source::{Content, Locator, Position, SourceFile, Visitor};

/// See the module.
#[derive(Debug)]
pub(super) struct CsvReader {
    window: Window,
    names: Arc<[String]>,
    fields: Fields,
    /// Position of the record that is due, from 0.
    next: u64,
    /// Records before this one were handed out already.
    from: u64,
}

impl CsvReader {
    pub(super) fn open(file: &SourceFile, standing: Standing) -> Result<Self> {
        verify(file)?;
        let mut fields = Fields::default();
        let (names, mut window) = header(file, &mut fields)?;
        let mut next = 0;
        if let Some(offset) = standing.offset {
            window = Window::open(file, offset)?;
            next = standing.record;
        }
        let names = names.into();
        Ok(Self { window, names, fields, next, from: standing.record })
    }

    pub(super) fn read(
        &mut self,
        file: &SourceFile,
        visit: &mut Visitor<'_>,
    ) -> Result<Option<Position>> {
        loop {
            let scanned = scan(&mut self.window, &mut self.fields)?;
            let paused = match scanned {
                Scanned::End => break,
                Scanned::Record { length } => self.record(file, length, visit)?,
                Scanned::Unclosed { quote } => return self.unclosed(file, quote, visit),
            };
            if paused.is_some() {
                return Ok(paused);
            }
        }
        self.window.finish()?;
        Ok(None)
    }

    fn record(
        &mut self,
        file: &SourceFile,
        length: usize,
        visit: &mut Visitor<'_>,
    ) -> Result<Option<Position>> {
        let number = self.next;
        self.next += 1;
        let mut paused = None;
        if number >= self.from {
            let bytes = &self.window.bytes()[..length];
            let values: Vec<Value<'_>> = self.fields.iter().map(Value::Text).collect();
            let content = if values.len() == self.names.len() {
                Content::Columns { names: &self.names, values: &values, companion: None }
            } else {
                let (found, wanted) = (values.len(), self.names.len());
                let detail = format!("{found} fields where the header has {wanted}");
                Content::Broken { bytes, refusal: Refusal::new("wrong_field_count", detail) }
            };
            let offset = self.window.offset() + length as u64;
            let position = position_in(file, number, Some(offset));
            let locator = Locator::Line(self.window.line());
            paused = emit(visit, file, locator, position, content)?;
        }
        self.window.consume(length);
        Ok(paused)
    }

    /// Nobody can tell where the field should have ended: what follows is lost.
    fn unclosed(
        &mut self,
        file: &SourceFile,
        quote: u64,
        visit: &mut Visitor<'_>,
    ) -> Result<Option<Position>> {
        let (line, start) = (self.window.line(), self.window.offset());
        let kept = self.window.kept().to_vec();
        self.window.finish()?;
        if self.next < self.from {
            return Ok(None);
        }
        let detail = format!(
            "the quote at byte {quote} is not closed within {RECORD_BYTES_MAX} bytes or before the \
             end of the file; the {} records before it were read, the {} bytes from byte {start} \
             to the end were not",
            self.next,
            file.size_bytes.saturating_sub(start)
        );
        let content =
            Content::Broken { bytes: &kept, refusal: Refusal::new("unclosed_quote", detail) };
        let position = position_in(file, self.next, Some(file.size_bytes));
        emit(visit, file, Locator::Line(line), position, content)
    }
}

/// Column names of a CSV file; none of an empty one.
pub(super) fn names(file: &SourceFile) -> Result<Vec<String>> {
    Ok(header(file, &mut Fields::default())?.0)
}

/// Reads the header; the window stands after it.
fn header(file: &SourceFile, fields: &mut Fields) -> Result<(Vec<String>, Window)> {
    let mut window = Window::open(file, 0)?;
    window.skip_mark()?;
    match scan(&mut window, fields)? {
        Scanned::End => Ok((Vec::new(), window)),
        Scanned::Record { length } => {
            let name = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
            let names = fields.iter().map(name).collect();
            window.consume(length);
            Ok((names, window))
        }
        Scanned::Unclosed { .. } => Err(Error::new(
            ErrorKind::SourceUnreadable,
            format!("{}: its header has a quote that is not closed", file.path.display()),
        )
        .advice("correct the header line")),
    }
}

/// The unescaped fields of a record.
#[derive(Debug, Default)]
struct Fields {
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Fields {
    fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.text[start..*end])
    }
}

/// What stands at the window's beginning.
#[derive(Debug, PartialEq, Eq)]
enum Scanned {
    /// Nothing more.
    End,
    /// A record of so many bytes, without its line's end.
    Record { length: usize },
    /// A quote, at this offset in the file, that is not closed.
    Unclosed { quote: u64 },
}

/// Finds the next record and its fields; blank lines before it are passed.
fn scan(window: &mut Window, fields: &mut Fields) -> Result<Scanned> {
    loop {
        let is_break = |byte: &&u8| matches!(byte, b'\r' | b'\n');
        let blank = window.bytes().iter().take_while(is_break).count();
        window.consume(blank);
        if window.bytes().is_empty() {
            if window.more()? {
                continue;
            }
            return Ok(Scanned::End);
        }
        let is_last = window.is_last();
        match split(window.bytes(), is_last, fields) {
            Split::Record(length) => return Ok(Scanned::Record { length }),
            Split::Unclosed(quote) if is_last || window.bytes().len() > RECORD_BYTES_MAX => {
                return Ok(Scanned::Unclosed { quote: window.offset() + quote as u64 });
            }
            Split::Unclosed(_) | Split::Incomplete => {
                window.more()?;
            }
        }
    }
}

/// A record at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
enum Split {
    /// So many bytes long.
    Record(usize),
    /// The bytes end within a quoted field, whose quote stands here.
    Unclosed(usize),
    /// The bytes end elsewhere within the record.
    Incomplete,
}

fn split(bytes: &[u8], is_last: bool, fields: &mut Fields) -> Split {
    fields.clear();
    let mut at = 0;
    loop {
        if bytes.get(at) == Some(&b'"') {
            let quote = at;
            at += 1;
            loop {
                let Some(found) = memchr::memchr(b'"', &bytes[at..]) else {
                    return Split::Unclosed(quote);
                };
                fields.text.extend_from_slice(&bytes[at..at + found]);
                at += found + 1;
                match bytes.get(at) {
                    Some(b'"') => {
                        fields.text.push(b'"');
                        at += 1;
                    }
                    // The other half of a doubled quote may be to come.
                    None if !is_last => return Split::Unclosed(quote),
                    _ => break,
                }
            }
        }
        // Unquoted text, also after a closing quote; quotes in it are letters.
        let rest = &bytes[at..];
        let length = memchr::memchr3(b',', b'\n', b'\r', rest).unwrap_or(rest.len());
        fields.text.extend_from_slice(&rest[..length]);
        at += length;
        if at == bytes.len() && !is_last {
            return Split::Incomplete;
        }
        fields.ends.push(fields.text.len());
        if bytes.get(at) != Some(&b',') {
            return Split::Record(at);
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ours(bytes: &[u8]) -> Option<Vec<Vec<Vec<u8>>>> {
        let (mut fields, mut records, mut at) = (Fields::default(), Vec::new(), 0);
        loop {
            let is_break = |byte: &&u8| matches!(byte, b'\r' | b'\n');
            at += bytes[at..].iter().take_while(is_break).count();
            if at == bytes.len() {
                return Some(records);
            }
            let Split::Record(length) = split(&bytes[at..], true, &mut fields) else { return None };
            records.push(fields.iter().map(<[u8]>::to_vec).collect());
            at += length;
        }
    }

    fn theirs(bytes: &[u8]) -> Vec<Vec<Vec<u8>>> {
        let mut reader = csv::ReaderBuilder::new();
        let mut reader = reader.flexible(true).has_headers(false).from_reader(bytes);
        let records = reader.byte_records().map(|record| record.unwrap());
        records.map(|record| record.iter().map(<[u8]>::to_vec).collect()).collect()
    }

    proptest! {
        #[test]
        fn fields_are_those_that_the_crate_csv_finds(text in "[a,\"\r\n é]{0,40}") {
            if let Some(records) = ours(text.as_bytes()) {
                prop_assert_eq!(records, theirs(text.as_bytes()));
            }
        }

        #[test]
        fn a_record_cut_anywhere_is_not_taken_for_a_whole_one(text in "[a,\"\r\n]{0,30}") {
            let mut whole = Fields::default();
            let Split::Record(length) = split(text.as_bytes(), true, &mut whole) else {
                return Ok(());
            };
            for cut in 0..text.len() {
                let mut part = Fields::default();
                if let Split::Record(found) = split(&text.as_bytes()[..cut], false, &mut part) {
                    prop_assert_eq!(found, length);
                }
            }
        }
    }
}
