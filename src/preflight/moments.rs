//! In which forms a column writes moments, and in which unit it counts them.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cast::EpochUnit;
use crate::preflight::report::{Counted, Place};

/// A way of writing a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// `2025-07-01T09:30:00.123+02:00`
    IsoFractionOffset,
    /// `2025-07-01T09:30:00Z`
    IsoOffset,
    /// `2025-07-01 09:30:00`, with or without a fraction: no offset
    Naive,
    /// `2025-07-01`
    Date,
    /// A number that is a moment of 1973 to 2099 in seconds
    EpochSeconds,
    /// The same in milliseconds
    EpochMillis,
    /// The same in microseconds
    EpochMicros,
    /// Anything else
    Other,
}

impl Form {
    /// For a sentence.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::IsoFractionOffset => "ISO with fraction and offset",
            Self::IsoOffset => "ISO with offset",
            Self::Naive => "without offset",
            Self::Date => "date only",
            Self::EpochSeconds => "epoch s",
            Self::EpochMillis => "epoch ms",
            Self::EpochMicros => "epoch us",
            Self::Other => "other",
        }
    }

    /// The unit its magnitude suggests.
    #[must_use]
    pub fn unit(self) -> Option<EpochUnit> {
        match self {
            Self::EpochSeconds => Some(EpochUnit::S),
            Self::EpochMillis => Some(EpochUnit::Ms),
            Self::EpochMicros => Some(EpochUnit::Us),
            _ => None,
        }
    }

    fn is_text(self) -> bool {
        matches!(self, Self::IsoFractionOffset | Self::IsoOffset | Self::Naive | Self::Date)
    }
}

/// The forms of one column.
#[derive(Debug, Clone, Default, Serialize)]
pub struct MomentCensus {
    /// Values by form, with the first of each.
    pub forms: BTreeMap<Form, Counted>,
    /// The first value of no known form, shortened and redacted.
    pub other_example: Option<String>,
    /// Least and greatest of the ISO texts, by their letters.
    pub texts: Option<(String, String)>,
    /// The unit that most of its numbers suggest.
    pub inferred_unit: Option<EpochUnit>,
    /// Numbers whose magnitude suggests another unit than most.
    pub minority: u64,
}

impl MomentCensus {
    /// Counts a number.
    pub(super) fn number(&mut self, number: f64, place: impl FnOnce() -> Place) -> Form {
        let form = form_of_number(number);
        self.forms.entry(form).or_default().add(place);
        form
    }

    /// Counts a text.
    pub(super) fn text(&mut self, text: &[u8], place: impl FnOnce() -> Place) -> Form {
        let form = form_of_text(text);
        self.forms.entry(form).or_default().add(place);
        if form.is_text() {
            self.widen(text);
        }
        form
    }

    /// Adds what was counted elsewhere.
    pub(super) fn merge(&mut self, other: &Self) {
        for (form, counted) in &other.forms {
            self.forms.entry(*form).or_default().merge(counted);
        }
        if self.other_example.is_none() {
            self.other_example.clone_from(&other.other_example);
        }
        if let Some((least, greatest)) = &other.texts {
            self.widen(least.as_bytes());
            self.widen(greatest.as_bytes());
        }
    }

    fn widen(&mut self, text: &[u8]) {
        let Ok(text) = std::str::from_utf8(text) else { return };
        match &mut self.texts {
            None => self.texts = Some((text.to_owned(), text.to_owned())),
            Some((least, _)) if text < least.as_str() => text.clone_into(least),
            Some((_, greatest)) if text > greatest.as_str() => text.clone_into(greatest),
            Some(_) => {}
        }
    }

    /// Values of a form.
    #[must_use]
    pub fn count(&self, form: Form) -> u64 {
        self.forms.get(&form).map_or(0, |counted| counted.count)
    }

    /// Whether all values are moments of one kind: with an offset, without, dates, or numbers of
    /// one unit. Some writers leave a fraction of zero out; that is no other kind.
    pub(super) fn is_uniform(&self) -> bool {
        let kind = |form: &Form| match form {
            Form::IsoFractionOffset => Form::IsoOffset,
            form => *form,
        };
        let mut kinds: Vec<Form> = self.forms.keys().map(kind).collect();
        kinds.dedup();
        !matches!(kinds.as_slice(), [Form::Other] | [_, _, ..])
    }

    /// Infers the unit once everything is counted.
    pub(super) fn finish(&mut self) {
        let units = [Form::EpochSeconds, Form::EpochMillis, Form::EpochMicros];
        let all: u64 = units.iter().map(|form| self.count(*form)).sum();
        let most = units.into_iter().max_by_key(|form| self.count(*form));
        let Some(most) = most.filter(|form| self.count(*form) > 0) else { return };
        self.inferred_unit = most.unit();
        self.minority = all - self.count(most);
    }

