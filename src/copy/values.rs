//! DEFAULTs: what they are in Postgres, where that is certain.

use super::infer::{Choice, takes_literal};
use super::tokens::{Token, tokens};
use crate::cast::{PgType, Value};
use crate::store::quote_literal;

/// A default that `SQLite` computes from the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Now {
    /// `YYYY-MM-DD HH:MM:SS`, UTC
    Moment,
    /// `YYYY-MM-DD`, UTC
    Date,
    /// `HH:MM:SS`, UTC
    Time,
    /// Seconds since 1970
    Epoch,
    /// `YYYY-MM-DDTHH:MM:SS.SSSZ`
    IsoMillis,
    /// `YYYY-MM-DDTHH:MM:SSZ`
    Iso,
}

/// Whether a default is a moment in UTC, written as ISO text.
pub(super) fn is_now(default: &str) -> bool {
    let read = tokens(default);
    read.as_deref()
        .map(unwrapped)
        .and_then(now)
        .is_some_and(|now| matches!(now, Now::Moment | Now::IsoMillis | Now::Iso))
}

/// What a default becomes: `Ok(None)` where there is none, an error in words where it is left out.
pub(super) fn default_sql(
    choice: &Choice,
    default: Option<&str>,
) -> Result<Option<String>, String> {
    let Some(default) = default else { return Ok(None) };
    let left_out = || format!("DEFAULT {default}: no certain translation");
    let all = tokens(default).ok_or_else(left_out)?;
    let inner = unwrapped(&all);
    if let [only] = inner
        && only.is("NULL")
    {
        return Ok(None);
    }
    if let Some(now) = now(inner) {
        return now_sql(now, &choice.ty).map(Some).ok_or_else(left_out);
    }
    literal(choice, inner).map(Some).ok_or_else(left_out)
}

/// The tokens inside parentheses that enclose all of them.
fn unwrapped(mut tokens: &[Token]) -> &[Token] {
    while tokens.first() == Some(&Token::Sign("("))
        && super::tokens::closing(tokens) == Some(tokens.len() - 1)
    {
        tokens = &tokens[1..tokens.len() - 1];
    }
    tokens
}

fn now(tokens: &[Token]) -> Option<Now> {
    let is = |token: &Token, word: &str| token.is(word);
    let text = |token: &Token| match token {
        Token::Text(text) => Some(text.to_ascii_lowercase()),
        _ => None,
    };
    match tokens {
        [one] if is(one, "CURRENT_TIMESTAMP") => Some(Now::Moment),
        [one] if is(one, "CURRENT_DATE") => Some(Now::Date),
        [one] if is(one, "CURRENT_TIME") => Some(Now::Time),
        [function, Token::Sign("("), Token::Sign(")")] if is(function, "unixepoch") => {
            Some(Now::Epoch)
        }
        [function, Token::Sign("("), moment, Token::Sign(")")] if text(moment)? == "now" => {
            let known = [
                ("datetime", Now::Moment),
                ("date", Now::Date),
                ("time", Now::Time),
                ("unixepoch", Now::Epoch),
            ];
            known.into_iter().find(|(name, _)| is(function, name)).map(|(_, now)| now)
        }
        [
            function,
            Token::Sign("("),
            Token::Text(format),
            Token::Sign(","),
            moment,
            Token::Sign(")"),
        ] if is(function, "strftime") && text(moment)? == "now" => match format.as_str() {
            "%s" => Some(Now::Epoch),
            "%Y-%m-%d %H:%M:%S" => Some(Now::Moment),
            "%Y-%m-%d" => Some(Now::Date),
            "%Y-%m-%dT%H:%M:%fZ" => Some(Now::IsoMillis),
            "%Y-%m-%dT%H:%M:%SZ" => Some(Now::Iso),
            _ => None,
        },
        _ => None,
    }
}

fn now_sql(now: Now, ty: &PgType) -> Option<String> {
    let utc = "(now() AT TIME ZONE 'UTC')";
    let written = |format: &str| format!("to_char({utc}, {format})");
    let is_moment = matches!(now, Now::Moment | Now::IsoMillis | Now::Iso);
    Some(match (ty, now) {
        (PgType::Timestamptz, _) if is_moment || now == Now::Epoch => {
            "CURRENT_TIMESTAMP".to_owned()
        }
        (PgType::Timestamp, _) if is_moment => utc.to_owned(),
        (PgType::Date, Now::Date) => format!("({utc}::date)"),
        (PgType::Time, Now::Time) => format!("({utc}::time)"),
        (PgType::Int8, Now::Epoch) => "(floor(extract(epoch FROM now()))::bigint)".to_owned(),
        (PgType::Text(None), Now::Moment) => written("'YYYY-MM-DD HH24:MI:SS'"),
        (PgType::Text(None), Now::Date) => written("'YYYY-MM-DD'"),
        (PgType::Text(None), Now::Time) => written("'HH24:MI:SS'"),
        (PgType::Text(None), Now::IsoMillis) => written("'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'"),
        (PgType::Text(None), Now::Iso) => written("'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'"),
        _ => return None,
    })
}

