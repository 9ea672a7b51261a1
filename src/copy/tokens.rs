//! `SQLite`'s SQL as tokens: enough to find what its pragmas do not tell (CHECKs, collations,
//! generated columns, deferred references) and to read expressions.

/// One token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A bare word: keyword, function or name.
    Word(String),
    /// A name in `"..."`, backticks or brackets; `"..."` may also be meant as a text.
    Quoted(String),
    /// `'...'`
    Text(String),
    /// `x'...'`, its digits.
    Blob(String),
    /// A number as written.
    Number(String),
    /// An operator or punctuation.
    Sign(&'static str),
}

impl Token {
    /// Whether it is this keyword.
    pub(super) fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    /// The name it can be.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Word(name) | Self::Quoted(name) => Some(name),
            _ => None,
        }
    }
}

/// Longer signs first.
const SIGNS: [&str; 28] = [
    "->>", "||", "->", "<<", ">>", "<=", ">=", "<>", "==", "!=", "(", ")", ",", ".", ";", "+", "-",
    "*", "/", "%", "<", ">", "=", "&", "|", "~", "?", ":",
];

/// The tokens of `sql`; None where it is not understood.
pub(super) fn tokens(sql: &str) -> Option<Vec<Token>> {
    let mut found = Vec::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        if first.is_whitespace() {
            rest = &rest[first.len_utf8()..];
        } else if rest.starts_with("--") {
            rest = rest.find('\n').map_or("", |at| &rest[at..]);
        } else if rest.starts_with("/*") {
            rest = rest.find("*/").map_or("", |at| &rest[at + 2..]);
        } else {
            let (token, length) = token(rest, first)?;
            found.push(token);
            rest = &rest[length..];
        }
    }
    Some(found)
}

fn token(rest: &str, first: char) -> Option<(Token, usize)> {
    match first {
        '\'' => quoted(rest, '\'').map(|(text, length)| (Token::Text(text), length)),
        '"' | '`' => quoted(rest, first).map(|(name, length)| (Token::Quoted(name), length)),
        '[' => {
            let end = rest.find(']')?;
            Some((Token::Quoted(rest[1..end].to_owned()), end + 1))
        }
        'x' | 'X' if rest[1..].starts_with('\'') => {
            let (digits, length) = quoted(&rest[1..], '\'')?;
            Some((Token::Blob(digits), length + 1))
        }
        _ if first.is_ascii_digit()
            || (first == '.' && rest[1..].starts_with(|next: char| next.is_ascii_digit())) =>
        {
            let length = number_length(rest);
            Some((Token::Number(rest[..length].to_owned()), length))
        }
        _ if first.is_alphabetic() || first == '_' || !first.is_ascii() => {
            let is_inside = |c: char| c.is_alphanumeric() || c == '_' || c == '$' || !c.is_ascii();
            let length = rest.find(|c| !is_inside(c)).unwrap_or(rest.len());
            Some((Token::Word(rest[..length].to_owned()), length))
        }
        _ => {
            let sign = SIGNS.into_iter().find(|sign| rest.starts_with(sign))?;
            Some((Token::Sign(sign), sign.len()))
        }
    }
}

/// Text in quotes, which are doubled inside; with the length of the whole.
fn quoted(rest: &str, quote: char) -> Option<(String, usize)> {
    let mut text = String::new();
    let mut inside = rest.char_indices().skip(1).peekable();
    while let Some((at, letter)) = inside.next() {
        if letter != quote {
            text.push(letter);
        } else if inside.peek().is_some_and(|(_, next)| *next == quote) {
            text.push(quote);
            inside.next();
        } else {
            return Some((text, at + 1));
        }
    }
    None
}

fn number_length(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    if bytes.len() > 2 && bytes[0] == b'0' && matches!(bytes[1], b'x' | b'X') {
        let is_hex = |byte: &&u8| byte.is_ascii_hexdigit();
        return 2 + bytes[2..].iter().take_while(is_hex).count();
    }
    let mut at = 0;
    while at < bytes.len() {
        let is_exponent = matches!(bytes[at], b'e' | b'E');
        let signed = is_exponent && matches!(bytes.get(at + 1), Some(b'+' | b'-'));
        if bytes[at].is_ascii_digit() || matches!(bytes[at], b'.' | b'_') || is_exponent {
            at += 1 + usize::from(signed);
        } else {
            break;
        }
    }
    at.min(bytes.len())
}

/// What a CREATE TABLE says beyond what pragmas tell.
#[derive(Debug, Default)]
pub(super) struct Declared {
    /// CHECKs: the constraint's name, and the expression.
    pub(super) checks: Vec<(Option<String>, Vec<Token>)>,
    /// Collations by column, upper-case.
    pub(super) collations: Vec<(String, String)>,
    /// Generated columns and their expressions.
    pub(super) generated: Vec<(String, Vec<Token>)>,
    /// Of each reference in its order: whether it is DEFERRABLE INITIALLY DEFERRED.
    pub(super) deferred: Vec<bool>,
    /// Whether AUTOINCREMENT is there.
    pub(super) autoincrement: bool,
}

