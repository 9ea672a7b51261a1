//! One difference, and how its values are shown.

use serde::{Deserialize, Serialize};

use crate::canonical::{display_field, display_row, fields_of};
use crate::cast::redact::Redactor;
use crate::cast::redact_shown;
use crate::pack::plan::OutputPlan;

/// How a row differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// In the source, not in the target.
    Missing,
    /// In the target, not in the source.
    Extra,
    /// In both, with another value in a column.
    Changed,
    /// More than once under one key.
    Duplicate,
    /// Refused or changed by a rule, without a record of it.
    Unaccounted,
    /// A cast and a second, independent way read the source's value differently.
    Miscast,
}

impl Kind {
    /// All of them, the plainest first.
    pub const ALL: [Self; 6] = [
        Self::Missing,
        Self::Extra,
        Self::Changed,
        Self::Duplicate,
        Self::Unaccounted,
        Self::Miscast,
    ];

    /// As stored in `toolkit.parity_difference`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Changed => "changed",
            Self::Duplicate => "duplicate",
            Self::Unaccounted => "unaccounted",
            Self::Miscast => "miscast",
        }
    }
}

/// One difference: a row, or one column of a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Stream.
    pub stream: String,
    /// Slice of the target.
    pub target: String,
    /// How it differs.
    pub kind: Kind,
    /// Key columns and their values, as Postgres text.
    pub key: serde_json::Map<String, serde_json::Value>,
    /// Column, for a changed value.
    pub column: Option<String>,
    /// Value the source yields, shortened around the first difference, otherwise as it is, control
    /// characters included: whoever shows it escapes it for the medium. NULL is None. Of a miscast
    /// value: what the second way read. Of a missing row: its columns besides the key, shortened.
    pub source_value: Option<String>,
    /// Value the target holds; of a miscast value what the cast read; of an extra row its columns
    /// besides the key, shortened.
    pub target_value: Option<String>,
    /// Digest of the row the source yields, hexadecimal.
    pub source_digest: Option<String>,
    /// Digest of the row the target holds.
    pub target_digest: Option<String>,
    /// Source file and place in it.
    pub locator: Option<String>,
    /// Whether `source_value` is not what the source holds there, but the correction that
    /// `toolkit rejects retry` stored in place of it.
    #[serde(default)]
    pub corrected: bool,
    /// The slice and the digest of the key, where it is a row that differs.
    #[serde(skip)]
    pub(crate) row: Option<(usize, [u8; 16])>,
}

impl Difference {
    /// Of a whole row, with nothing said but which.
    pub(crate) fn of_row(
        stream: &str,
        target: String,
        kind: Kind,
        key: serde_json::Map<String, serde_json::Value>,
    ) -> Self {
        Self {
            stream: stream.to_owned(),
            target,
            kind,
            key,
            column: None,
            source_value: None,
            target_value: None,
            source_digest: None,
            target_digest: None,
            locator: None,
            corrected: false,
            row: None,
        }
    }
}

/// Longest value shown, in characters.
pub(super) const SHOWN_MAX: usize = 80;

/// The key of a row by column.
pub(super) fn key_of(
    output: &OutputPlan,
    tuple: &[u8],
    redactor: &Redactor,
) -> serde_json::Map<String, serde_json::Value> {
    let mut row = display_row(output, tuple);
    output
        .key
        .iter()
        .filter_map(|position| {
            let name = &output.columns[*position].name;
            let value = row.remove(name)?;
            let value = match value {
                serde_json::Value::String(text) => redacted(&text, redactor).into(),
                other => other,
            };
            Some((name.clone(), value))
        })
        .collect()
}

