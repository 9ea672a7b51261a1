//! Tokens to a document, with a stack of its own instead of recursion.

use super::lexer::{Lexer, ParseError, Token};
use super::{Json, JsonString};

/// How deep arrays and objects may nest.
pub const DEPTH_MAX: usize = 512;

/// Reads one JSON document.
///
/// The grammar is RFC 8259, strictly, plus what Python's `json.dumps` writes and what crashed or
/// careless writers leave, each kept for a policy to decide about:
///
/// - `NaN`, `Infinity`, `-Infinity` as numbers;
/// - lone surrogate escapes, kept as WTF-8; `\u0000`, kept as a NUL byte;
/// - raw bytes inside strings that are not UTF-8, kept as they are;
/// - duplicate keys, all kept in order;
/// - a leading UTF-8 byte order mark, skipped (Postgres's own json input refuses one).
///
/// Raw control characters inside strings are refused, as Postgres refuses them. Nesting deeper
/// than [`DEPTH_MAX`] is refused.
pub fn parse(bytes: &[u8]) -> Result<Json, ParseError> {
    let mut lexer = Lexer::new(bytes);
    let token = lexer.next()?;
    if token == Token::End {
        return Err(lexer.fault_at_token(empty_document(lexer.input_length())));
    }
    let value = read_value(&mut lexer, token)?;
    match lexer.next()? {
        Token::End => Ok(value),
        _ => Err(lexer.fault_at_token("text after the end of the document")),
    }
}

/// What stands at the beginning of a text that may go on beyond what is at hand.
#[derive(Debug, Clone, PartialEq)]
pub enum Prefix {
    /// A value, and the bytes it takes, white space before it included.
    Value(Json, usize),
    /// More of the text must be seen first.
    Incomplete,
}

/// Reads the one value at the beginning of `bytes`, as [`parse`] would, but for a byte order mark;
/// what follows it is not looked at. `is_last`: nothing comes after `bytes`.
///
/// A fault is named as soon as it is in sight, so that a window need not grow beyond it.
pub fn parse_prefix(bytes: &[u8], is_last: bool) -> Result<Prefix, ParseError> {
    let mut lexer = Lexer::inside(bytes);
    let read = lexer.next().and_then(|token| read_value(&mut lexer, token));
    match read {
        // A number that touches the end may go on.
        Ok(_) if !is_last && lexer.position() == bytes.len() => Ok(Prefix::Incomplete),
        Ok(value) => Ok(Prefix::Value(value, lexer.position())),
        Err(fault) if !is_last && lexer.ran_out(&fault) => Ok(Prefix::Incomplete),
        Err(fault) => Err(fault),
    }
}

/// Reads the value that begins with `token`, and nothing after it.
fn read_value(lexer: &mut Lexer<'_>, mut token: Token) -> Result<Json, ParseError> {
    let mut open: Vec<Open> = Vec::new();
    loop {
        // Here a value is due.
        let mut value = match token {
            Token::ArrayStart => {
                enter(&mut open, Open::Array(Vec::new()), lexer)?;
                token = lexer.next()?;
                if token != Token::ArrayEnd {
                    continue;
                }
                close(&mut open)
            }
            Token::ObjectStart => {
                enter(&mut open, Open::Object(Vec::new(), JsonString::default()), lexer)?;
                token = lexer.next()?;
                if token != Token::ObjectEnd {
                    token = read_key(lexer, token, &mut open)?;
                    continue;
                }
                close(&mut open)
            }
            scalar => scalar_value(scalar, lexer)?,
        };
        // Here `value` is complete; it may complete the containers around it.
        loop {
            let Some(container) = open.last_mut() else { return Ok(value) };
            token = lexer.next()?;
            match container {
                Open::Array(elements) => {
                    elements.push(value);
                    match token {
                        Token::Comma => token = lexer.next()?,
                        Token::ArrayEnd => {
                            value = close(&mut open);
                            continue;
                        }
                        other => return Err(expected(lexer, &other, "a comma or ]")),
                    }
                }
                Open::Object(members, key) => {
                    members.push((std::mem::take(key), value));
                    match token {
                        Token::Comma => {
                            token = lexer.next()?;
                            token = read_key(lexer, token, &mut open)?;
                        }
                        Token::ObjectEnd => {
                            value = close(&mut open);
                            continue;
                        }
                        other => return Err(expected(lexer, &other, "a comma or }")),
                    }
                }
            }
            break;
        }
    }
}

/// A container whose end has not been read yet.
enum Open {
    Array(Vec<Json>),
    /// Its members so far, and the key whose value is due.
    Object(Vec<(JsonString, Json)>, JsonString),
}

