//! A document read once, front to back, holding no more of it than is being looked at.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

use crate::error::{Error, ErrorKind, Result};
use crate::json::ParseError;
use crate::source::SourceFile;

/// Bytes asked for at once, at least.
const PIECE_BYTES: usize = 256 << 10;

/// The largest record of a file that is read piece by piece; jsonb ends there too.
pub(super) const RECORD_BYTES_MAX: usize = 256 << 20;

/// Bytes of a record that a reject keeps where nobody can say how far the record goes.
const KEPT_BYTES: usize = 64 << 10;

/// See the module. Folds what it reads into a digest, so that a file which changes while it is
/// read is found out at its end.
#[derive(Debug)]
pub(super) struct Window {
    file: File,
    path: PathBuf,
    expected_sha256: String,
    hash: Sha256,
    buffer: Vec<u8>,
    /// Bytes at the beginning of the buffer that are done with.
    done: usize,
    /// Offset in the file of the first byte that is not done with; its line and column, from 0.
    offset: u64,
    line: u64,
    column: u64,
    is_last: bool,
}

impl Window {
    /// Opens `file` at `offset`. What is before it is read and hashed too.
    pub(super) fn open(file: &SourceFile, offset: u64) -> Result<Self> {
        let opened = File::open(&file.path).map_err(|error| unreadable(&file.path, &error))?;
        let mut window = Self {
            file: opened,
            path: file.path.clone(),
            expected_sha256: file.sha256.clone(),
            hash: Sha256::new(),
            buffer: Vec::new(),
            done: 0,
            offset: 0,
            line: 0,
            column: 0,
            is_last: false,
        };
        while window.offset < offset && (!window.bytes().is_empty() || window.more()?) {
            let left = usize::try_from(offset - window.offset).unwrap_or(usize::MAX);
            window.consume(window.bytes().len().min(left));
        }
        Ok(window)
    }

    /// What is in sight.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.done..]
    }

    /// Whether nothing comes after what is in sight.
    pub(super) fn is_last(&self) -> bool {
        self.is_last
    }

    /// Offset in the file of the first byte in sight.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Line of the first byte in sight, from 1.
    pub(super) fn line(&self) -> u64 {
        self.line + 1
    }

    /// Reads on; false at the end of the file. Asks for as much again as is in sight, so that a
    /// large record is not looked at more often than its size doubles.
    pub(super) fn more(&mut self) -> Result<bool> {
        if self.is_last {
            return Ok(false);
        }
        self.buffer.drain(..self.done);
        self.done = 0;
        let before = self.buffer.len();
        let wanted = before.max(PIECE_BYTES);
        // What a giant record needed is given back after it.
        self.buffer.shrink_to(before + wanted);
        self.buffer.reserve_exact(wanted);
        let taken = (&mut self.file)
            .take(wanted as u64)
            .read_to_end(&mut self.buffer)
            .map_err(|error| unreadable(&self.path, &error))?;
        self.hash.update(&self.buffer[before..]);
        self.is_last = taken < wanted;
        Ok(taken > 0)
    }

    /// The first byte in sight, read if need be; None at the end of the file.
    pub(super) fn peek(&mut self) -> Result<Option<u8>> {
        if self.bytes().is_empty() {
            self.more()?;
        }
        Ok(self.bytes().first().copied())
    }

    /// Is done with the first `count` bytes in sight.
    pub(super) fn consume(&mut self, count: usize) {
        let gone = &self.buffer[self.done..self.done + count];
        let lines = memchr::memchr_iter(b'\n', gone).count();
        let tail = match memchr::memrchr(b'\n', gone) {
            Some(at) => {
                self.column = 0;
                &gone[at + 1..]
            }
            None => gone,
        };
        // Characters, not bytes; a byte order mark is none.
        let characters = tail.iter().filter(|byte| **byte & 0xc0 != 0x80).count() as u64;
        let is_mark = self.offset == 0 && tail.starts_with(b"\xef\xbb\xbf");
        self.column += characters - u64::from(is_mark);
        self.line += lines as u64;
        self.offset += count as u64;
        self.done += count;
    }

    /// Skips what JSON calls white space.
    pub(super) fn skip_white_space(&mut self) -> Result<()> {
        loop {
            let blank = |byte: &u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
            let count = self.bytes().iter().take_while(|byte| blank(byte)).count();
            let is_all = count == self.bytes().len();
            self.consume(count);
            if !is_all || !self.more()? {
                return Ok(());
            }
        }
    }

    /// Skips a byte order mark at the beginning of the file.
    pub(super) fn skip_mark(&mut self) -> Result<()> {
        if self.offset == 0 && self.peek()?.is_some() && self.bytes().starts_with(b"\xef\xbb\xbf") {
            self.consume(3);
        }
        Ok(())
    }

    /// A fault found in what is in sight, at its place in the file.
    pub(super) fn place(&self, mut fault: ParseError) -> ParseError {
        let whole = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        if fault.line == 1 {
            fault.column += whole(self.column);
        }
        fault.line += whole(self.line);
        fault.offset += whole(self.offset);
        fault
    }

    /// The beginning of what is in sight, for a reject of which nobody can say how far it goes.
    /// Ends between words, so that no half of a secret is left that a rule would not know.
    pub(super) fn kept(&self) -> &[u8] {
        let bytes = self.bytes();
        if bytes.len() <= KEPT_BYTES {
            return bytes;
        }
        let is_end = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'"';
        let end = bytes[..KEPT_BYTES].iter().rposition(is_end).unwrap_or(0);
        &bytes[..end]
    }

    /// Reads what is left, and refuses the file if it is not the one that was found.
    pub(super) fn finish(&mut self) -> Result<()> {
        loop {
            self.consume(self.bytes().len());
            if !self.more()? {
                break;
            }
        }
        if hex::encode(self.hash.clone().finalize()) == self.expected_sha256 {
            return Ok(());
        }
        Err(changed(&self.path))
    }
}

/// Refuses a document that is no longer the one that was found, before a record of it is handed
/// out. [`Window::finish`] asks again at its end: it may change in between.
pub(super) fn verify(file: &SourceFile) -> Result<()> {
    Window::open(file, 0)?.finish()
}

pub(super) fn changed(path: &std::path::Path) -> Error {
    Error::new(
        ErrorKind::SourceChanged,
        format!("{} changed while the run was reading it", path.display()),
    )
    .advice(
        "stop its writer, or read a copy with --snapshot; then start over with --restart, which \
         finds what was stored so far unchanged",
    )
}

fn unreadable(path: &std::path::Path, error: &std::io::Error) -> Error {
    Error::new(ErrorKind::SourceUnreadable, format!("{} cannot be read: {error}", path.display()))
        .advice("check the file's permissions")
}
