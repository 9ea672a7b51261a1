//! Command lines that people paste.

/// A word as a shell takes it: quoted where it needs to be.
pub(crate) fn shell_word(text: &str) -> String {
    let is_plain = |letter: char| letter.is_alphanumeric() || "_./-=:@%+,".contains(letter);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::shell_word;

    #[test]
    fn words_for_a_shell_are_quoted_only_where_they_must() {
        assert_eq!(shell_word("/data/app"), "/data/app");
        assert_eq!(shell_word("my app's"), r"'my app'\''s'");
        assert_eq!(shell_word(""), "''");
    }
}