/// The columns in which two rows differ, each with both values, shortened.
pub(super) fn changed_columns(
    output: &OutputPlan,
    source: &[u8],
    target: &[u8],
    redactor: &Redactor,
) -> Vec<(String, Option<String>, Option<String>)> {
    let (left, right) = (fields_of(source), fields_of(target));
    let mut changed = Vec::new();
    for (position, column) in output.columns.iter().enumerate() {
        let one = std::iter::once(position);
        let differs =
            output.layout.digest_of(source, one.clone()) != output.layout.digest_of(target, one);
        if !differs {
            continue;
        }
        let ty = column.cast.ty();
        let show = |tuple: &[u8], range: &Option<std::ops::Range<usize>>| {
            range.clone().map(|range| redacted(&display_field(ty, &tuple[range]), redactor))
        };
        let (source_text, target_text) =
            shorten_pair(show(source, &left[position]), show(target, &right[position]));
        changed.push((column.name.clone(), source_text, target_text));
    }
    changed
}

/// Most characters of a whole row that are shown.
const ROW_SHOWN_MAX: usize = 1_000;

/// The columns of a row besides its key, as `column='value', ...`; values and row are cut.
pub(super) fn rest_of(output: &OutputPlan, tuple: &[u8], redactor: &Redactor) -> String {
    let mut shown = String::new();
    for (position, (name, value)) in display_row(output, tuple).into_iter().enumerate() {
        if output.key.contains(&position) {
            continue;
        }
        if shown.len() >= ROW_SHOWN_MAX {
            return format!("{shown}, {CUT}");
        }
        let value = match value {
            serde_json::Value::String(text) => {
                format!("'{}'", window(&redacted(&text, redactor), 0))
            }
            _ => "NULL".to_owned(),
        };
        let comma = if shown.is_empty() { "" } else { ", " };
        shown.push_str(&format!("{comma}{name}={value}"));
    }
    shown
}

/// The target may hold what a cast would have redacted; it is not shown either.
fn redacted(text: &str, redactor: &Redactor) -> String {
    String::from_utf8_lossy(&redact_shown(text.as_bytes(), redactor)).into_owned()
}

/// Marks the end at which a value was cut.
pub(super) const CUT: &str = "...";

/// Both values, cut to the same window around the first character in which they differ.
pub(crate) fn shorten_pair(
    left: Option<String>,
    right: Option<String>,
) -> (Option<String>, Option<String>) {
    let first_difference = match (&left, &right) {
        (Some(left), Some(right)) => {
            left.chars().zip(right.chars()).take_while(|(a, b)| a == b).count()
        }
        _ => 0,
    };
    let is_long = |text: &Option<String>| {
        text.as_ref().is_some_and(|text| text.chars().nth(SHOWN_MAX).is_some())
    };
    let start = if is_long(&left) || is_long(&right) {
        first_difference.saturating_sub(SHOWN_MAX / 4)
    } else {
        0
    };
    let cut = |text: String| window(&text, start);
    (left.map(cut), right.map(cut))
}

fn window(text: &str, start: usize) -> String {
    let mut shown = if start > 0 { CUT.to_owned() } else { String::new() };
    let mut rest = text.chars().skip(start);
    shown.extend(rest.by_ref().take(SHOWN_MAX));
    if rest.next().is_some() {
        shown.push_str(CUT);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_shown_around_the_character_in_which_they_differ() {
        let left = format!("{}X{}", "a".repeat(500), "b".repeat(500));
        let right = format!("{}Y{}", "a".repeat(500), "b".repeat(500));
        let (left, right) = shorten_pair(Some(left), Some(right));
        let (left, right) = (left.unwrap(), right.unwrap());
        assert!(left.contains("aX") && right.contains("aY"), "{left} / {right}");
        assert!(left.chars().count() <= SHOWN_MAX + 6);
    }

    #[test]
    fn a_short_value_is_shown_from_where_the_long_one_is() {
        let (left, right) =
            shorten_pair(Some("a".repeat(70) + "X"), Some("a".repeat(70) + "Y" + &"b".repeat(90)));
        assert_eq!(left.unwrap(), format!("...{}X", "a".repeat(20)));
        assert!(right.unwrap().starts_with(&format!("...{}Yb", "a".repeat(20))));
    }
}