fn literal(choice: &Choice, tokens: &[Token]) -> Option<String> {
    let (sign, token) = match tokens {
        [Token::Sign("-"), number @ Token::Number(_)] => ("-", number),
        [Token::Sign("+"), number @ Token::Number(_)] | [number] => ("", number),
        _ => return None,
    };
    match token {
        Token::Number(text) => number(choice, &format!("{sign}{text}")),
        // In a DEFAULT double quotes hold a text.
        Token::Text(text) | Token::Quoted(text) => self::text(choice, text),
        Token::Blob(digits) => match choice.ty {
            PgType::Bytea if digits.len() % 2 == 0 => {
                Some(format!("'\\x{}'::bytea", digits.to_ascii_lowercase()))
            }
            _ => None,
        },
        Token::Word(word) => {
            let value = if word.eq_ignore_ascii_case("true") {
                1
            } else if word.eq_ignore_ascii_case("false") {
                0
            } else {
                return None;
            };
            number(choice, &value.to_string())
        }
        Token::Sign(_) => None,
    }
}

fn number(choice: &Choice, text: &str) -> Option<String> {
    let whole = text.parse::<i64>().ok();
    match &choice.ty {
        PgType::Bool => whole.filter(|n| matches!(n, 0 | 1)).map(|n| (n == 1).to_string()),
        PgType::Int8 => whole.map(|n| if n < 0 { format!("({n})") } else { n.to_string() }),
        PgType::Float8 | PgType::Numeric(_) => {
            let value = text.parse::<f64>().ok().filter(|value| value.is_finite())?;
            let fits = match whole {
                Some(whole) => takes_literal(choice, Value::Integer(whole)),
                None => takes_literal(choice, Value::Real(value)),
            };
            fits.then(|| if text.starts_with('-') { format!("({text})") } else { text.to_owned() })
        }
        // Affinity makes text of it; a fraction's spelling is SQLite's affair.
        PgType::Text(None) => quote_literal(&whole?.to_string()).ok(),
        _ => None,
    }
}

fn text(choice: &Choice, text: &str) -> Option<String> {
    let quoted = quote_literal(text).ok()?;
    match &choice.ty {
        PgType::Text(None) => Some(quoted),
        // Affinity makes a number of a text that is one.
        PgType::Int8 | PgType::Float8 | PgType::Numeric(_) => {
            text.parse::<i64>().ok().and_then(|n| number(choice, &n.to_string()))
        }
        PgType::Bool if takes_literal(choice, Value::Text(text.as_bytes())) => {
            let is_true = ["1", "t", "true", "y", "yes", "on"];
            Some(is_true.contains(&text.to_ascii_lowercase().as_str()).to_string())
        }
        PgType::Jsonb
            if matches!(text.trim_ascii_start().as_bytes().first(), Some(b'{' | b'[')) =>
        {
            takes_literal(choice, Value::Text(text.as_bytes())).then(|| format!("{quoted}::jsonb"))
        }
        PgType::Uuid if takes_literal(choice, Value::Text(text.as_bytes())) => {
            Some(format!("{quoted}::uuid"))
        }
        PgType::Date if takes_literal(choice, Value::Text(text.as_bytes())) => {
            Some(format!("{quoted}::date"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cast::CastOptions;

    fn becomes(ty: PgType, default: &str) -> Option<String> {
        let choice = Choice { ty, options: CastOptions::default(), why: String::new(), hint: None };
        default_sql(&choice, Some(default)).ok().flatten()
    }

    #[test]
    fn a_default_keeps_its_value_in_the_type_of_its_column() {
        for (ty, default, wanted) in [
            (PgType::Int8, "0", "0"),
            (PgType::Int8, "(-1)", "(-1)"),
            (PgType::Bool, "1", "true"),
            (PgType::Bool, "'f'", "false"),
            (PgType::Text(None), "'it''s'", "'it''s'"),
            (PgType::Text(None), "\"draft\"", "'draft'"),
            (PgType::Text(None), "5", "'5'"),
            (PgType::Jsonb, "'{}'", "'{}'::jsonb"),
            (PgType::Float8, "0.5", "0.5"),
            (PgType::Bytea, "x'00FF'", "'\\x00ff'::bytea"),
            (PgType::Timestamptz, "CURRENT_TIMESTAMP", "CURRENT_TIMESTAMP"),
            (PgType::Timestamp, "(datetime('now'))", "(now() AT TIME ZONE 'UTC')"),
        ] {
            assert_eq!(becomes(ty, default).as_deref(), Some(wanted), "{default}");
        }
    }

    #[test]
    fn what_is_not_certain_is_left_out_in_words() {
        for (ty, default) in [
            (PgType::Int8, "'many'"),
            (PgType::Int8, "1.5"),
            (PgType::Timestamp, "(datetime('now', 'localtime'))"),
            (PgType::Text(None), "(lower(hex(randomblob(16))))"),
            (PgType::Bool, "2"),
            (PgType::Jsonb, "'{'"),
        ] {
            let choice =
                Choice { ty, options: CastOptions::default(), why: String::new(), hint: None };
            let why = default_sql(&choice, Some(default)).unwrap_err();
            assert!(why.contains(default), "{why}");
        }
        assert_eq!(becomes(PgType::Int8, "NULL"), None);
    }
}