fn too_deep() -> String {
    format!("nesting deeper than {DEPTH_MAX} levels")
}

impl ParseError {
    /// Whether the only fault in sight is that arrays and objects nest too deeply: where the value
    /// ends can still be found.
    #[must_use]
    pub fn is_too_deep(&self) -> bool {
        self.message == too_deep()
    }
}

fn enter(open: &mut Vec<Open>, container: Open, lexer: &Lexer<'_>) -> Result<(), ParseError> {
    if open.len() == DEPTH_MAX {
        return Err(lexer.fault_at_token(too_deep()));
    }
    open.push(container);
    Ok(())
}

fn close(open: &mut Vec<Open>) -> Json {
    match open.pop() {
        // Room that was made for growth is given back: in a large document it adds up to more
        // than the values.
        Some(Open::Array(mut elements)) => {
            elements.shrink_to_fit();
            Json::Array(elements)
        }
        Some(Open::Object(mut members, _)) => {
            members.shrink_to_fit();
            Json::Object(members)
        }
        None => Json::Null,
    }
}

/// Reads `"key" :` beginning at `token` and returns the first token of the value.
fn read_key(lexer: &mut Lexer<'_>, token: Token, open: &mut [Open]) -> Result<Token, ParseError> {
    let Token::String(key) = token else {
        return Err(expected(lexer, &token, "a key in double quotes"));
    };
    let colon = lexer.next()?;
    if colon != Token::Colon {
        return Err(expected(lexer, &colon, "a colon"));
    }
    if let Some(Open::Object(_, due)) = open.last_mut() {
        *due = key;
    }
    lexer.next()
}

fn scalar_value(token: Token, lexer: &Lexer<'_>) -> Result<Json, ParseError> {
    Ok(match token {
        Token::Null => Json::Null,
        Token::Bool(value) => Json::Bool(value),
        Token::Number(text) => Json::Number(text),
        Token::String(bytes) => Json::String(bytes),
        other => return Err(expected(lexer, &other, "a value")),
    })
}

fn expected(lexer: &Lexer<'_>, found: &Token, what: &str) -> ParseError {
    let found = match found {
        Token::ObjectStart => "{",
        Token::ObjectEnd => "}",
        Token::ArrayStart => "[",
        Token::ArrayEnd => "]",
        Token::Colon => "a colon",
        Token::Comma => "a comma",
        Token::Null => "null",
        Token::Bool(_) => "a boolean",
        Token::Number(_) => "a number",
        Token::String(_) => "a string",
        Token::End => "the end of the input",
    };
    lexer.fault_at_token(format!("expected {what}, found {found}"))
}

