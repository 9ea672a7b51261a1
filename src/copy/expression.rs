//! Expressions of CHECKs, generated columns, partial and expression indexes, in Postgres's SQL:
//! only what means the same there for every value, everything else is left out in words.

use super::tokens::Token;
use crate::cast::PgType;
use crate::store::{quote_ident, quote_literal};

/// A column as expressions see it.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// Its name in the source.
    pub(super) source: String,
    /// Its name in the target.
    pub(super) target: String,
    pub(super) ty: PgType,
    /// Whether it compares as BINARY does.
    pub(super) is_binary: bool,
}

/// What an expression is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Integer,
    Numeric,
    Real,
    Text,
    Boolean,
    /// A jsonb column.
    Document,
    /// A column of a type that is compared only with itself.
    Other,
    Null,
}

/// A translated expression.
#[derive(Debug, Clone)]
pub(super) struct Typed {
    pub(super) sql: String,
    pub(super) kind: Kind,
    /// The literal it is.
    literal: Option<Token>,
}

type Read<T> = Result<T, String>;

/// A condition, as CHECK and WHERE need it.
pub(super) fn condition(tokens: &[Token], known: &[Known]) -> Read<String> {
    let mut reader = Reader { tokens, at: 0, known };
    let found = reader.disjunction()?;
    reader.end()?;
    truth(found).map(|typed| typed.sql)
}

/// A value, as expression indexes and generated columns need it.
pub(super) fn value(tokens: &[Token], known: &[Known]) -> Read<Typed> {
    let mut reader = Reader { tokens, at: 0, known };
    let found = reader.disjunction()?;
    reader.end()?;
    Ok(found)
}

fn uncertain<T>(what: impl std::fmt::Display) -> Read<T> {
    Err(format!("{what} has no certain translation"))
}

/// An expression where a truth value is wanted; `SQLite` takes numbers for it.
fn truth(typed: Typed) -> Read<Typed> {
    match typed.kind {
        Kind::Boolean => Ok(typed),
        Kind::Integer => Ok(made(format!("({} <> 0)", typed.sql), Kind::Boolean)),
        _ => uncertain("a text or a fraction as a condition"),
    }
}

fn made(sql: String, kind: Kind) -> Typed {
    Typed { sql, kind, literal: None }
}

struct Reader<'a> {
    tokens: &'a [Token],
    at: usize,
    known: &'a [Known],
}

