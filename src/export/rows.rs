//! Rows as COPY's text form has them: what Postgres's output functions print, NULL apart from it.

use futures_util::TryStreamExt as _;
use sqlx::postgres::PgConnection;

use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;

/// The values of a row in the order of its columns; None is NULL.
pub(super) type Row = Vec<Option<String>>;

/// Rows between two looks at whether to stop.
pub(super) const ROWS_PER_LOOK: u64 = 256;

/// Hands out every row of a `COPY ... TO STDOUT` in text form.
pub(super) async fn copy_out(
    conn: &mut PgConnection,
    statement: &str,
    stop: &Stop,
    sink: &mut (dyn FnMut(&Row) -> Result<()> + Send),
) -> Result<u64> {
    let mut stream = conn.copy_out_raw(statement).await?;
    let mut buffer: Vec<u8> = Vec::new();
    let mut row = Row::new();
    let mut rows = 0_u64;
    while let Some(piece) = stream.try_next().await? {
        buffer.extend_from_slice(&piece);
        let mut at = 0;
        while let Some(length) = memchr::memchr(b'\n', &buffer[at..]) {
            decode(&buffer[at..at + length], &mut row)?;
            sink(&row)?;
            at += length + 1;
            rows += 1;
            if rows.is_multiple_of(ROWS_PER_LOOK) {
                stop.check()?;
            }
        }
        buffer.drain(..at);
    }
    stop.check()?;
    if !buffer.is_empty() {
        return Err(Error::new(
            ErrorKind::StoreUnreachable,
            "the server ended the stream of rows early",
        ));
    }
    Ok(rows)
}

/// A line of COPY's text form, without its end.
fn decode(line: &[u8], row: &mut Row) -> Result<()> {
    row.clear();
    for field in line.split(|byte| *byte == b'\t') {
        if field == b"\\N" {
            row.push(None);
            continue;
        }
        let mut value = Vec::with_capacity(field.len());
        let mut bytes = field.iter().copied();
        while let Some(byte) = bytes.next() {
            if byte != b'\\' {
                value.push(byte);
                continue;
            }
            value.push(match bytes.next() {
                Some(b'b') => 0x08,
                Some(b'f') => 0x0c,
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'v') => 0x0b,
                Some(other) => other,
                None => return Err(Error::new(ErrorKind::Bug, "COPY ended inside an escape")),
            });
        }
        let value = String::from_utf8(value)
            .map_err(|e| Error::new(ErrorKind::StoreFailed, "a value is not UTF-8").because(e))?;
        row.push(Some(value));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::encode_copy_row;

    #[test]
    fn null_empty_and_every_control_character_survive_copy_text() {
        let row: Row = vec![
            None,
            Some(String::new()),
            Some("\\N".to_owned()),
            Some("\\.".to_owned()),
            Some((1_u8..128).map(char::from).collect()),
            Some("ä\u{2028}🦀".to_owned()),
        ];
        let mut line = Vec::new();
        encode_copy_row(&row, &mut line);
        assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1));
        let mut back = Row::new();
        decode(&line[..line.len() - 1], &mut back).unwrap();
        assert_eq!(back, row);
    }
}
