//! Array literals as Postgres prints and reads them.

/// The elements of a literal of one dimension whose lower bound is 1; None of any other.
pub(crate) fn elements(literal: &str) -> Option<Vec<Option<String>>> {
    let inside = literal.strip_prefix('{')?.strip_suffix('}')?;
    let mut elements = Vec::new();
    if inside.is_empty() {
        return Some(elements);
    }
    let mut rest = inside;
    loop {
        let after = if let Some(quoted) = rest.strip_prefix('"') {
            let (element, after) = unquoted(quoted)?;
            elements.push(Some(element));
            after
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            let bare = &rest[..end];
            if bare.is_empty() || bare.contains(['{', '}', '"', '\\']) {
                return None;
            }
            elements.push((bare != "NULL").then(|| bare.to_owned()));
            &rest[end..]
        };
        if after.is_empty() {
            return Some(elements);
        }
        rest = after.strip_prefix(',')?;
    }
}

/// The element up to the closing quote, and what follows it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut element = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((element, &text[at + 1..])),
            '\\' => element.push(letters.next()?.1),
            letter => element.push(letter),
        }
    }
    None
}

/// The literal of an array, every element quoted.
pub(crate) fn array<'e>(elements: impl IntoIterator<Item = Option<&'e str>>) -> String {
    let mut literal = String::from("{");
    for (at, element) in elements.into_iter().enumerate() {
        if at > 0 {
            literal.push(',');
        }
        match element {
            None => literal.push_str("NULL"),
            Some(text) => push_quoted(&mut literal, text),
        }
    }
    literal.push('}');
    literal
}

/// Adds an element in quotes.
pub(super) fn push_quoted(literal: &mut String, text: &str) {
    literal.push('"');
    for letter in text.chars() {
        if matches!(letter, '"' | '\\') {
            literal.push('\\');
        }
        literal.push(letter);
    }
    literal.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_literal_quotes_what_has_a_meaning_there() {
        let texts = ["a,b", "\"q\"", "\\", "{}", "NULL", ""].map(Some);
        assert_eq!(array(texts), r#"{"a,b","\"q\"","\\","{}","NULL",""}"#);
    }

    #[test]
    fn elements_come_back_and_other_shapes_are_left_alone() {
        let row = ["", "NULL", "a,b", "{x}", "q\"\\", "\n", "é"].map(|text| Some(text.to_owned()));
        let row = [&row[..], &[None]].concat();
        assert_eq!(elements(&array(row.iter().map(Option::as_deref))), Some(row));
        assert_eq!(elements("{}"), Some(Vec::new()));
        assert_eq!(elements("{1,NULL}"), Some(vec![Some("1".to_owned()), None]));
        for other in ["[0:1]={1,2}", "{{1},{2}}", "{", "", "{,}", "{\"a}", "{\"a\"b}"] {
            assert_eq!(elements(other), None, "{other}");
        }
    }
}
