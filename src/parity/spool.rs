//! What the first pass saw of each row, on disk, so that a second pass reads neither store again.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};

use crate::canonical::Digest;
use crate::error::Result;

/// The first 16 bytes of a digest: what the bucket sums are made of, too.
pub(super) type Short = [u8; 16];

/// The first 16 bytes of `digest`.
pub(super) fn short(digest: &Digest) -> Short {
    digest.first_chunk().copied().unwrap_or_default()
}

/// Bytes of one side of one slice on disk at most, unless told otherwise: 47 million rows.
pub(super) const BYTES_MAX: u64 = 2 << 30;

/// Bytes of an encoded [`Entry`].
const ENTRY_BYTES: usize = 16 + 16 + 4 + 8 + 1;

/// Where a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// In the source the stream, in the target the table's OID (0 where there is but one).
    pub(super) within: u32,
    /// In the source the 0-based record of the stream, in the target block and offset (`ctid`).
    pub(super) at: u64,
}

/// On which side a row was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// The target has to hold this very row.
    Required,
    /// The row gave way to another, by record of the ledger.
    GaveWay,
    /// The target holds it.
    Target,
}

/// One row, as the second pass needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) key: Short,
    pub(super) origin: Origin,
    pub(super) row: Short,
    pub(super) place: Place,
}

impl Entry {
    fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..16].copy_from_slice(&self.key);
        bytes[16..32].copy_from_slice(&self.row);
        bytes[32..36].copy_from_slice(&self.place.within.to_be_bytes());
        bytes[36..44].copy_from_slice(&self.place.at.to_be_bytes());
        bytes[44] = self.origin as u8;
        bytes
    }

    fn decode(bytes: &[u8; ENTRY_BYTES]) -> Self {
        let part = |at: usize| bytes[at..].first_chunk().copied().unwrap_or_default();
        let number = |at: usize| bytes[at..].first_chunk().copied().unwrap_or_default();
        let within = bytes[32..].first_chunk().copied().unwrap_or_default();
        Self {
            key: part(0),
            row: part(16),
            place: Place { within: u32::from_be_bytes(within), at: u64::from_be_bytes(number(36)) },
            origin: match bytes[44] {
                0 => Origin::Required,
                1 => Origin::GaveWay,
                _ => Origin::Target,
            },
        }
    }
}

/// The entries of one side of a slice, in a file without a name.
#[derive(Debug)]
pub(super) struct Spool {
    file: BufWriter<File>,
    bytes: u64,
    bytes_max: u64,
}

impl Spool {
    /// An empty one.
    pub(super) fn new(bytes_max: u64) -> Result<Self> {
        let file = BufWriter::with_capacity(1 << 16, tempfile::tempfile()?);
        Ok(Self { file, bytes: 0, bytes_max })
    }

    /// Appends an entry; false where it is not kept, because the limit is reached or the disk is
    /// full: then the spool is worthless.
    pub(super) fn push(&mut self, entry: &Entry) -> bool {
        self.bytes += ENTRY_BYTES as u64;
        self.bytes <= self.bytes_max && self.file.write_all(&entry.encode()).is_ok()
    }

    /// Reads all entries, in the order they came.
    pub(super) fn read(&mut self, mut visit: impl FnMut(Entry)) -> Result<()> {
        self.file.flush()?;
        let file = self.file.get_mut();
        file.seek(SeekFrom::Start(0))?;
        let mut reader = BufReader::with_capacity(1 << 18, &mut *file);
        let mut bytes = [0; ENTRY_BYTES];
        for _ in 0..self.bytes / ENTRY_BYTES as u64 {
            reader.read_exact(&mut bytes)?;
            visit(Entry::decode(&bytes));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_as_they_were_however_often_they_are_read() {
        let entries: Vec<Entry> = (0..10_000_u64)
            .map(|n| Entry {
                key: u128::from(n).to_be_bytes(),
                row: (u128::MAX - u128::from(n)).to_be_bytes(),
                place: Place { within: u32::MAX, at: u64::MAX - n },
                origin: [Origin::Required, Origin::GaveWay, Origin::Target][(n % 3) as usize],
            })
            .collect();
        let mut spool = Spool::new(BYTES_MAX).unwrap();
        assert!(entries.iter().all(|entry| spool.push(entry)));
        for _ in 0..2 {
            let mut read = Vec::new();
            spool.read(|entry| read.push(entry)).unwrap();
            assert_eq!(read, entries);
        }
    }
}