    /// Whether the column as a whole looks like moments, whatever it is called.
    pub(super) fn is_likely(&self) -> bool {
        let all: u64 = self.forms.values().map(|counted| counted.count).sum();
        let texts: u64 = self
            .forms
            .iter()
            .filter(|(form, _)| form.is_text())
            .map(|(_, found)| found.count)
            .sum();
        texts > 0 && texts * 10 >= all * 9
    }
}

fn form_of_number(number: f64) -> Form {
    match EpochUnit::suggested_by(number) {
        Some(EpochUnit::S) => Form::EpochSeconds,
        Some(EpochUnit::Ms) => Form::EpochMillis,
        Some(EpochUnit::Us) => Form::EpochMicros,
        None => Form::Other,
    }
}

/// No moment is longer in any form.
const MOMENT_BYTES_MAX: usize = 40;

fn form_of_text(text: &[u8]) -> Form {
    let text = text.trim_ascii();
    if text.is_empty() || text.len() > MOMENT_BYTES_MAX {
        return Form::Other;
    }
    if let Some(rest) = take(text, b"0000-00-00") {
        return form_after_date(rest);
    }
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<f64>().ok());
    number.map_or(Form::Other, form_of_number)
}

fn form_after_date(rest: &[u8]) -> Form {
    let Some((separator, rest)) = rest.split_first() else { return Form::Date };
    if !matches!(separator, b'T' | b't' | b' ') {
        return Form::Other;
    }
    let Some(rest) = take(rest, b"00:00") else { return Form::Other };
    let rest = take(rest, b":00").unwrap_or(rest);
    let (has_fraction, rest) = match rest.split_first() {
        Some((b'.' | b',', digits)) => {
            let end = digits.iter().position(|byte| !byte.is_ascii_digit());
            (true, &digits[end.unwrap_or(digits.len())..])
        }
        _ => (false, rest),
    };
    match rest.trim_ascii_start() {
        b"" => Form::Naive,
        b"Z" | b"z" | b"UTC" | b"GMT" => with_offset(has_fraction),
        [b'+' | b'-', offset @ ..] if is_offset(offset) => with_offset(has_fraction),
        _ => Form::Other,
    }
}

fn with_offset(has_fraction: bool) -> Form {
    if has_fraction { Form::IsoFractionOffset } else { Form::IsoOffset }
}

fn is_offset(text: &[u8]) -> bool {
    [&b"00"[..], b"0000", b"00:00", b"00:00:00"]
        .iter()
        .any(|pattern| take(text, pattern).is_some_and(<[u8]>::is_empty))
}

/// What follows a text of this shape, where `0` stands for any digit.
fn take<'t>(text: &'t [u8], pattern: &[u8]) -> Option<&'t [u8]> {
    let (head, rest) = text.split_at_checked(pattern.len())?;
    let fits = head.iter().zip(pattern).all(|(byte, wanted)| match wanted {
        b'0' => byte.is_ascii_digit(),
        wanted => byte == wanted,
    });
    fits.then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_told_from_the_others() {
        for (text, form) in [
            ("2025-07-01T09:30:00.123+02:00", Form::IsoFractionOffset),
            ("2025-07-01 09:30:00.5Z", Form::IsoFractionOffset),
            ("2025-07-01T09:30:00Z", Form::IsoOffset),
            ("2025-07-01 09:30:00 +0200", Form::IsoOffset),
            ("2025-07-01T09:30", Form::Naive),
            ("2025-07-01 09:30:00.25", Form::Naive),
            ("2025-07-01", Form::Date),
            ("1751362200", Form::EpochSeconds),
            ("1751362200.25", Form::EpochSeconds),
            ("1751362200000", Form::EpochMillis),
            ("1751362200000000", Form::EpochMicros),
            ("2025-07-01T", Form::Other),
            ("2025-07-01T09:30:00+2", Form::Other),
            ("yesterday", Form::Other),
            ("", Form::Other),
            ("12", Form::Other),
        ] {
            assert_eq!(form_of_text(text.as_bytes()), form, "{text}");
        }
    }

    #[test]
    fn the_unit_of_most_is_inferred_and_the_others_are_counted() {
        let mut census = MomentCensus::default();
        let place = || Place { source: String::new(), locator: String::new() };
        for number in [1_751_362_200.0, 1_751_362_201.0, 1_751_362_200_000.0] {
            census.number(number, place);
        }
        census.finish();
        assert_eq!(census.inferred_unit, Some(EpochUnit::S));
        assert_eq!(census.minority, 1);
    }
}
