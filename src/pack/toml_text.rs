//! Names and texts as a generated `pack.toml` spells them.

/// A TOML string on one line.
pub(crate) fn string(text: &str) -> String {
    let quoted = key(text);
    if quoted.starts_with('"') { quoted } else { format!("\"{quoted}\"") }
}

/// A TOML key, bare where it can be.
pub(crate) fn key(name: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !name.is_empty() && name.bytes().all(is_bare) {
        return name.to_owned();
    }
    let mut text = String::from("\"");
    for letter in name.chars() {
        match letter {
            '"' | '\\' => text.extend(['\\', letter]),
            letter if letter.is_control() => {
                text.push_str(&format!("\\u{:04X}", u32::from(letter)));
            }
            letter => text.push(letter),
        }
    }
    text.push('"');
    text
}

/// A TOML array of strings.
pub(crate) fn list<'n>(names: impl Iterator<Item = &'n String>) -> String {
    let names: Vec<String> = names.map(|name| string(name)).collect();
    format!("[{}]", names.join(", "))
}

/// For a comment.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
