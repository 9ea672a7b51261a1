//! Rows as JSON lines: `{"id":"1","note":null}`, every value its text.

use std::io::BufRead;

use serde_json::{Map, Value};

use super::rows::Row;
use crate::error::{Error, ErrorKind, Result};

/// Appends a row as a line.
pub(super) fn write(columns: &[String], row: &Row, line: &mut Vec<u8>) {
    for (at, (column, value)) in columns.iter().zip(row).enumerate() {
        line.push(if at == 0 { b'{' } else { b',' });
        quote(column, line);
        line.push(b':');
        match value {
            None => line.extend_from_slice(b"null"),
            Some(value) => quote(value, line),
        }
    }
    line.extend_from_slice(b"}\n");
}

fn quote(text: &str, line: &mut Vec<u8>) {
    // Writing into memory cannot fail.
    let _ = serde_json::to_writer(line, text);
}

/// Reads the next line; false at the end.
pub(super) fn read(input: &mut dyn BufRead, columns: &[String], row: &mut Row) -> Result<bool> {
    let mut line = Vec::new();
    input.read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(false);
    }
    if line.pop() != Some(b'\n') {
        return Err(damaged("the last line has no end"));
    }
    let values: Map<String, Value> =
        serde_json::from_slice(&line).map_err(|error| damaged(&error.to_string()))?;
    if !values.keys().eq(columns) {
        return Err(damaged("its members are not the table's columns"));
    }
    row.clear();
    for (_, value) in values {
        row.push(match value {
            Value::Null => None,
            Value::String(text) => Some(text),
            _ => return Err(damaged("a value is neither text nor null")),
        });
    }
    Ok(true)
}

fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::SourceUnreadable, format!("not a row of this archive: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_the_text_null_and_nothing_are_three_values() {
        let columns: Vec<String> = ["a", "b \"q\"", "c"].map(str::to_owned).into();
        let row: Row = vec![None, Some("null".to_owned()), Some(String::new())];
        let mut line = Vec::new();
        write(&columns, &row, &mut line);
        assert_eq!(line, b"{\"a\":null,\"b \\\"q\\\"\":\"null\",\"c\":\"\"}\n");
        let mut back = Row::new();
        let mut input = line.as_slice();
        assert!(read(&mut input, &columns, &mut back).unwrap());
        assert_eq!(back, row);
        assert!(!read(&mut input, &columns, &mut back).unwrap());
    }

    #[test]
    fn lines_that_are_no_rows_are_refused() {
        let columns: Vec<String> = ["a", "b"].map(str::to_owned).into();
        for line in [
            "{\"a\":\"1\",\"b\":\"2\"}",
            "{\"b\":\"1\",\"a\":\"2\"}\n",
            "{\"a\":\"1\"}\n",
            "{\"a\":\"1\",\"b\":2}\n",
            "[]\n",
            "\n",
        ] {
            let read = read(&mut line.as_bytes(), &columns, &mut Row::new());
            assert_eq!(read.unwrap_err().kind(), ErrorKind::SourceUnreadable, "{line:?}");
        }
    }
}
