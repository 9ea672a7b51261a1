//! How kept records and originals are shown on a terminal.

use sqlx::PgConnection;

use super::Output;
use crate::config::Settings;
use crate::error::Result;
use crate::ledger::Bytes;
use crate::pack::Pack;
use crate::store::Postgres;

/// A pack's name, also where its folder is given, as other commands want it.
pub(super) fn pack_name(given: &str) -> std::result::Result<String, String> {
    let path = std::path::Path::new(given);
    if !path.join("pack.toml").is_file() && !path.is_file() {
        return Ok(given.to_owned());
    }
    let pack = Pack::find(given).map_err(|error| error.to_string())?;
    Ok(pack.name().to_owned())
}

/// How much of a list is wanted.
#[derive(Debug, clap::Args)]
pub(super) struct Listing {
    /// Most rows listed, from 1 to 10000
    #[arg(long, value_name = "N", default_value_t = 50,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) limit: u32,
}

/// Kinds, the first rows, how many more there are, and how one is shown.
pub(super) fn listing_text(
    groups: &comfy_table::Table,
    rows: &comfy_table::Table,
    more: i64,
    end: &str,
) -> String {
    format!("{}\n\n{}{}\n\n{end}", groups.trim_fmt(), rows.trim_fmt(), more_text(more))
}

/// Connects, lets `act` work on one connection, and disconnects.
pub(super) async fn on_connection<T>(
    settings: &Settings,
    output: &Output,
    act: impl AsyncFnOnce(&mut PgConnection) -> Result<T>,
) -> Result<T> {
    let postgres = output.stop().unless(Postgres::connect(settings)).await?;
    let work = async {
        let mut connection = postgres.dedicated().await?;
        act(&mut connection).await
    };
    let done = output.stop().unless(work).await;
    let closed = postgres.close().await;
    let done = done?;
    closed?;
    Ok(done)
}

fn more_text(more: i64) -> String {
    if more > 0 { format!("\n... and {more} more: --limit shows them") } else { String::new() }
}

/// `shop.db, rowid 17`; a set of documents names itself by its file.
pub(super) fn place_text(source: &str, locator: &str) -> String {
    if source.is_empty() { locator.to_owned() } else { format!("{source}, {locator}") }
}

/// Text from a source for one line of a terminal: control characters are escaped, so that no
/// record can move the cursor or fake a line.
pub(super) fn shown(text: &str) -> String {
    escaped(text, false)
}

fn escaped(text: &str, keep_lines: bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '\t' if keep_lines => shown.push(letter),
            // Bidirectional overrides reorder what is read; U+200E, U+200F are harmless marks.
            _ if letter.is_control()
                || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                shown.extend(letter.escape_unicode());
            }
            _ => shown.push(letter),
        }
    }
    shown
}

/// A whole record: JSON with a line per member, other text as it is, other bytes hexadecimal.
pub(super) fn record_text(record: Option<&Bytes>) -> String {
    match record {
        None => "(not kept)".to_owned(),
        Some(Bytes::Text(text)) if text.is_empty() => {
            "(empty, or withheld because a secret could not be removed safely)".to_owned()
        }
        Some(Bytes::Text(text)) => {
            let is_json = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
            escaped(&if is_json { indented(text) } else { text.clone() }, true)
        }
        Some(Bytes::Hex(hex)) => {
            let lines: Vec<&str> = hex
                .as_bytes()
                .chunks(64)
                .map(|line| std::str::from_utf8(line).unwrap_or_default())
                .collect();
            lines.join("\n")
        }
    }
}

/// Breaks JSON into lines without touching a token: numbers keep their digits, keys their order.
fn indented(json: &str) -> String {
    let mut text = String::with_capacity(json.len() * 2);
    let mut depth = 0_usize;
    let (mut in_string, mut is_escaped) = (false, false);
    let mut letters = json.chars().peekable();
    while let Some(letter) = letters.next() {
        if in_string {
            text.push(letter);
            in_string = is_escaped || letter != '"';
            is_escaped = letter == '\\' && !is_escaped;
            continue;
        }
        match letter {
            '"' => {
                in_string = true;
                text.push(letter);
            }
            '{' | '[' => {
                text.push(letter);
                while letters.next_if(char::is_ascii_whitespace).is_some() {}
                if let Some(end) = letters.next_if(|next| matches!(next, '}' | ']')) {
                    text.push(end);
                } else {
                    depth += 1;
                    new_line(&mut text, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut text, depth);
                text.push(letter);
            }
            ',' => {
                text.push(letter);
                new_line(&mut text, depth);
            }
            ':' => text.push_str(": "),
            _ if letter.is_ascii_whitespace() => {}
            _ => text.push(letter),
        }
    }
    text
}

fn new_line(text: &mut String, depth: usize) {
    text.push('\n');
    text.extend(std::iter::repeat_n("  ", depth));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_broken_into_lines_and_its_tokens_are_untouched() {
        let json = r#"{"b":1.50, "a":[ ],"c":{"\"{,\\":[1e400,"x:y"]}}"#;
        let lines = "{\n  \"b\": 1.50,\n  \"a\": [],\n  \"c\": {\n    \"\\\"{,\\\\\": [\n      \
                     1e400,\n      \"x:y\"\n    ]\n  }\n}";
        assert_eq!(indented(json), lines);
    }

    #[test]
    fn no_record_can_move_the_cursor() {
        let text = "a\u{1b}[2Jb\r\n\u{202e}c";
        assert_eq!(shown(text), "a\\u{1b}[2Jb\\u{d}\\u{a}\\u{202e}c");
        let record = record_text(Some(&Bytes::Text(text.to_owned())));
        assert_eq!(record, "a\\u{1b}[2Jb\\u{d}\n\\u{202e}c");
    }

    #[test]
    fn bytes_that_are_no_text_are_hexadecimal_lines() {
        let text = record_text(Some(&Bytes::Hex("ab".repeat(40))));
        assert_eq!(text, format!("{}\n{}", "ab".repeat(32), "ab".repeat(8)));
    }
}
