//! Where a JSON document's array of records stands, found without holding the document.

use memchr::memchr2;

use crate::error::Result;
use crate::json::Json;
use crate::source::SourceFile;
use crate::source::documents::window::{RECORD_BYTES_MAX, Window};

/// What stands beside the array is held up to this size where no column asks for it.
const BESIDE_BYTES_MAX: usize = 8 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Outline {
    /// Offset of the array's first byte.
    pub(super) array: u64,
    /// The document with an empty array in the place of the records.
    pub(super) beside: Json,
    /// What is wrong after the array, if anything is.
    pub(super) fault: Option<String>,
}

/// Finds the one array at `pointer`. None: the document must be read whole, because the array is
/// not there, or there twice, or is not reached through objects alone, or something is wrong
/// before it. `holds_beside`: everything beside the array is wanted.
///
/// Reads the whole file, and refuses it if it is not the one that was found.
pub(super) fn outline(
    file: &SourceFile,
    pointer: &str,
    holds_beside: bool,
) -> Result<Option<Outline>> {
    let Some(steps) = steps(pointer) else { return Ok(None) };
    let mut skim = Skim {
        window: Window::open(file, 0)?,
        beside: Vec::new(),
        holds: true,
        beside_max: if holds_beside { usize::MAX } else { BESIDE_BYTES_MAX },
        array: None,
        array_bytes: None,
        is_ambiguous: false,
        is_any: pointer == crate::json::ANY_MEMBER,
    };
    if skim.window.peek()?.is_some() && skim.window.bytes().starts_with(b"\xef\xbb\xbf") {
        skim.pass(3);
    }
    let is_closed = skim.descend(&steps)?;
    if is_closed || skim.array_bytes.is_some() {
        skim.rest()?;
    }
    skim.window.finish()?;
    Ok(skim.outline(is_closed, holds_beside))
}

/// The member names of an RFC 6901 pointer.
fn steps(pointer: &str) -> Option<Vec<Vec<u8>>> {
    if pointer.is_empty() {
        return Some(Vec::new());
    }
    let tail = pointer.strip_prefix('/')?;
    Some(tail.split('/').map(|s| s.replace("~1", "/").replace("~0", "~").into_bytes()).collect())
}

struct Skim {
    window: Window,
    beside: Vec<u8>,
    /// Whether what is passed belongs to what stands beside the array.
    holds: bool,
    beside_max: usize,
    array: Option<u64>,
    /// Its length, once it was passed to its end.
    array_bytes: Option<u64>,
    is_ambiguous: bool,
    /// The array may be any member.
    is_any: bool,
}

impl Skim {
    fn outline(self, is_closed: bool, holds_beside: bool) -> Option<Outline> {
        let array = self.array.filter(|_| !self.is_ambiguous)?;
        let mut outline = Outline { array, beside: Json::Null, fault: None };
        if !is_closed && self.array_bytes.is_none() {
            // The array does not end, which the reader of its elements will name.
            return (!holds_beside).then_some(outline);
        }
        if self.beside.len() > self.beside_max {
            if !is_closed {
                outline.fault = Some("the document does not end as it began".to_owned());
            }
            return Some(outline);
        }
        match crate::json::parse(&self.beside) {
            Ok(beside) => outline.beside = beside,
            Err(fault) if fault.offset as u64 <= array || holds_beside => return None,
            Err(fault) => {
                let offset = fault.offset as u64 - 2 + self.array_bytes.unwrap_or_default();
                outline.fault = Some(format!("{} (byte {offset})", fault.message));
            }
        }
        Some(outline)
    }

