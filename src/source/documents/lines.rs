//! JSON lines, one at a time.

use crate::cast::Refusal;
use crate::error::Result;
use crate::source::documents::window::{RECORD_BYTES_MAX, Window, verify};
use crate::source::documents::{Standing, emit, position_in};
use crate::source::{Content, Locator, Position, RawBytes, SourceFile, Visitor};

/// See the module.
#[derive(Debug)]
pub(super) struct LineReader {
    window: Window,
    /// Lines before this one, counted from 0, were handed out already.
    from: u64,
}

impl LineReader {
    pub(super) fn open(file: &SourceFile, standing: Standing) -> Result<Self> {
        verify(file)?;
        let mut window = Window::open(file, standing.offset.unwrap_or(0))?;
        window.skip_mark()?;
        Ok(Self { window, from: standing.record })
    }

    pub(super) fn read(
        &mut self,
        file: &SourceFile,
        visit: &mut Visitor<'_>,
    ) -> Result<Option<Position>> {
        while self.window.peek()?.is_some() {
            let paused = match self.line()? {
                Some((length, taken)) => self.record(file, length, taken, visit)?,
                None => self.giant(file, visit)?,
            };
            if paused.is_some() {
                return Ok(paused);
            }
        }
        self.window.finish()?;
        Ok(None)
    }

    /// Bytes of the line at hand without and with its end; None if it is too long.
    fn line(&mut self) -> Result<Option<(usize, usize)>> {
        let mut seen = 0;
        loop {
            let bytes = self.window.bytes();
            if let Some(found) = memchr::memchr(b'\n', &bytes[seen..]) {
                return Ok(Some((seen + found, seen + found + 1)));
            }
            seen = bytes.len();
            if seen > RECORD_BYTES_MAX {
                return Ok(None);
            }
            if !self.window.more()? {
                return Ok(Some((seen, seen)));
            }
        }
    }

    fn record(
        &mut self,
        file: &SourceFile,
        length: usize,
        taken: usize,
        visit: &mut Visitor<'_>,
    ) -> Result<Option<Position>> {
        let line = &self.window.bytes()[..length];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let number = self.window.line();
        let mut paused = None;
        if number > self.from && !line.iter().all(u8::is_ascii_whitespace) {
            let parsed = crate::json::parse(line);
            let content = match &parsed {
                Ok(root) => Content::Json { element: root, root, bytes: RawBytes::Held(line) },
                Err(error) => Content::Broken {
                    bytes: line,
                    refusal: Refusal::new("invalid_json", error.to_string()),
                },
            };
            let offset = self.window.offset() + taken as u64;
            let position = position_in(file, number - 1, Some(offset));
            paused = emit(visit, file, Locator::Line(number), position, content)?;
        }
        self.window.consume(taken);
        Ok(paused)
    }

    /// Refuses a line that is too long, and goes on after it.
    fn giant(&mut self, file: &SourceFile, visit: &mut Visitor<'_>) -> Result<Option<Position>> {
        let number = self.window.line();
        let kept = self.window.kept().to_vec();
        let end = loop {
            let found = memchr::memchr(b'\n', self.window.bytes());
            self.window.consume(found.map_or(self.window.bytes().len(), |at| at + 1));
            if found.is_some() || !self.window.more()? {
                break self.window.offset();
            }
        };
        if number <= self.from {
            return Ok(None);
        }
        let detail = format!(
            "a line of more than {RECORD_BYTES_MAX} bytes; it ends at byte {end}, and only its \
             beginning is kept here"
        );
        let refusal = Refusal::new("record_too_large", detail);
        let content = Content::Broken { bytes: &kept, refusal };
        let position = position_in(file, number - 1, Some(end));
        emit(visit, file, Locator::Line(number), position, content)
    }
}
