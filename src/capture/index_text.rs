//! The expressions of a `SQLite` index, cut out of its `CREATE INDEX` text: no pragma tells them.

/// What stands inside a `CREATE INDEX`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct IndexText {
    /// The indexed terms, without collation and order.
    pub(super) terms: Vec<String>,
    /// The condition of a partial index.
    pub(super) condition: Option<String>,
}

/// A word, a quoted name or text, a bracket, or anything else, with where it stands.
struct Token<'a> {
    text: &'a str,
    at: usize,
}

/// Takes `CREATE [UNIQUE] INDEX n ON t (terms) [WHERE condition]` apart; None if it is not that.
pub(super) fn parse(sql: &str) -> Option<IndexText> {
    let tokens = tokens(sql);
    let open = tokens.iter().position(|token| token.text == "(")?;
    let mut depth = 0_usize;
    let mut found = IndexText::default();
    let mut start = open + 1;
    let mut end = None;
    for (number, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "(" => depth += 1,
            ")" => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    found.terms.push(term(sql, &tokens[start..number]));
                    end = Some(number);
                    break;
                }
            }
            "," if depth == 1 => {
                found.terms.push(term(sql, &tokens[start..number]));
                start = number + 1;
            }
            _ => {}
        }
    }
    let rest = tokens.get(end? + 1..)?;
    if let Some(first) = rest.first().filter(|first| first.text.eq_ignore_ascii_case("where")) {
        found.condition = Some(sql[first.at + first.text.len()..].trim().to_owned());
    }
    Some(found)
}

/// The text of a term, without `COLLATE x` and `ASC` or `DESC` behind it.
fn term(sql: &str, tokens: &[Token<'_>]) -> String {
    let mut kept = tokens;
    if let Some((last, before)) = kept.split_last()
        && ["asc", "desc"].iter().any(|word| last.text.eq_ignore_ascii_case(word))
        && !before.is_empty()
    {
        kept = before;
    }
    if let [before @ .., word, _] = kept
        && word.text.eq_ignore_ascii_case("collate")
        && !before.is_empty()
    {
        kept = before;
    }
    let (Some(first), Some(last)) = (kept.first(), kept.last()) else { return String::new() };
    sql[first.at..last.at + last.text.len()].to_owned()
}

fn tokens(sql: &str) -> Vec<Token<'_>> {
    let bytes = sql.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            quote @ (b'\'' | b'"' | b'`') => at = after_quoted(bytes, at, quote),
            b'[' => at = after(bytes, at, b"]"),
            b'-' if bytes.get(at + 1) == Some(&b'-') => {
                at = after(bytes, at, b"\n");
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                at = after(bytes, at + 2, b"*/");
                continue;
            }
            byte if byte.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            byte if is_word(byte) => {
                while at < bytes.len() && is_word(bytes[at]) {
                    at += 1;
                }
            }
            _ => at += 1,
        }
        tokens.push(Token { text: &sql[start..at], at: start });
    }
    tokens
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// The end of a quoted piece, doubled quotes inside it.
fn after_quoted(bytes: &[u8], start: usize, quote: u8) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        if bytes[at] == quote {
            if bytes.get(at + 1) != Some(&quote) {
                return at + 1;
            }
            at += 1;
        }
        at += 1;
    }
    bytes.len()
}

/// Behind the next `end`.
fn after(bytes: &[u8], from: usize, end: &[u8]) -> usize {
    let rest = &bytes[from..];
    let found = rest.windows(end.len()).position(|window| window == end);
    found.map_or(bytes.len(), |position| from + position + end.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_and_condition_come_out_as_they_were_written() {
        let sql = "CREATE UNIQUE INDEX \"a (b\" ON t(lower(\"na,me\") COLLATE NOCASE DESC, b /* , */,\n\
                   coalesce(c, 'x)y') ASC) -- end\n WHERE d IS NOT NULL AND e IN (1, 2)";
        assert_eq!(
            parse(sql).unwrap(),
            IndexText {
                terms: vec![
                    "lower(\"na,me\")".to_owned(),
                    "b".to_owned(),
                    "coalesce(c, 'x)y')".to_owned()
                ],
                condition: Some("d IS NOT NULL AND e IN (1, 2)".to_owned()),
            }
        );
        assert_eq!(parse("CREATE INDEX i ON t").as_ref(), None);
        assert_eq!(parse("CREATE INDEX i ON t (a)").unwrap().terms, ["a"]);
    }
}
