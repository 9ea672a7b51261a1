//! Just enough of Postgres's lexical rules to cut a file into statements: strings, quoted names,
//! dollar quotes, nested comments, parentheses and SQL-standard routine bodies.
//!
//! `standard_conforming_strings` is taken to be on, as it is by default since 9.1.

/// A lexical element that matters when statements are told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A keyword or an unquoted name, in lower case.
    Word(String),
    /// A quoted name, unescaped.
    Quoted(String),
    /// A string or dollar-quoted literal, content ignored.
    Literal,
    /// Any other character.
    Symbol(char),
}

impl Token {
    /// Whether it is the keyword `word` (given in lower case).
    pub(super) fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word(own) if own == word)
    }
}

/// The table that `CREATE TABLE` makes, as (schema, name); None of a temporary one and of every
/// other statement.
pub(super) fn created_table(tokens: &[Token]) -> Option<(String, String)> {
    let rest = after_words(tokens, &["create"])?;
    let rest = after_words(rest, &["unlogged"]).unwrap_or(rest);
    let rest = after_words(rest, &["table"])?;
    let rest = after_words(rest, &["if", "not", "exists"]).unwrap_or(rest);
    Some(table_name(rest)?.0)
}

/// What `ALTER TABLE ... RENAME TO` makes of a table.
pub(super) fn renamed_table(tokens: &[Token]) -> Option<(String, String)> {
    let rest = after_words(tokens, &["alter", "table"])?;
    let rest = after_words(rest, &["if", "exists"]).unwrap_or(rest);
    let rest = after_words(rest, &["only"]).unwrap_or(rest);
    let ((schema, _), rest) = table_name(rest)?;
    let ((_, name), _) = table_name(after_words(rest, &["rename", "to"])?)?;
    Some((schema, name))
}

fn after_words<'t>(tokens: &'t [Token], words: &[&str]) -> Option<&'t [Token]> {
    let is_there =
        tokens.len() >= words.len() && tokens.iter().zip(words).all(|(token, word)| token.is(word));
    is_there.then(|| &tokens[words.len()..])
}

/// `name` or `schema.name`; without a schema it is in `public`.
fn table_name(tokens: &[Token]) -> Option<((String, String), &[Token])> {
    let name = |at: usize| match tokens.get(at)? {
        Token::Word(name) | Token::Quoted(name) => Some(name.clone()),
        _ => None,
    };
    let first = name(0)?;
    if tokens.get(1) == Some(&Token::Symbol('.')) {
        return Some(((first, name(2)?), &tokens[3..]));
    }
    Some((("public".to_owned(), first), &tokens[1..]))
}

/// Reads tokens from `sql`, skipping whitespace and comments.
struct Lexer<'a> {
    sql: &'a str,
    at: usize,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.sql[self.at..]
    }

    /// The next token and where it starts.
    fn next(&mut self) -> Option<(usize, Token)> {
        self.skip_blank();
        let start = self.at;
        let first = self.rest().chars().next()?;
        let token = match first {
            '\'' => self.string(false),
            '"' => self.quoted_name(),
            '$' => self.dollar(),
            _ if first.is_alphabetic() || first == '_' => self.word(),
            _ => {
                self.at += first.len_utf8();
                Token::Symbol(first)
            }
        };
        Some((start, token))
    }

    fn skip_blank(&mut self) {
        loop {
            let rest = self.rest();
            let blank = rest.len() - rest.trim_start().len();
            if blank > 0 {
                self.at += blank;
            } else if rest.starts_with("--") {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else if rest.starts_with("/*") {
                self.at += comment_length(rest);
            } else {
                return;
            }
        }
    }

    fn word(&mut self) -> Token {
        let rest = self.rest();
        if rest.starts_with(['e', 'E']) && rest[1..].starts_with('\'') {
            self.at += 1;
            return self.string(true);
        }
        let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
        let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let word = rest[..length].to_lowercase();
        self.at += length;
        Token::Word(word)
    }

    /// A string; with backslash escapes when written `E'..'`. Doubled quotes read as two strings
    /// side by side, which is the same to a splitter.
    fn string(&mut self, backslashes: bool) -> Token {
        let mut escaped = false;
        let mut length = self.rest().len();
        for (index, c) in self.rest().char_indices().skip(1) {
            if escaped {
                escaped = false;
            } else if backslashes && c == '\\' {
                escaped = true;
            } else if c == '\'' {
                if backslashes && self.rest()[index + 1..].starts_with('\'') {
                    escaped = true;
                    continue;
                }
                length = index + 1;
                break;
            }
        }
        self.at += length;
        Token::Literal
    }

    fn quoted_name(&mut self) -> Token {
        let mut name = String::new();
        let mut characters = self.rest().char_indices().skip(1).peekable();
        let mut length = self.rest().len();
        while let Some((index, c)) = characters.next() {
            if c != '"' {
                name.push(c);
            } else if characters.next_if(|(_, next)| *next == '"').is_some() {
                name.push('"');
            } else {
                length = index + 1;
                break;
            }
        }
        self.at += length;
        Token::Quoted(name)
    }

    /// `$tag$ .. $tag$`, or a lone `$` of a parameter.
    fn dollar(&mut self) -> Token {
        let rest = self.rest();
        let tag = rest[1..].find('$').map(|end| &rest[..end + 2]).filter(|tag| {
            let inner = &tag[1..tag.len() - 1];
            inner.chars().all(|c| c.is_alphanumeric() || c == '_')
                && !inner.starts_with(|c: char| c.is_ascii_digit())
        });
        let Some(tag) = tag else {
            self.at += 1;
            return Token::Symbol('$');
        };
        let body = &rest[tag.len()..];
        let length = body.find(tag).map_or(rest.len(), |end| tag.len() + end + tag.len());
        self.at += length;
        Token::Literal
    }
}

