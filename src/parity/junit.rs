//! A verification as `JUnit` XML, for the test view of a CI system.
//!
//! One suite per pack; a case per slice of a target table, one per stream's accounting, one for
//! the second reading of the casts, and a skipped one per stream that was not checked.

use std::fmt::Write as _;

use crate::parity::against::Against;
use crate::parity::difference::{Difference, Kind};
use crate::parity::limits::limits;
use crate::parity::report::{Report, StreamResult, UnitResult};

/// Writes the whole document.
#[must_use]
pub fn junit(report: &Report) -> String {
    let mut cases = Vec::new();
    for unit in &report.units {
        cases.push(unit_case(report, unit));
    }
    for stream in &report.streams {
        cases.push(stream_case(report, stream));
    }
    cases.extend(casts_case(report));
    for stream in &report.not_checked {
        let name = format!("stream {stream} is accounted for");
        let why = "<skipped message=\"not checked: no source of it was found\"/>";
        cases.push(Case { name, body: why.to_owned(), is_failure: false, is_skipped: true });
    }
    let suite = format!("parity of {}", report.pack);
    let failures = cases.iter().filter(|case| case.is_failure).count();
    let skipped = cases.iter().filter(|case| case.is_skipped).count();
    let counts = format!(
        "tests=\"{}\" failures=\"{failures}\" errors=\"0\" skipped=\"{skipped}\" time=\"{:.3}\"",
        cases.len(),
        report.seconds
    );
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {counts}>\n  \
         <testsuite name=\"{}\" timestamp=\"{}\" {counts}>\n    <properties>\n",
        escape(&suite),
        escape(report.snapshot_at.split('.').next().unwrap_or_default())
    );
    for (name, value) in [
        ("run", &report.run_id),
        ("level", &report.level),
        ("snapshot_lsn", &report.snapshot_lsn),
        ("snapshot_at", &report.snapshot_at),
    ] {
        let _ = writeln!(xml, "      <property name=\"{name}\" value=\"{}\"/>", escape(value));
    }
    xml.push_str("    </properties>\n");
    for case in &cases {
        let _ = writeln!(
            xml,
            "    <testcase classname=\"{}\" name=\"{}\">{}</testcase>",
            escape(&format!("parity.{}", report.pack)),
            escape(&case.name),
            case.body
        );
    }
    let limits: Vec<String> = limits(report, None)
        .iter()
        .map(|limit| {
            format!("not checked: {}. {} {}", limit.what, limit.why, limit.names.join("; "))
        })
        .collect();
    if !limits.is_empty() {
        let _ = writeln!(xml, "    <system-out>{}</system-out>", escape(&limits.join("\n")));
    }
    xml.push_str("  </testsuite>\n</testsuites>\n");
    xml
}

struct Case {
    name: String,
    body: String,
    is_failure: bool,
    is_skipped: bool,
}

fn unit_case(report: &Report, unit: &UnitResult) -> Case {
    let name = match unit.against {
        Against::Source => format!("table {} holds what the source holds", unit.target),
        _ => format!("{} holds what Postgres holds", unit.target),
    };
    let of_rows = |kind| !matches!(kind, Kind::Unaccounted | Kind::Miscast);
    let of_unit = |d: &&Difference| d.target == unit.target && of_rows(d.kind);
    let differences: Vec<&Difference> = report.differences.iter().filter(of_unit).collect();
    let message = format!(
        "{} of {} rows differ: {} missing, {} extra, {} changed, {} duplicate",
        unit.differing(),
        unit.source_rows,
        unit.missing,
        unit.extra,
        unit.changed,
        unit.duplicates
    );
    case(name, unit.differing(), &message, &differences)
}

fn stream_case(report: &Report, stream: &StreamResult) -> Case {
    let name = format!("stream {} is accounted for", stream.stream);
    let of_stream = |d: &&Difference| d.stream == stream.stream && d.kind == Kind::Unaccounted;
    let differences: Vec<&Difference> = report.differences.iter().filter(of_stream).collect();
    let message = format!(
        "{} rejects or changed values are not recorded, of {} records read",
        stream.unaccounted, stream.read
    );
    case(name, stream.unaccounted, &message, &differences)
}

/// The second reading of the casts, if there was one.
fn casts_case(report: &Report) -> Option<Case> {
    let differing: u64 = report.independent.iter().map(|result| result.differing).sum();
    let checked: u64 = report.independent.iter().map(|result| result.checked).sum();
    let is_miscast = |d: &&Difference| d.kind == Kind::Miscast;
    let differences: Vec<&Difference> = report.differences.iter().filter(is_miscast).collect();
    let message = format!("{differing} of {checked} values are read otherwise by a second way");
    let name = "casts read as a second, independent way does".to_owned();
    (!report.independent.is_empty()).then(|| case(name, differing, &message, &differences))
}

fn case(name: String, differing: u64, message: &str, differences: &[&Difference]) -> Case {
    if differing == 0 {
        return Case { name, body: String::new(), is_failure: false, is_skipped: false };
    }
    // Lines of one changed row follow each other and count once.
    let mut rows: Vec<_> = differences
        .iter()
        .map(|d| (&d.key, &d.locator, d.source_value.as_ref().filter(|_| d.column.is_none())))
        .collect();
    rows.dedup();
    let mut lines: Vec<String> = differences.iter().map(|difference| line(difference)).collect();
    let unnamed = differing.saturating_sub(rows.len() as u64);
    if unnamed > 0 {
        lines.push(format!("and {unnamed} more, not named"));
    }
    let body = format!(
        "<failure type=\"parity\" message=\"{}\">{}</failure>",
        escape(message),
        escape(&lines.join("\n"))
    );
    Case { name, body, is_failure: true, is_skipped: false }
}

/// One difference as one line.
fn line(difference: &Difference) -> String {
    let mut line = format!("{} {}", difference.kind.name(), key_text(&difference.key));
    if let Some(column) = &difference.column {
        let shown =
            |value: &Option<String>| value.as_ref().map_or("NULL".to_owned(), |v| format!("'{v}'"));
        let (source, target) = (shown(&difference.source_value), shown(&difference.target_value));
        let (left, right) = Against::of_stream(&difference.stream, &difference.target).sides();
        let left = if difference.corrected { "correction" } else { left };
        let _ = write!(line, ", column {column}: {left} {source}, {right} {target}");
    } else if let Some(what) = &difference.source_value {
        line.push_str(what);
    }
    if let Some(place) = &difference.locator {
        let _ = write!(line, " ({place})");
    }
    line.replace('\r', "\\r").replace('\n', "\\n")
}

/// `run_id=abc, step=prep`.
pub(super) fn key_text(key: &serde_json::Map<String, serde_json::Value>) -> String {
    let parts: Vec<String> = key
        .iter()
        .map(|(column, value)| match value {
            serde_json::Value::String(text) => format!("{column}={text}"),
            serde_json::Value::Null => format!("{column} is NULL"),
            other => format!("{column}={other}"),
        })
        .collect();
    parts.join(", ")
}

/// Text for content and attributes. XML 1.0 has no way to write most control characters, nor
/// U+FFFE and U+FFFF; they are shown as `\u{..}`.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(letter),
            '\u{fffe}' | '\u{ffff}' => escaped.extend(letter.escape_unicode()),
            _ if letter.is_control() => escaped.extend(letter.escape_unicode()),
            _ => escaped.push(letter),
        }
    }
    escaped
}
