//! What a pack says about one column's cast.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::note::Policies;

/// A cast other than the natural one of the target's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CastName {
    /// Text columns; the natural cast by its name. Integers, REALs and JSON scalars are stored as
    /// their text with a ledger entry `class_to_text`.
    Text,
    /// Text columns: arrays and objects are stored as their JSON text.
    JsonText,
    /// uuid columns: a BLOB of 16 bytes.
    UuidBytes,
    /// uuid columns: the UUID of version 5 (RFC 9562) of a text in the option `namespace`, so that one
    /// name has one id wherever it is met.
    UuidV5,
    /// Timestamps: numbers are seconds since 1970; ISO text is refused.
    EpochS,
    /// Timestamps: numbers are milliseconds since 1970; ISO text is refused.
    EpochMs,
    /// Timestamps: numbers are microseconds since 1970; ISO text is refused.
    EpochUs,
    /// interval columns: a number of seconds, as integer, REAL or text.
    IntervalSeconds,
    /// bytea columns: text of hexadecimal digits, with or without `\x`.
    ByteaHex,
    /// bytea columns: the bytes of a text, whatever they are. Integers and REALs are stored as
    /// their text's with a ledger entry `class_to_text`.
    ByteaText,
}

impl CastName {
    /// The unit an epoch cast reads.
    #[must_use]
    pub fn epoch_unit(self) -> Option<EpochUnit> {
        match self {
            Self::EpochS => Some(EpochUnit::S),
            Self::EpochMs => Some(EpochUnit::Ms),
            Self::EpochUs => Some(EpochUnit::Us),
            _ => None,
        }
    }
}

/// The unit of numeric timestamps, counted from 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EpochUnit {
    /// Seconds
    S,
    /// Milliseconds
    Ms,
    /// Microseconds
    Us,
}

impl EpochUnit {
    /// Microseconds of one unit.
    #[must_use]
    pub fn micros(self) -> i64 {
        match self {
            Self::S => 1_000_000,
            Self::Ms => 1_000,
            Self::Us => 1,
        }
    }

    /// The unit in which a number is a moment from 3 March 1973 (10^8 seconds) to the end of
    /// 2099. The windows of the three units do not overlap; below and between them is None.
    #[must_use]
    pub fn suggested_by(number: f64) -> Option<Self> {
        let window = 1e8..4_102_444_800.0;
        [(Self::S, 1.0), (Self::Ms, 1e3), (Self::Us, 1e6)]
            .into_iter()
            .find(|(_, per_second)| window.contains(&(number / per_second)))
            .map(|(unit, _)| unit)
    }

    /// For a sentence.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::S => "seconds",
            Self::Ms => "milliseconds",
            Self::Us => "microseconds",
        }
    }

    /// Decimal digits between the unit and the microsecond.
    pub(super) fn decimals(self) -> i64 {
        match self {
            Self::S => 6,
            Self::Ms => 3,
            Self::Us => 0,
        }
    }
}

/// What a value says about the unit of its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitHint {
    /// It is no number.
    NoNumber,
    /// It is a number that is plausible in no unit.
    NoUnit,
    /// It is plausible in this unit.
    Unit(EpochUnit),
}

/// What `pack.toml` says about the unit of numeric timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitOption {
    /// Seconds
    S,
    /// Milliseconds
    Ms,
    /// Microseconds
    Us,
    /// The unit that most numbers of the whole column suggest ([`EpochUnit::suggested_by`])
    Infer,
}

impl UnitOption {
    /// The unit, if it is declared.
    #[must_use]
    pub fn declared(self) -> Option<EpochUnit> {
        match self {
            Self::S => Some(EpochUnit::S),
            Self::Ms => Some(EpochUnit::Ms),
            Self::Us => Some(EpochUnit::Us),
            Self::Infer => None,
        }
    }
}

/// What becomes of `''`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EmptyText {
    /// It is a value like any other.
    #[default]
    Keep,
    /// It is stored as NULL, with a ledger entry `empty_to_null`.
    Null,
}

/// What becomes of JSON null in a json or jsonb column. A missing value is SQL NULL either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JsonNull {
    /// It is stored as JSON null.
    #[default]
    Keep,
    /// It is stored as SQL NULL, or as the column's default.
    SqlNull,
}

/// The declared cast of one column. The default is the natural cast of the target's type with
/// every policy `reject` and redaction on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct CastOptions {
    /// The cast; none: the natural one of the type.
    pub cast: Option<CastName>,
    /// Zone of timestamps without an offset: `UTC`, `+02:00` or an IANA name; none: they are
    /// refused as `naive_timestamp`.
    pub zone: Option<String>,
    /// Unit of numeric timestamps; none: numbers are refused.
    pub unit: Option<EpochUnit>,
    /// Whether the unit is found in the column itself before the first value is cast.
    pub infer_unit: bool,
    /// Spellings of an enum's labels. A declared mapping, so without a ledger entry.
    pub aliases: BTreeMap<String, String>,
    /// What to do with values the target cannot hold.
    pub on: Policies,
    /// What becomes of `''`; none: it is kept.
    pub empty: Option<EmptyText>,
    /// What becomes of JSON null in json and jsonb columns.
    pub json_null: JsonNull,
    /// Whether secrets are removed from text, json and jsonb where a redactor is given.
    pub redact: bool,
    /// Value for SQL NULL and for a missing value, as Postgres's text literal of the type
    /// (arrays: `{}` or a JSON array). A declared mapping, so without a ledger entry.
    pub default: Option<String>,
    /// Namespace of the cast `uuid_v5`.
    pub namespace: Option<String>,
}

impl Default for CastOptions {
    fn default() -> Self {
        Self {
            cast: None,
            zone: None,
            unit: None,
            infer_unit: false,
            aliases: BTreeMap::new(),
            on: Policies::default(),
            empty: None,
            json_null: JsonNull::Keep,
            redact: true,
            default: None,
            namespace: None,
        }
    }
}
