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
        let Some(head) = self.buffer.get(self.at..self.at + 2) else { return Ok(None) };
        let count = i16::from_be_bytes([head[0], head[1]]);
        if count < 0 {
            self.ended = true;
            return Ok(None);
        }
        let start = self.at + 2;
        let mut end = start;
        for _ in 0..count {
            let Some(head) = self.buffer.get(end..end + 4) else { return Ok(None) };
            let length = i32::from_be_bytes([head[0], head[1], head[2], head[3]]);
            end += 4 + usize::try_from(length).unwrap_or(0);
            if end > self.buffer.len() {
                return Ok(None);
            }
        }
        self.at = end;
        Ok(Some(&self.buffer[start..end]))
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
