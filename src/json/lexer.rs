//! Bytes to tokens. The parser sees tokens only, so a lexer over `Read` can stand here too.

use std::fmt;

use memchr::memchr2;

use super::JsonString;
use super::escape::push_code_unit;
use super::number;

/// Why a text is not JSON, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// Byte offset of the fault, from 0, a byte order mark included.
    pub offset: usize,
    /// Line of the fault, from 1.
    pub line: usize,
    /// Column of the fault in characters, from 1.
    pub column: usize,
    /// What is wrong there; never holds document content beyond one byte.
    pub message: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset, line, column, message } = self;
        write!(f, "{message} at line {line}, column {column} (byte {offset})")
    }
}

impl std::error::Error for ParseError {}

#[derive(Debug, PartialEq)]
pub(super) enum Token {
    ObjectStart,
    ObjectEnd,
    ArrayStart,
    ArrayEnd,
    Colon,
    Comma,
    Null,
    Bool(bool),
    Number(Box<str>),
    String(JsonString),
    End,
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

pub(super) struct Lexer<'a> {
    input: &'a [u8],
    /// The first byte not yet read.
    position: usize,
    /// Where the last token began.
    token_start: usize,
    /// Reused across strings with escapes, so that each costs one exact allocation.
    unescaped: Vec<u8>,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        let position = if input.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        Self { input, position, token_start: position, unescaped: Vec::new() }
    }

    /// A lexer of a piece of a document, where no byte order mark can stand.
    pub(super) fn inside(input: &'a [u8]) -> Self {
        Self { input, position: 0, token_start: 0, unescaped: Vec::new() }
    }

    /// The first byte not yet read.
    pub(super) fn position(&self) -> usize {
        self.position.min(self.input.len())
    }

    /// Whether `fault` may be due to the input's end alone.
    pub(super) fn ran_out(&self, fault: &ParseError) -> bool {
        /// No escape and no bare word is longer.
        const LOOK_AHEAD_MAX: usize = 12;
        self.position.max(fault.offset) + LOOK_AHEAD_MAX >= self.input.len()
    }

    /// The next token; [`Token::End`] at the end of the input, again and again.
    pub(super) fn next(&mut self) -> Result<Token, ParseError> {
        self.skip_white_space();
        self.token_start = self.position;
        let Some(&first) = self.input.get(self.position) else { return Ok(Token::End) };
        let punctuation = match first {
            b'"' => return self.string().map(Token::String),
            b'{' => Token::ObjectStart,
            b'}' => Token::ObjectEnd,
            b'[' => Token::ArrayStart,
            b']' => Token::ArrayEnd,
            b':' => Token::Colon,
            b',' => Token::Comma,
            b'-' | b'0'..=b'9' => return self.number(),
            b'A'..=b'Z' | b'a'..=b'z' => return self.word(),
            other => return Err(self.fault(self.position, unexpected(other))),
        };
        self.position += 1;
        Ok(punctuation)
    }

    fn skip_white_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.input.get(self.position) {
            self.position += 1;
        }
    }

    fn word(&mut self) -> Result<Token, ParseError> {
        let rest = &self.input[self.position..];
        let length = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
        let token = match &rest[..length] {
            b"null" => Token::Null,
            b"true" => Token::Bool(true),
            b"false" => Token::Bool(false),
            b"NaN" => Token::Number("NaN".into()),
            b"Infinity" => Token::Number("Infinity".into()),
            _ => {
                let message = "a bare word that is not null, true, false, NaN or Infinity";
                return Err(self.fault(self.position, message));
            }
        };
        self.position += length;
        Ok(token)
    }

    fn number(&mut self) -> Result<Token, ParseError> {
        let rest = &self.input[self.position..];
        let length = match number::literal_length(rest) {
            Ok(length) => length,
            Err(offset) => {
                let message = "a number that is not written as JSON writes numbers";
                return Err(self.fault(self.position + offset, message));
            }
        };
        // The grammar is ASCII only, so nothing is replaced here.
        let text = String::from_utf8_lossy(&rest[..length]).into();
        self.position += length;
        Ok(Token::Number(text))
    }

    fn string(&mut self) -> Result<JsonString, ParseError> {
        self.position += 1;
        self.unescaped.clear();
        loop {
            let rest = &self.input[self.position..];
            let Some(length) = memchr2(b'"', b'\\', rest) else {
                // A raw line break names the fault better than the far end of the input does.
                self.refuse_control_characters(rest)?;
                self.position = self.input.len();
                return Err(self.fault(self.token_start, "a string that never ends"));
            };
            let run = &rest[..length];
            self.refuse_control_characters(run)?;
            self.position += length + 1;
            if rest[length] == b'"' {
                if self.unescaped.is_empty() {
                    return Ok(run.into());
                }
                self.unescaped.extend_from_slice(run);
                return Ok(self.unescaped.as_slice().into());
            }
            self.unescaped.extend_from_slice(run);
            self.escape()?;
        }
    }

    fn refuse_control_characters(&self, run: &[u8]) -> Result<(), ParseError> {
        // Without an early exit the loop is vectorised.
        if run.iter().fold(u8::MAX, |lowest, &byte| lowest.min(byte)) >= 0x20 {
            return Ok(());
        }
        let offset = run.iter().position(|&byte| byte < 0x20).unwrap_or(0);
        let message = format!(
            "character with value 0x{:02x} must be escaped inside a string",
            run.get(offset).copied().unwrap_or(0)
        );
        Err(self.fault(self.position + offset, message))
    }

    /// Reads what follows a backslash.
    fn escape(&mut self) -> Result<(), ParseError> {
        let byte = self.input.get(self.position).copied();
        self.position += 1;
        let plain = match byte {
            Some(b'"') => b'"',
            Some(b'\\') => b'\\',
            Some(b'/') => b'/',
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => return self.code_point(),
            Some(_) => {
                return Err(self.fault(self.position - 2, "an escape that JSON does not have"));
            }
            None => return Err(self.fault(self.token_start, "a string that never ends")),
        };
        self.unescaped.push(plain);
        Ok(())
    }

    /// Reads the digits of `\uXXXX`, and the second escape of a surrogate pair.
    fn code_point(&mut self) -> Result<(), ParseError> {
        let Some(unit) = hexadecimal(self.input, self.position) else {
            return Err(self.fault(self.position - 2, "\\u must be followed by four hex digits"));
        };
        self.position += 4;
        let mut code = unit;
        if (0xd800..0xdc00).contains(&unit)
            && self.input[self.position..].starts_with(b"\\u")
            && let Some(low @ 0xdc00..0xe000) = hexadecimal(self.input, self.position + 2)
        {
            self.position += 6;
            code = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
        }
        push_code_unit(&mut self.unescaped, code);
        Ok(())
    }

    /// An error at the token read last.
    pub(super) fn fault_at_token(&self, message: impl Into<String>) -> ParseError {
        self.fault(self.token_start, message)
    }

    pub(super) fn input_length(&self) -> usize {
        self.input.len()
    }

    fn fault(&self, offset: usize, message: impl Into<String>) -> ParseError {
        let before = &self.input[..offset.min(self.input.len())];
        let line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
        let line = 1 + memchr::memchr_iter(b'\n', before).count();
        let line_text = &before[line_start..];
        let line_text = line_text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line_text);
        let column = 1 + line_text.iter().filter(|&&byte| byte & 0xc0 != 0x80).count();
        ParseError { offset, line, column, message: message.into() }
    }
}

fn hexadecimal(input: &[u8], start: usize) -> Option<u32> {
    input
        .get(start..start + 4)?
        .iter()
        .try_fold(0, |value, &byte| char::from(byte).to_digit(16).map(|digit| (value << 4) | digit))
}

fn unexpected(byte: u8) -> String {
    if byte.is_ascii_graphic() {
        format!("unexpected {:?}", char::from(byte))
    } else {
        format!("unexpected byte 0x{byte:02x}")
    }
}