impl Reader<'_> {
    fn end(&self) -> Read<()> {
        match self.tokens.get(self.at) {
            None => Ok(()),
            Some(token) => uncertain(shown(token)),
        }
    }

    fn takes(&mut self, keyword: &str) -> bool {
        let is_next = self.tokens.get(self.at).is_some_and(|token| token.is(keyword));
        self.at += usize::from(is_next);
        is_next
    }

    fn takes_sign(&mut self, signs: &[&'static str]) -> Option<&'static str> {
        let Some(Token::Sign(next)) = self.tokens.get(self.at) else { return None };
        let sign = signs.iter().find(|sign| *sign == next)?;
        self.at += 1;
        Some(sign)
    }

    fn needs_sign(&mut self, sign: &'static str) -> Read<()> {
        match self.takes_sign(&[sign]) {
            Some(_) => Ok(()),
            None => uncertain("what is not closed"),
        }
    }

    fn disjunction(&mut self) -> Read<Typed> {
        let mut left = self.conjunction()?;
        while self.takes("OR") {
            let right = truth(self.conjunction()?)?;
            left = made(format!("({} OR {})", truth(left)?.sql, right.sql), Kind::Boolean);
        }
        Ok(left)
    }

    fn conjunction(&mut self) -> Read<Typed> {
        let mut left = self.negation()?;
        while self.takes("AND") {
            let right = truth(self.negation()?)?;
            left = made(format!("({} AND {})", truth(left)?.sql, right.sql), Kind::Boolean);
        }
        Ok(left)
    }

    fn negation(&mut self) -> Read<Typed> {
        if self.takes("NOT") {
            let inner = truth(self.negation()?)?;
            return Ok(made(format!("(NOT {})", inner.sql), Kind::Boolean));
        }
        self.equality()
    }

    fn equality(&mut self) -> Read<Typed> {
        let mut left = self.order()?;
        loop {
            if let Some(sign) = self.takes_sign(&["=", "==", "<>", "!="]) {
                let right = self.order()?;
                let sign = if matches!(sign, "=" | "==") { "=" } else { "<>" };
                left = compared(&left, sign, &right)?;
            } else if self.takes("ISNULL") {
                left = made(format!("({} IS NULL)", left.sql), Kind::Boolean);
            } else if self.takes("NOTNULL") {
                left = made(format!("({} IS NOT NULL)", left.sql), Kind::Boolean);
            } else if self.takes("IS") {
                left = self.is_what(&left)?;
            } else {
                let start = self.at;
                let negated = self.takes("NOT");
                let word = if negated { "NOT " } else { "" };
                if negated && self.takes("NULL") {
                    left = made(format!("({} IS NOT NULL)", left.sql), Kind::Boolean);
                } else if self.takes("IN") {
                    left = self.member(&left, word)?;
                } else if self.takes("BETWEEN") {
                    left = self.between(&left, word)?;
                } else if self.takes("LIKE") {
                    left = self.like(&left, word)?;
                } else {
                    self.at = start;
                    return Ok(left);
                }
            }
        }
    }

    fn is_what(&mut self, left: &Typed) -> Read<Typed> {
        let negated = self.takes("NOT");
        if self.takes("NULL") {
            let word = if negated { "IS NOT NULL" } else { "IS NULL" };
            return Ok(made(format!("({} {word})", left.sql), Kind::Boolean));
        }
        uncertain("IS with a value")
    }

    fn member(&mut self, left: &Typed, word: &str) -> Read<Typed> {
        self.needs_sign("(")?;
        let mut all = Vec::new();
        loop {
            let next = self.disjunction()?;
            if next.literal.is_none() {
                return uncertain("IN with other than literals");
            }
            all.push(compared(left, "=", &next)?.sql);
            if self.takes_sign(&[","]).is_none() {
                break;
            }
        }
        self.needs_sign(")")?;
        Ok(made(format!("({word}({}))", all.join(" OR ")), Kind::Boolean))
    }

    fn between(&mut self, left: &Typed, word: &str) -> Read<Typed> {
        let low = self.order()?;
        if !self.takes("AND") {
            return uncertain("BETWEEN without AND");
        }
        let high = self.order()?;
        let (from, to) = (compared(left, ">=", &low)?, compared(left, "<=", &high)?);
        Ok(made(format!("({word}({} AND {}))", from.sql, to.sql), Kind::Boolean))
    }

    /// LIKE ignores the case of ASCII letters in `SQLite`: the same only where there are none.
    fn like(&mut self, left: &Typed, word: &str) -> Read<Typed> {
        let pattern = self.sum()?;
        let Some(Token::Text(text)) = &pattern.literal else {
            return uncertain("LIKE with other than a literal");
        };
        let has_letters = text.bytes().any(|byte| byte.is_ascii_alphabetic() || byte == b'\\');
        if has_letters || left.kind != Kind::Text || self.takes("ESCAPE") {
            return uncertain("LIKE with letters");
        }
        Ok(made(format!("({} {word}LIKE {})", left.sql, pattern.sql), Kind::Boolean))
    }

    fn order(&mut self) -> Read<Typed> {
        let mut left = self.sum()?;
        while let Some(sign) = self.takes_sign(&["<=", ">=", "<", ">"]) {
            let right = self.sum()?;
            left = compared(&left, sign, &right)?;
        }
        Ok(left)
    }

    fn sum(&mut self) -> Read<Typed> {
        let mut left = self.product()?;
        while let Some(sign) = self.takes_sign(&["+", "-"]) {
            let right = self.product()?;
            left = reckoned(&left, sign, &right)?;
        }
        Ok(left)
    }

    fn product(&mut self) -> Read<Typed> {
        let mut left = self.joined()?;
        while let Some(sign) = self.takes_sign(&["*"]) {
            let right = self.joined()?;
            left = reckoned(&left, sign, &right)?;
        }
        Ok(left)
    }

    fn joined(&mut self) -> Read<Typed> {
        let mut left = self.unary()?;
        while self.takes_sign(&["||"]).is_some() {
            let right = self.unary()?;
            let text = |typed: &Typed| match typed.kind {
                Kind::Text => Ok(typed.sql.clone()),
                Kind::Integer => Ok(format!("({})::text", typed.sql)),
                _ => uncertain("|| with other than text and integers"),
            };
            left = made(format!("({} || {})", text(&left)?, text(&right)?), Kind::Text);
        }
        Ok(left)
    }

    fn unary(&mut self) -> Read<Typed> {
        if self.takes_sign(&["-"]).is_some() {
            let inner = self.unary()?;
            return match (inner.kind, &inner.literal) {
                (Kind::Integer | Kind::Numeric | Kind::Real, Some(Token::Number(text))) => {
                    let literal = Some(Token::Number(format!("-{text}")));
                    Ok(Typed { sql: format!("(-{text})"), kind: inner.kind, literal })
                }
                _ => uncertain("a minus before other than a number"),
            };
        }
        self.primary()
    }

    fn primary(&mut self) -> Read<Typed> {
        let Some(token) = self.tokens.get(self.at).cloned() else { return uncertain("nothing") };
        self.at += 1;
        let opens = self.tokens.get(self.at) == Some(&Token::Sign("("));
        match &token {
            Token::Sign("(") => {
                let inner = self.disjunction()?;
                self.needs_sign(")")?;
                Ok(inner)
            }
            Token::Number(text) => {
                let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
                let kind = if is_plain { Kind::Integer } else { Kind::Real };
                let fits = if is_plain {
                    text.parse::<i64>().is_ok()
                } else {
                    text.parse::<f64>().is_ok()
                };
                if !fits {
                    return uncertain(text);
                }
                Ok(Typed { sql: text.clone(), kind, literal: Some(token) })
            }
            Token::Text(text) => {
                let sql = quote_literal(text).map_err(|error| error.detail().to_owned())?;
                Ok(Typed { sql: format!("{sql}::text"), kind: Kind::Text, literal: Some(token) })
            }
            Token::Word(name) if opens => self.function(&name.to_ascii_lowercase()),
            Token::Word(name) | Token::Quoted(name) => self.name(&token, name),
            _ => uncertain(shown(&token)),
        }
    }

    fn name(&self, token: &Token, name: &str) -> Read<Typed> {
        let known = self.known.iter().find(|known| known.source.eq_ignore_ascii_case(name));
        if let Some(known) = known {
            let sql = quote_ident(&known.target);
            let kind = match known.ty {
                PgType::Int8 => Kind::Integer,
                PgType::Numeric(_) => Kind::Numeric,
                PgType::Float8 => Kind::Real,
                PgType::Bool => Kind::Boolean,
                PgType::Jsonb => Kind::Document,
                PgType::Text(_) if known.is_binary => Kind::Text,
                PgType::Text(_) => {
                    return uncertain(format!("{name}, whose collation is not BINARY,"));
                }
                _ => Kind::Other,
            };
            return Ok(made(sql, kind));
        }
        if token.is("TRUE") || token.is("FALSE") {
            let value = if token.is("TRUE") { "1" } else { "0" };
            let literal = Some(Token::Number(value.to_owned()));
            return Ok(Typed { sql: value.to_owned(), kind: Kind::Integer, literal });
        }
        if token.is("NULL") {
            return Ok(made("NULL".to_owned(), Kind::Null));
        }
        uncertain(name)
    }

    fn function(&mut self, name: &str) -> Read<Typed> {
        self.needs_sign("(")?;
        let mut all = Vec::new();
        if self.takes_sign(&[")"]).is_none() {
            loop {
                all.push(self.disjunction()?);
                if self.takes_sign(&[","]).is_none() {
                    break;
                }
            }
            self.needs_sign(")")?;
        }
        let kinds: Vec<Kind> = all.iter().map(|typed| typed.kind).collect();
        let sqls: Vec<&str> = all.iter().map(|typed| typed.sql.as_str()).collect();
        match (name, kinds.as_slice(), sqls.as_slice()) {
            // Postgres counts characters, as SQLite does of text.
            ("length", [Kind::Text], [text]) => {
                Ok(made(format!("char_length({text})::bigint"), Kind::Integer))
            }
            // In SQLite only ASCII letters have two cases.
            ("lower" | "upper", [Kind::Text], [text]) => {
                Ok(made(format!("{name}({text} COLLATE \"C\")"), Kind::Text))
            }
            ("trim", [Kind::Text], [text]) => Ok(made(format!("btrim({text}, ' ')"), Kind::Text)),
            ("ltrim" | "rtrim", [Kind::Text], [text]) => {
                Ok(made(format!("{name}({text}, ' ')"), Kind::Text))
            }
            // Whatever is stored there is valid; of NULL it is NULL.
            ("json_valid", [Kind::Document], [document]) => {
                Ok(made(format!("({document} IS NOT NULL OR NULL::boolean)"), Kind::Boolean))
            }
            ("coalesce" | "ifnull", [first, second], [one, other])
                if first == second && is_number(*first)
                    || *first == Kind::Text && *second == Kind::Text =>
            {
                Ok(made(format!("coalesce({one}, {other})"), *first))
            }
            _ => uncertain(format!("{name}()")),
        }
    }
}

fn is_number(kind: Kind) -> bool {
    matches!(kind, Kind::Integer | Kind::Numeric | Kind::Real)
}

fn compared(left: &Typed, sign: &str, right: &Typed) -> Read<Typed> {
    let is_equality = matches!(sign, "=" | "<>");
    let plain = |left: &str, right: &str| made(format!("({left} {sign} {right})"), Kind::Boolean);
    match (left.kind, right.kind) {
        (left_kind, right_kind) if is_number(left_kind) && is_number(right_kind) => {
            // Two columns of different kinds of number are compared exactly by SQLite alone.
            let is_exact = left_kind == right_kind
                || left.literal.is_some()
                || right.literal.is_some()
                || ![left_kind, right_kind].contains(&Kind::Real);
            if is_exact {
                Ok(plain(&left.sql, &right.sql))
            } else {
                uncertain("INTEGER against REAL")
            }
        }
        (Kind::Text, Kind::Text) if is_equality => Ok(plain(&left.sql, &right.sql)),
        (Kind::Text, Kind::Text) => Ok(plain(&format!("{} COLLATE \"C\"", left.sql), &right.sql)),
        (Kind::Boolean, Kind::Integer) if is_equality => {
            let value = as_boolean(right)?;
            Ok(plain(&left.sql, value))
        }
        (Kind::Integer, Kind::Boolean) if is_equality => {
            let value = as_boolean(left)?;
            Ok(plain(value, &right.sql))
        }
        _ => uncertain(format!("{} {sign} {}", left.sql, right.sql)),
    }
}

fn as_boolean(literal: &Typed) -> Read<&'static str> {
    match &literal.literal {
        Some(Token::Number(text)) if text == "0" => Ok("false"),
        Some(Token::Number(text)) if text == "1" => Ok("true"),
        _ => uncertain("a boolean against other than 0 and 1"),
    }
}