    /// Follows `steps` from the value at hand, and passes it; false if something is in the way.
    fn descend(&mut self, steps: &[Vec<u8>]) -> Result<bool> {
        let first = self.peek()?;
        let Some((step, rest)) = steps.split_first() else {
            return if first == Some(b'[') { self.records() } else { Ok(false) };
        };
        let is_any = self.is_any && rest.is_empty();
        if is_any && first == Some(b'[') {
            return self.records();
        }
        if first != Some(b'{') {
            return Ok(false);
        }
        self.pass(1);
        let mut is_met = false;
        loop {
            match self.peek()? {
                Some(b'}') => {
                    self.pass(1);
                    return Ok(true);
                }
                Some(b'"') => {}
                _ => return Ok(false),
            }
            let Some(key) = self.key()? else { return Ok(false) };
            if self.peek()? != Some(b':') {
                return Ok(false);
            }
            self.pass(1);
            let is_step = if is_any { self.peek()? == Some(b'[') } else { key == *step };
            if is_step && is_met {
                // Of two members of one name the last counts, and the first was found first; where
                // any array counts, both do.
                self.is_ambiguous = true;
                return Ok(false);
            }
            is_met |= is_step;
            let is_passed = if is_step { self.descend(rest)? } else { self.value()? };
            if !is_passed {
                return Ok(false);
            }
            match self.peek()? {
                Some(b',') => self.pass(1),
                Some(b'}') => {}
                _ => return Ok(false),
            }
        }
    }

    fn records(&mut self) -> Result<bool> {
        let start = self.window.offset();
        self.array = Some(start);
        self.beside.extend_from_slice(b"[]");
        self.holds = false;
        let is_passed = self.value()?;
        self.holds = true;
        self.array_bytes = is_passed.then(|| self.window.offset() - start);
        Ok(is_passed)
    }

    /// What comes after the value at the top, or after what cannot be followed.
    fn rest(&mut self) -> Result<()> {
        while self.window.peek()?.is_some() {
            self.pass(self.window.bytes().len());
        }
        Ok(())
    }

    fn peek(&mut self) -> Result<Option<u8>> {
        loop {
            let first = self.window.peek()?;
            if !matches!(first, Some(b' ' | b'\n' | b'\r' | b'\t')) {
                return Ok(first);
            }
            let blank = self.window.bytes().iter().take_while(|byte| byte.is_ascii_whitespace());
            let count = blank.count();
            self.pass(count);
        }
    }

    fn pass(&mut self, count: usize) {
        if self.holds && self.beside.len() <= self.beside_max {
            self.beside.extend_from_slice(&self.window.bytes()[..count]);
        }
        self.window.consume(count);
    }

    /// The member name at hand, unescaped.
    fn key(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            match crate::json::parse_prefix(self.window.bytes(), self.window.is_last()) {
                Ok(crate::json::Prefix::Value(Json::String(key), count)) => {
                    self.pass(count);
                    return Ok(Some(key.into_vec()));
                }
                Ok(crate::json::Prefix::Incomplete)
                    if self.window.bytes().len() < RECORD_BYTES_MAX =>
                {
                    self.window.more()?;
                }
                _ => return Ok(None),
            }
        }
    }

    /// Passes a value by its brackets and quotes alone; false if the file ends before it does.
    fn value(&mut self) -> Result<bool> {
        let (mut depth, mut in_string, mut is_escaped) = (0_u64, false, false);
        loop {
            let bytes = self.window.bytes();
            let mut at = 0;
            let mut is_done = false;
            while at < bytes.len() && !is_done {
                if is_escaped {
                    is_escaped = false;
                    at += 1;
                } else if in_string {
                    let Some(found) = memchr2(b'"', b'\\', &bytes[at..]) else {
                        at = bytes.len();
                        break;
                    };
                    at += found + 1;
                    is_escaped = bytes[at - 1] == b'\\';
                    in_string = is_escaped;
                    is_done = !in_string && depth == 0;
                } else {
                    match bytes[at] {
                        b'"' => in_string = true,
                        b'{' | b'[' => depth += 1,
                        b',' | b'}' | b']' if depth == 0 => {
                            is_done = true;
                            continue;
                        }
                        b'}' | b']' => {
                            depth -= 1;
                            is_done = depth == 0;
                        }
                        _ => {}
                    }
                    at += 1;
                }
            }
            self.pass(at);
            if is_done {
                return Ok(true);
            }
            if !self.window.more()? {
                return Ok(false);
            }
        }
    }
}
