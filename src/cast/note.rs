//! What a cast says beside its value: policies, ledger notes, refusals.

/// What to do with a value the target cannot hold as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Refuse the record; it is kept whole as a reject.
    #[default]
    Reject,
    /// Store the documented replacement and write a ledger entry with the original.
    Replace,
    /// Store NULL (JSON: null) and write a ledger entry with the original.
    Null,
}

/// The policies of one column.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policies {
    /// U+0000 in text or JSON strings. Replacement: U+FFFD.
    pub nul: Policy,
    /// NaN or an infinity where the target has none (JSON, integers, numeric infinity before
    /// Postgres 14). Replacement: the text `"NaN"`, `"Infinity"`, `"-Infinity"` in JSON.
    pub nan: Policy,
    /// Bytes that are not UTF-8, lone surrogates included. Replacement: U+FFFD per fault.
    pub invalid_utf8: Policy,
    /// A number outside the target's range, or one the target does not hold exactly (`inexact`,
    /// `scale`). Replacement: the nearest bound, the nearest number.
    pub overflow: Policy,
    /// Text longer than the target allows. Replacement: the first n characters.
    pub too_long: Policy,
    /// One object key given twice in JSON for jsonb. Replacement: the last value, as Postgres;
    /// null: JSON null.
    pub json_duplicate_keys: Policy,
    /// A value the cast cannot read at all. Only `reject` and `null` are allowed.
    pub unreadable: Policy,
    /// A foreign key that leads to no row. `null` for nullable columns, nothing replaces it.
    pub orphan: Policy,
    /// A numeric timestamp that is implausible in the column's unit and plausible in another.
    pub mixed_units: MixedUnits,
}

/// What to do with a number that seems to be counted in another unit than its column's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MixedUnits {
    /// Refuse the record.
    #[default]
    Reject,
    /// Read it in the column's unit all the same.
    Keep,
}

/// What the source held where a changed value was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Original {
    /// The original bytes.
    Bytes(Vec<u8>),
    /// A secret: only a keyed hash of it is kept.
    Secret([u8; 32]),
}

/// A value that was stored changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The rule that changed it: `nul`, `nan`, `invalid_utf8`, `overflow`, `too_long`,
    /// `json_duplicate_keys`, `redact_url_password`, ...
    pub rule: &'static str,
    /// Where inside the value, as a JSON pointer; None for a scalar.
    pub path: Option<String>,
    /// What the source held.
    pub original: Original,
}

/// Why a value cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Stable code: `nul`, `nan`, `invalid_utf8`, `overflow`, `too_long`, `invalid_json`,
    /// `invalid_uuid`, `invalid_timestamp`, `wrong_type`, `null_not_allowed`, ...
    pub reason: &'static str,
    /// One sentence for a person: what was found (shortened, without secrets), what is allowed.
    pub detail: String,
}

impl Refusal {
    /// A refusal with its stable code and sentence.
    pub fn new(reason: &'static str, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}