/// Reads a CREATE TABLE; None where it is not understood.
pub(super) fn declared(sql: &str) -> Option<Declared> {
    let all = tokens(sql)?;
    let open = all.iter().position(|token| *token == Token::Sign("("))?;
    let body = &all[open..];
    let end = closing(body)?;
    let mut found = Declared::default();
    for definition in parts(&body[1..end]) {
        define(definition, &mut found)?;
    }
    Some(found)
}

/// Position of the parenthesis that closes the first token.
pub(super) fn closing(tokens: &[Token]) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Sign("(") => depth += 1,
            Token::Sign(")") => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// Splits at commas outside parentheses.
pub(super) fn parts(tokens: &[Token]) -> Vec<&[Token]> {
    let (mut depth, mut start, mut found) = (0_i32, 0, Vec::new());
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Sign("(") => depth += 1,
            Token::Sign(")") => depth -= 1,
            Token::Sign(",") if depth == 0 => {
                found.push(&tokens[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if start < tokens.len() {
        found.push(&tokens[start..]);
    }
    found
}

fn define(definition: &[Token], found: &mut Declared) -> Option<()> {
    let constraint = ["CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN"];
    let is_constraint =
        constraint.iter().any(|word| definition.first().is_some_and(|t| t.is(word)));
    let column = if is_constraint { None } else { definition.first().and_then(Token::name) };
    let mut at = usize::from(column.is_some());
    let mut name = None;
    while at < definition.len() {
        let token = &definition[at];
        let next = definition.get(at + 1);
        let opens = next == Some(&Token::Sign("("));
        if token.is("CONSTRAINT") {
            name = next.and_then(Token::name).map(str::to_owned);
            at += 2;
            continue;
        }
        if token.is("COLLATE") {
            let collation = next.and_then(Token::name)?.to_ascii_uppercase();
            found.collations.extend(column.map(|column| (column.to_owned(), collation)));
        } else if token.is("AUTOINCREMENT") {
            found.autoincrement = true;
        } else if token.is("REFERENCES") {
            found.deferred.push(is_deferred(&definition[at..]));
        } else if opens && (token.is("CHECK") || token.is("AS")) {
            let end = closing(&definition[at + 1..])?;
            let inside = definition[at + 2..at + 1 + end].to_vec();
            if token.is("CHECK") {
                found.checks.push((name.take(), inside));
            } else {
                found.generated.push((column?.to_owned(), inside));
            }
            at += end + 2;
            continue;
        }
        at += if *token == Token::Sign("(") { closing(&definition[at..])? + 1 } else { 1 };
    }
    Some(())
}

/// Whether the reference that begins here is checked at COMMIT.
fn is_deferred(tokens: &[Token]) -> bool {
    let rest = &tokens[1..];
    let end = rest.iter().position(|token| token.is("REFERENCES")).unwrap_or(rest.len());
    rest[..end].array_windows().any(|[a, b]| a.is("INITIALLY") && b.is("DEFERRED"))
        && !rest[..end].array_windows().any(|[a, b]| a.is("NOT") && b.is("DEFERRABLE"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pragmas_do_not_tell_is_read_from_the_statement() {
        let sql = "CREATE TABLE \"a,(b\" (id INTEGER PRIMARY KEY AUTOINCREMENT, -- a, b
            [na me] TEXT COLLATE NoCase CONSTRAINT short CHECK (length([na me]) < (3 + 4)) DEFAULT (1),
            n INT AS (id * 2) STORED, p REFERENCES q DEFERRABLE INITIALLY DEFERRED, /* , */
            r REFERENCES q (x), CHECK ('it''s' <> n), FOREIGN KEY (n) REFERENCES q NOT DEFERRABLE INITIALLY DEFERRED) STRICT";
        let found = declared(sql).unwrap();
        assert!(found.autoincrement);
        assert_eq!(found.collations, [("na me".to_owned(), "NOCASE".to_owned())]);
        assert_eq!(found.checks.len(), 2);
        assert_eq!(found.checks[0].0.as_deref(), Some("short"));
        assert_eq!(found.checks[1].1[0], Token::Text("it's".to_owned()));
        assert_eq!(found.generated.len(), 1);
        assert_eq!(found.deferred, [true, false, false]);
    }

    #[test]
    fn numbers_end_where_they_end() {
        let found = tokens("1+2.5e-3 0x1F,.5").unwrap();
        let numbers: Vec<&Token> =
            found.iter().filter(|token| matches!(token, Token::Number(_))).collect();
        assert_eq!(numbers.len(), 4, "{found:?}");
    }

    #[test]
    fn text_without_an_end_is_not_understood() {
        for sql in ["CREATE TABLE t (a DEFAULT 'x)", "CREATE TABLE t (a", "CREATE TABLE t ([a)"] {
            assert!(declared(sql).is_none(), "{sql}");
        }
    }
}
