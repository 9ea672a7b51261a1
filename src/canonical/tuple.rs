//! Binary COPY tuples: the fields of one, and a reader over a COPY OUT stream.

use std::ops::Range;

use crate::error::{Error, ErrorKind, Result};

/// Signature of a binary COPY stream.
pub(crate) const COPY_SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";

/// Byte ranges of the fields of a tuple (without its leading field count); None is NULL.
#[must_use]
pub fn fields_of(tuple: &[u8]) -> Vec<Option<Range<usize>>> {
    let mut fields = Vec::with_capacity(16);
    let mut at = 0;
    while let Some(head) = tuple.get(at..at + 4) {
        at += 4;
        let length = i32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        match usize::try_from(length) {
            Ok(length) => {
                fields.push(Some(at..at + length));
                at += length;
            }
            Err(_) => fields.push(None),
        }
    }
    fields
}

/// A tuple with NULL in some of its fields.
#[must_use]
pub fn with_nulls(tuple: &[u8], positions: &[usize]) -> Vec<u8> {
    let mut fields = Vec::with_capacity(tuple.len());
    for (at, range) in fields_of(tuple).into_iter().enumerate() {
        match range.filter(|_| !positions.contains(&at)) {
            None => fields.extend_from_slice(&(-1_i32).to_be_bytes()),
            Some(range) => fields.extend_from_slice(&tuple[range.start - 4..range.end]),
        }
    }
    fields
}

/// What a piece of a stream begins with.
enum Scanned {
    /// A tuple with its field count, up to `end`.
    Tuple { end: usize },
    /// The end of the stream.
    Trailer,
}

/// None: more of the stream must be seen first.
fn scan(bytes: &[u8]) -> Option<Scanned> {
    let (head, _) = bytes.split_first_chunk::<2>()?;
    let count = i16::from_be_bytes(*head);
    if count < 0 {
        return Some(Scanned::Trailer);
    }
    let mut end = 2;
    for _ in 0..count {
        let head = bytes.get(end..)?.first_chunk::<4>()?;
        end += 4 + usize::try_from(i32::from_be_bytes(*head)).unwrap_or(0);
    }
    (end <= bytes.len()).then_some(Scanned::Tuple { end })
}

/// Splits a binary COPY OUT stream into tuples, whatever pieces it arrives in.
#[derive(Debug, Default)]
pub struct TupleReader {
    buffer: Vec<u8>,
    at: usize,
    header_read: bool,
    ended: bool,
}

impl TupleReader {
    /// Adds the next piece of the stream.
    pub fn push(&mut self, piece: &[u8]) {
        if self.at > 0 {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        self.buffer.extend_from_slice(piece);
    }

    /// The next whole tuple without its field count, if it has arrived.
    pub fn next_tuple(&mut self) -> Result<Option<&[u8]>> {
        if !self.header_read && !self.read_header()? {
            return Ok(None);
        }
        match scan(&self.buffer[self.at..]) {
            None => Ok(None),
            Some(Scanned::Trailer) => {
                self.ended = true;
                Ok(None)
            }
            Some(Scanned::Tuple { end }) => {
                let start = self.at + 2;
                self.at += end;
                Ok(Some(&self.buffer[start..self.at]))
            }
        }
    }

    /// Hands out every whole tuple that the next piece of the stream completes, without its field
    /// count. Mostly a piece is one tuple, which is then read where it stands.
    pub fn read(&mut self, piece: &[u8], visit: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut rest = piece;
        if self.header_read && !self.ended && self.at == self.buffer.len() {
            self.buffer.clear();
            self.at = 0;
            while let Some(Scanned::Tuple { end }) = scan(rest) {
                let (tuple, after) = rest.split_at(end);
                visit(&tuple[2..])?;
                rest = after;
            }
        }
        if rest.is_empty() {
            return Ok(());
        }
        self.push(rest);
        while let Some(tuple) = self.next_tuple()? {
            visit(tuple)?;
        }
        Ok(())
    }

    /// Whether the trailer was seen.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.ended
    }

    fn read_header(&mut self) -> Result<bool> {
        if self.buffer.len() < 19 {
            return Ok(false);
        }
        if &self.buffer[..11] != COPY_SIGNATURE {
            return Err(Error::new(ErrorKind::Bug, "COPY OUT did not begin with its signature"));
        }
        let extension = [self.buffer[15], self.buffer[16], self.buffer[17], self.buffer[18]];
        let extension = usize::try_from(u32::from_be_bytes(extension)).unwrap_or(usize::MAX);
        if self.buffer.len() < 19 + extension {
            return Ok(false);
        }
        self.at = 19 + extension;
        self.header_read = true;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(rows: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
        let mut bytes = COPY_SIGNATURE.to_vec();
        bytes.extend_from_slice(&[0; 8]);
        let mut tuples = Vec::new();
        for row in 0..rows {
            let mut tuple = (-1_i32).to_be_bytes().to_vec();
            tuple.extend_from_slice(&u32::try_from(row % 7).unwrap().to_be_bytes());
            tuple.resize(tuple.len() + row % 7, b'x');
            bytes.extend_from_slice(&2_i16.to_be_bytes());
            bytes.extend_from_slice(&tuple);
            tuples.push(tuple);
        }
        bytes.extend_from_slice(&(-1_i16).to_be_bytes());
        (bytes, tuples)
    }

    fn read_in(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, bool) {
        let mut reader = TupleReader::default();
        let mut tuples = Vec::new();
        for piece in pieces {
            let keep = &mut |tuple: &[u8]| {
                tuples.push(tuple.to_vec());
                Ok(())
            };
            reader.read(piece, keep).unwrap();
        }
        (tuples, reader.is_complete())
    }

    #[test]
    fn tuples_are_the_same_whatever_pieces_they_arrive_in() {
        let (bytes, tuples) = stream(40);
        for size in 1..=bytes.len() {
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            assert_eq!(read_in(&pieces), (tuples.clone(), true), "pieces of {size}");
        }
        // As the server sends them: header, tuples and trailer each in a piece of its own, ...
        let mut pieces = vec![&bytes[..19]];
        let mut rest = &bytes[19..];
        for tuple in &tuples {
            let (piece, after) = rest.split_at(tuple.len() + 2);
            pieces.push(piece);
            rest = after;
        }
        assert_eq!(read_in(&pieces), (tuples.clone(), false), "without its trailer");
        pieces.extend([rest, b"what comes after the end"]);
        assert_eq!(read_in(&pieces), (tuples, true));
    }
}
