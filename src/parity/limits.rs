//! What a verification did not check, in sentences.

use crate::parity::report::{Report, SampleBound};
use crate::parity::stored::Provenance;

/// Something that was not checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Limit {
    /// What, in a few words.
    pub(super) what: String,
    /// Why, and what that means.
    pub(super) why: String,
    /// Names: streams, columns, files.
    pub(super) names: Vec<String>,
}

/// Everything this verification left out. The first ones are its own; what no verification checks
/// is in [`NEVER_CHECKED`].
pub(super) fn limits(report: &Report, provenance: Option<&Provenance>) -> Vec<Limit> {
    let mut limits = Vec::new();
    let mut add = |what: &str, why: String, names: Vec<String>| {
        limits.push(Limit { what: what.to_owned(), why, names });
    };
    match report.level.as_str() {
        "counts" => add(
            "Values",
            "At level counts only the number of rows is compared. --level full compares every \
             value."
                .to_owned(),
            Vec::new(),
        ),
        "sample" => add(
            "Rows outside the sample",
            "At level sample some keys of each table are compared; what that says about the others \
             is below. --level full compares every row."
                .to_owned(),
            report
                .units
                .iter()
                .filter_map(|unit| Some(format!("{}: {}", unit.target, bound_text(unit.sample?))))
                .collect(),
        ),
        _ => {}
    }
    if !report.not_checked.is_empty() {
        add(
            "Streams without a source",
            "No file of these was found where the sources were looked for, so the rows they feed \
             were not compared, unless another stream feeds the same table."
                .to_owned(),
            report.not_checked.clone(),
        );
    }
    if let Some(provenance) = provenance
        && !provenance.settings.streams.is_empty()
    {
        add(
            "Other streams",
            "Only these streams, and what feeds the same tables, were asked for.".to_owned(),
            provenance.settings.streams.clone(),
        );
    }
    for outside in &report.outside_slices {
        add(
            "Rows of no stream",
            format!(
                "{} rows of {} are in no slice of the pack: no stream claims them, so there is \
                 nothing to compare them with.",
                thousands(outside.rows),
                outside.table
            ),
            Vec::new(),
        );
    }
    for left_out in &report.left_out {
        add(
            "Rows that retention removes",
            format!(
                "{} rows of the source with {} were not compared: `toolkit maintain` removed such \
                 rows from {} by its policy. The target still holds {} of that age.",
                thousands(left_out.source_rows),
                left_out.rule,
                left_out.target,
                thousands(left_out.target_rows)
            ),
            Vec::new(),
        );
    }
    if !report.unmapped_columns.is_empty() {
        add(
            "Columns the pack does not fill",
            "These columns of compared tables have no source, so nothing was compared with them."
                .to_owned(),
            report
                .unmapped_columns
                .iter()
                .map(|table| format!("{}: {}", table.table, table.columns.join(", ")))
                .collect(),
        );
    }
    if !report.changed_sources.is_empty() {
        add(
            "Sources that changed while they were read",
            "What differs may be due to that. Verify again when the application is still."
                .to_owned(),
            report.changed_sources.clone(),
        );
    }
    limits
}

/// What no verification checks.
pub(super) const NEVER_CHECKED: &str = "Never checked: triggers, grants, indexes and other things \
    that are not rows; and a conversion the pack itself states wrongly (a wrong unit, a wrong \
    zone), because both sides, and the second reading of the casts, follow what it states.";

/// What a sample says.
pub(super) fn bound_text(sample: SampleBound) -> String {
    let (n, differing) = (thousands(sample.n), thousands(sample.differing));
    // A bound from a part is always above the part's own share.
    if sample.upper_bound * sample.n as f64 <= sample.differing as f64 {
        return format!("{differing} of {n} differ, and that is every row");
    }
    let percent = sample.upper_bound * 100.0;
    let percent = if percent < 0.01 { format!("{percent:.4}") } else { format!("{percent:.2}") };
    format!(
        "{differing} of {n} sampled rows differ: fewer than {percent} % of all, at 95 % confidence"
    )
}

/// `1234567` as `1,234,567`.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let shown: Vec<String> = [0, 999, 1000, 12_345, 1_234_567].map(thousands).to_vec();
        assert_eq!(shown, ["0", "999", "1,000", "12,345", "1,234,567"]);
    }
}