fn reckoned(left: &Typed, sign: &str, right: &Typed) -> Read<Typed> {
    let sql = format!("({} {sign} {})", left.sql, right.sql);
    match (left.kind, right.kind) {
        (Kind::Integer, Kind::Integer) => Ok(made(sql, Kind::Integer)),
        (Kind::Real, Kind::Real) if left.literal.is_none() || right.literal.is_none() => {
            Ok(made(sql, Kind::Real))
        }
        _ => uncertain("reckoning with other than two integers or two REALs"),
    }
}

fn shown(token: &Token) -> String {
    match token {
        Token::Word(text) | Token::Number(text) => text.clone(),
        Token::Quoted(text) => format!("\"{text}\""),
        Token::Text(text) => format!("'{text}'"),
        Token::Blob(digits) => format!("x'{digits}'"),
        Token::Sign(sign) => (*sign).to_owned(),
    }
}

/// An expression as a person reads it.
pub(super) fn text(tokens: &[Token]) -> String {
    let mut text = String::new();
    for token in tokens {
        let is_tight = matches!(token, Token::Sign(")" | "," | "."))
            || text.ends_with(['(', '.'])
            || (*token == Token::Sign("(") && text.ends_with(char::is_alphanumeric));
        if !text.is_empty() && !is_tight {
            text.push(' ');
        }
        text.push_str(&shown(token));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::tokens::tokens;

    fn known() -> Vec<Known> {
        [
            ("n", PgType::Int8),
            ("price", PgType::Float8),
            ("name", PgType::Text(None)),
            ("active", PgType::Bool),
            ("at", PgType::Timestamptz),
        ]
        .map(|(name, ty)| Known {
            source: name.to_owned(),
            target: name.to_owned(),
            ty,
            is_binary: true,
        })
        .to_vec()
    }

    #[test]
    fn a_condition_means_the_same_in_postgres() {
        for (sqlite, postgres) in [
            ("n > 0", "(n > 0)"),
            ("n == 1 OR n is null", "((n = 1) OR (n IS NULL))"),
            ("active IN (0, 1)", "(((active = false) OR (active = true)))"),
            ("active", "active"),
            ("not n", "(NOT (n <> 0))"),
            ("name <> ''", "(name <> ''::text)"),
            ("name < 'b'", "(name COLLATE \"C\" < 'b'::text)"),
            ("price BETWEEN 0 AND 1.5", "(((price >= 0) AND (price <= 1.5)))"),
            ("length(name) <= 10", "(char_length(name)::bigint <= 10)"),
            ("name LIKE '%@%'", "(name LIKE '%@%'::text)"),
            ("at NOT NULL", "(at IS NOT NULL)"),
        ] {
            let found = condition(&tokens(sqlite).unwrap(), &known());
            // Every name is quoted.
            let plain = |text: &str| text.replace('"', "");
            assert_eq!(found.as_deref().map(plain), Ok(plain(postgres)), "{sqlite}");
        }
    }

    #[test]
    fn what_could_mean_something_else_is_refused() {
        for sqlite in [
            "name = 5",
            "name LIKE 'a%'",
            "name GLOB 'a*'",
            "n / 2 = 1",
            "n % 2 = 0",
            "at > '2024-01-01'",
            "typeof(n) = 'integer'",
            "name",
            "n = \"other\"",
            "active = 2",
            "n IN (SELECT 1)",
            "n = NULL",
            "(n > 0",
            "n -> 'a'",
        ] {
            let found = condition(&tokens(sqlite).unwrap(), &known());
            assert!(found.is_err(), "{sqlite}: {found:?}");
        }
    }
}
