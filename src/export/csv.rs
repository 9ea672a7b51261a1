//! Rows as CSV (RFC 4180, lines end with LF) that keeps NULL, which is nothing between the commas,
//! from the empty text, which is `""`. That is also how Postgres's COPY has it.

use std::io::BufRead;

use super::rows::Row;
use crate::error::{Error, ErrorKind, Result};

/// The first line.
pub(super) fn header(columns: &[String]) -> Vec<u8> {
    let mut line = Vec::new();
    write(&columns.iter().cloned().map(Some).collect(), &mut line);
    line
}

/// Appends a row as a line.
pub(super) fn write(row: &Row, line: &mut Vec<u8>) {
    for (at, value) in row.iter().enumerate() {
        if at > 0 {
            line.push(b',');
        }
        let Some(value) = value else { continue };
        // `\.` alone would end the input of a server's COPY.
        let is_plain = !value.is_empty()
            && value != "\\."
            && !value.contains(['"', ',', '\n', '\r'])
            && !value.starts_with(' ')
            && !value.ends_with(' ');
        if is_plain {
            line.extend_from_slice(value.as_bytes());
            continue;
        }
        line.push(b'"');
        for byte in value.bytes() {
            if byte == b'"' {
                line.push(b'"');
            }
            line.push(byte);
        }
        line.push(b'"');
    }
    line.push(b'\n');
}

/// Reads the next row; false at the end.
pub(super) fn read(input: &mut dyn BufRead, row: &mut Row) -> Result<bool> {
    row.clear();
    let mut record = Vec::new();
    input.read_until(b'\n', &mut record)?;
    if record.is_empty() {
        return Ok(false);
    }
    let mut quotes = memchr::memchr_iter(b'"', &record).count();
    // An odd number of quotes: the line ends inside a value.
    while quotes % 2 == 1 {
        let from = record.len();
        if input.read_until(b'\n', &mut record)? == 0 {
            return Err(damaged("a quote is not closed"));
        }
        quotes += memchr::memchr_iter(b'"', &record[from..]).count();
    }
    if record.pop() != Some(b'\n') {
        return Err(damaged("the last line has no end"));
    }
    let record = String::from_utf8(record).map_err(|_| damaged("it is not UTF-8"))?;
    fields(&record, row)?;
    Ok(true)
}

fn fields(record: &str, row: &mut Row) -> Result<()> {
    let mut rest = record;
    loop {
        let after = if let Some(quoted) = rest.strip_prefix('"') {
            let (value, after) = unquoted(quoted)?;
            row.push(Some(value));
            after
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            let value = &rest[..end];
            if value.contains(['"', '\n', '\r']) {
                return Err(damaged("a quote or a line's end stands outside quotes"));
            }
            row.push((!value.is_empty()).then(|| value.to_owned()));
            &rest[end..]
        };
        if after.is_empty() {
            return Ok(());
        }
        rest = after.strip_prefix(',').ok_or_else(|| damaged("text follows a closing quote"))?;
    }
}

/// The value up to the closing quote, and what follows it.
fn unquoted(text: &str) -> Result<(String, &str)> {
    let mut value = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"').ok_or_else(|| damaged("a quote is not closed"))?;
        value.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                value.push('"');
                rest = after;
            }
            None => return Ok((value, rest)),
        }
    }
}

fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::SourceUnreadable, format!("not a row of this archive: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(values: &[Option<&str>]) -> Row {
        values.iter().map(|value| value.map(str::to_owned)).collect()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let rows = [
            texts(&[None]),
            texts(&[Some("")]),
            texts(&[None, Some(""), Some("NULL"), None]),
            texts(&[Some("a,b"), Some("say \"no\""), Some("two\nlines\r\n"), Some(" x ")]),
            texts(&[Some("\""), Some("\"\""), Some("\n\\.\n"), Some("\\.")]),
        ];
        for row in rows {
            let mut bytes = Vec::new();
            write(&row, &mut bytes);
            let mut input = bytes.as_slice();
            let mut back = Row::new();
            assert!(read(&mut input, &mut back).unwrap());
            assert_eq!(back, row);
            assert!(!read(&mut input, &mut back).unwrap());
        }
    }

    #[test]
    fn lines_that_are_no_rows_are_refused() {
        for text in ["a,b", "\"a\n", "\"a\"b\n", "a\"b\"\n", "a\rb\n"] {
            let read = read(&mut text.as_bytes(), &mut Row::new());
            assert_eq!(read.unwrap_err().kind(), ErrorKind::SourceUnreadable, "{text:?}");
        }
    }
}