fn empty_document(length: usize) -> String {
    let blank = if length == 0 { "" } else { " of white space" };
    format!("empty document ({length} bytes{blank}: the writer may have died)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::to_source_text;

    fn message(text: &[u8]) -> String {
        parse(text).unwrap_err().to_string()
    }

    fn text_of(source: &[u8]) -> Vec<u8> {
        parse(source).unwrap().as_bytes().unwrap().to_vec()
    }

    #[test]
    fn every_kind_of_value_is_read_in_order() {
        let document = parse(b" {\"a\":[1,-2.5e+3,true,false,null,\"x\"],\"b\":{},\"a\":[]}\r\n\t");
        let Json::Object(members) = document.unwrap() else { panic!("an object") };
        let keys: Vec<&[u8]> = members.iter().map(|(key, _)| &**key).collect();
        assert_eq!(keys, [b"a", b"b", b"a"]);
        assert_eq!(members[0].1.iter().count(), 6);
        assert_eq!(members[0].1.iter().nth(1).unwrap().as_number(), Some("-2.5e+3"));
    }

    #[test]
    fn what_python_writes_is_read() {
        for special in ["NaN", "Infinity", "-Infinity"] {
            assert_eq!(parse(special.as_bytes()).unwrap(), Json::Number(special.into()));
        }
        assert_eq!(text_of(br#""\ud83d\ude00""#), "😀".as_bytes());
        assert_eq!(text_of(br#""a\u0000b""#), b"a\0b");
        assert_eq!(text_of(br#""\ud800""#), b"\xed\xa0\x80");
        assert_eq!(text_of(br#""\udc00\ud83d\u0041""#), b"\xed\xb0\x80\xed\xa0\xbdA");
        assert_eq!(text_of(br#""\ud83d\ud83d\ude00""#), b"\xed\xa0\xbd\xf0\x9f\x98\x80");
        assert_eq!(text_of(br#""\"\\\/\b\f\n\r\t\u00e9""#), "\"\\/\u{8}\u{c}\n\r\té".as_bytes());
    }

    #[test]
    fn bytes_that_are_not_utf8_are_kept() {
        assert_eq!(text_of(b"\"a\xff\xc3(\""), b"a\xff\xc3(");
    }

    #[test]
    fn a_byte_order_mark_is_skipped_once_and_counts_in_offsets() {
        assert_eq!(parse(b"\xef\xbb\xbf[]").unwrap(), Json::Array(vec![]));
        let error = parse(b"\xef\xbb\xbf[x").unwrap_err();
        assert_eq!((error.offset, error.line, error.column), (4, 1, 2));
        assert!(parse(b"\xef\xbb\xbf\xef\xbb\xbf[]").is_err());
    }

    #[test]
    fn an_empty_document_says_so() {
        let expected = "empty document (0 bytes: the writer may have died)";
        assert_eq!(parse(b"").unwrap_err().message, expected);
        assert!(message(b" \n ").starts_with("empty document (3 bytes of white space"));
    }

    #[test]
    fn faults_name_their_place() {
        let error = parse("{\n  \"é\": 1,,\n}".as_bytes()).unwrap_err();
        assert_eq!((error.line, error.column), (2, 10));
        assert_eq!(error.message, "expected a key in double quotes, found a comma");
        let expected = "character with value 0x0a must be escaped inside a string \
                        at line 1, column 3 (byte 2)";
        assert_eq!(message(b"\"a\nb\""), expected);
        assert!(message(b"[1] 2").starts_with("text after the end"));
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in [
            "[",
            "[1,",
            "[1,]",
            "{",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":1,}",
            "{a:1}",
            "]",
            "[}",
            "\"",
            "\"\\",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12g4\"",
            "01",
            "-",
            "1.",
            ".5",
            "+1",
            "1e",
            "--1",
            "0x10",
            "1_0",
            "nul",
            "True",
            "nan",
            "-NaN",
            "infinity",
            "'a'",
            "1 2",
            "[1 2]",
            "/**/1",
            "{\"a\" 1}",
            "-01",
            "1.e5",
            "\u{a0}1",
            "\0",
            "nullx",
            "1a",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn nesting_is_limited() {
        let nested = |depth: usize| [vec![b'['; depth], vec![b']'; depth]].concat();
        assert!(parse(&nested(DEPTH_MAX)).is_ok());
        assert!(message(&nested(DEPTH_MAX + 1)).contains("deeper than 512 levels"));
        assert!(parse(&vec![b'['; 1 << 20]).is_err());
    }

    #[test]
    fn a_cut_document_is_incomplete_or_at_fault_where_the_whole_one_is() {
        let mut generator = crate::json::arbitrary::Generator::seeded(22);
        for round in 0..600 {
            let mut source = generator.document();
            source.extend_from_slice(b" , ");
            let whole = parse_prefix(&source, true);
            for cut in 0..source.len() {
                match parse_prefix(&source[..cut], false) {
                    Ok(Prefix::Incomplete) => {}
                    // A byte order mark is for the beginning of a document alone.
                    other => assert_eq!(other, whole, "{round} {cut}: {}", source.escape_ascii()),
                }
            }
        }
    }

    #[test]
    fn a_fault_is_named_before_the_end_is_in_sight() {
        let mut text = b"{\"a\": 1 {\"b\": 2}".to_vec();
        text.resize(1000, b' ');
        let fault = parse_prefix(&text, false).unwrap_err();
        assert_eq!((fault.offset, fault.line, fault.column), (8, 1, 9));
        let open = [b"\"a\n".as_slice(), &[b' '; 20]].concat();
        assert!(parse_prefix(&open, false).is_err());
    }

    #[test]
    fn generated_documents_survive_the_round_trip() {
        let mut generator = crate::json::arbitrary::Generator::seeded(20);
        for _ in 0..3000 {
            let source = generator.document();
            let document = parse(&source).unwrap();
            let written = to_source_text(&document);
            assert_eq!(parse(&written).unwrap(), document, "{}", source.escape_ascii());
        }
    }

    #[test]
    fn damaged_documents_never_panic() {
        let mut generator = crate::json::arbitrary::Generator::seeded(21);
        for _ in 0..3000 {
            let source = generator.damaged_document();
            if let Ok(document) = parse(&source) {
                assert_eq!(parse(&to_source_text(&document)).unwrap(), document);
            }
        }
    }
}