/// Bytes of the comment that `text` starts with; comments nest in Postgres.
fn comment_length(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    let bytes = text.as_bytes();
    while at < bytes.len() {
        match bytes.get(at..at + 2) {
            Some(b"/*") => {
                depth += 1;
                at += 2;
            }
            Some(b"*/") => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    text.len()
}

/// One statement: its text without the semicolon and leading comments, and its tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) text: String,
    pub(super) tokens: Vec<Token>,
}

/// Cuts `sql` into statements, empty ones left out.
pub(super) fn statements(sql: &str) -> Vec<Statement> {
    let mut lexer = Lexer { sql, at: 0 };
    let mut found = Vec::new();
    let mut tokens: Vec<Token> = Vec::new();
    let mut start = None;
    let (mut parentheses, mut body_depth) = (0_usize, 0_usize);
    while let Some((position, token)) = lexer.next() {
        match &token {
            Token::Symbol('(') => parentheses += 1,
            Token::Symbol(')') => parentheses = parentheses.saturating_sub(1),
            Token::Word(word) if is_routine(&tokens) => match word.as_str() {
                "begin" => body_depth += 1,
                "case" if body_depth > 0 => body_depth += 1,
                "end" => body_depth = body_depth.saturating_sub(1),
                _ => {}
            },
            _ => {}
        }
        if token == Token::Symbol(';') && parentheses == 0 && body_depth == 0 {
            if let Some(start) = start.take() {
                found.push(statement(&sql[start..position], std::mem::take(&mut tokens)));
            }
            continue;
        }
        start.get_or_insert(position);
        tokens.push(token);
    }
    if let Some(start) = start {
        found.push(statement(&sql[start..], tokens));
    }
    found
}

fn statement(text: &str, tokens: Vec<Token>) -> Statement {
    Statement { text: text.trim_end().to_owned(), tokens }
}

/// `CREATE [OR REPLACE] FUNCTION|PROCEDURE`: the body may be `BEGIN ATOMIC .. END` with semicolons.
fn is_routine(tokens: &[Token]) -> bool {
    let kind = match tokens {
        [create, or, replace, kind, ..] if or.is("or") && replace.is("replace") => {
            create.is("create").then_some(kind)
        }
        [create, kind, ..] => create.is("create").then_some(kind),
        _ => None,
    };
    kind.is_some_and(|kind| kind.is("function") || kind.is("procedure"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(sql: &str) -> Vec<String> {
        statements(sql).into_iter().map(|statement| statement.text).collect()
    }

    #[test]
    fn semicolons_inside_literals_names_and_comments_do_not_end_a_statement() {
        let sql = "select ';', \"a;\"\"b\" /* ; /* ; */ ; */ -- ;\n, \
                   $x$ ; $$ ; $x$, E'\\';', 'it''s;';\
                   \nselect $1;;\n  -- only a comment ;\n";
        let found = texts(sql);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("select ';'") && found[0].ends_with("'it''s;'"));
        assert_eq!(found[1], "select $1");
    }

    #[test]
    fn escape_strings_with_doubled_quotes_end_where_they_end() {
        assert_eq!(texts("select E'a''\\';b'; select 2"), ["select E'a''\\';b'", "select 2"]);
        assert_eq!(texts("select E'a\\\\'; select 2"), ["select E'a\\\\'", "select 2"]);
    }

    #[test]
    fn routine_bodies_and_parentheses_keep_their_semicolons() {
        let function = "create or replace function f() returns int language sql begin atomic \
                        select 1; select case when true then 1 end; end";
        let rule = "create rule r as on insert to t do (select 1; select 2)";
        assert_eq!(texts(&format!("{function};\n{rule};")), [function, rule]);
    }

    #[test]
    fn unfinished_literals_reach_to_the_end_without_a_panic() {
        for sql in
            ["select 'a;", "select \"a;", "select $$a;", "/* a;", "select E'a\\", "select ü;"]
        {
            let _ = statements(sql);
        }
    }
}
