//! Counts and rates, per table and per stream.

use crate::parity::against::Against;
use crate::parity::limits::{bound_text, thousands};
use crate::parity::page::{anchor, escape, slice};
use crate::parity::report::{Report, StreamResult, UnitResult};

/// Both tables.
pub(super) fn block(report: &Report) -> String {
    format!("{}{}", tables(report), streams(report))
}

/// A column of a table of counts: its heading, and whether it stays when all of it is zero.
struct Column<R> {
    heading: &'static str,
    is_kept: bool,
    number: fn(&R) -> u64,
}

/// The columns that say something, and a line that names the others.
fn columns<'c, R>(all: &'c [Column<R>], rows: &[R]) -> (Vec<&'c Column<R>>, String) {
    let says_something =
        |column: &&Column<R>| column.is_kept || rows.iter().any(|row| (column.number)(row) > 0);
    let (kept, zero): (Vec<_>, Vec<_>) = all.iter().partition(says_something);
    if zero.is_empty() {
        return (kept, String::new());
    }
    let names: Vec<String> = zero.iter().map(|column| column.heading.to_lowercase()).collect();
    (kept, format!("<p><small>None anywhere: {}.</small></p>", names.join(", ")))
}

fn headings<R>(columns: &[&Column<R>]) -> String {
    let cells: Vec<String> =
        columns.iter().map(|c| format!("<th scope=\"col\">{}</th>", c.heading)).collect();
    cells.concat()
}

const TABLE_COLUMNS: &[Column<UnitResult>] = &[
    Column { heading: "Missing", is_kept: true, number: |unit| unit.missing },
    Column { heading: "Extra", is_kept: true, number: |unit| unit.extra },
    Column { heading: "Changed", is_kept: true, number: |unit| unit.changed },
    Column { heading: "Duplicate", is_kept: false, number: |unit| unit.duplicates },
    Column { heading: "Newer than the source", is_kept: false, number: |unit| unit.superseded },
];

fn tables(report: &Report) -> String {
    let is_sample = report.level == "sample";
    let (columns, none) = columns(TABLE_COLUMNS, &report.units);
    let headings = headings(&columns);
    let mut html = format!(
        "<section id=\"tables\"><h2>Tables</h2><p>What the sources make each table hold, against \
         what it holds.</p><div class=\"wide\"><table class=\"counts\"><thead><tr>\
         <th scope=\"col\">Table</th><th scope=\"col\">Result</th><th scope=\"col\">Source rows\
         </th><th scope=\"col\">Postgres rows</th><th scope=\"col\">Equal</th>{headings}</tr>\
         </thead><tbody>"
    );
    for (at, unit) in report.units.iter().enumerate() {
        html.push_str(&table_row(Some(at), unit, is_sample, &columns));
    }
    let sum = |number: fn(&UnitResult) -> u64| report.units.iter().map(number).sum();
    let total = UnitResult {
        target: "All tables".to_owned(),
        against: Against::Source,
        source_rows: sum(|unit| unit.source_rows),
        target_rows: sum(|unit| unit.target_rows),
        missing: sum(|unit| unit.missing),
        extra: sum(|unit| unit.extra),
        changed: sum(|unit| unit.changed),
        duplicates: sum(|unit| unit.duplicates),
        superseded: sum(|unit| unit.superseded),
        sample: None,
        source_root: None,
        target_root: None,
    };
    html.push_str("</tbody><tfoot>");
    html.push_str(&table_row(None, &total, is_sample, &columns));
    html.push_str(&format!("</tfoot></table></div>{none}</section>"));
    html
}

fn table_row(
    at: Option<usize>,
    unit: &UnitResult,
    is_sample: bool,
    columns: &[&Column<UnitResult>],
) -> String {
    let differing = unit.differing();
    let name = match at {
        Some(at) if differing > 0 => {
            format!("<a href=\"#{}\">{}</a>", anchor(at), slice(&unit.target))
        }
        _ => slice(&unit.target),
    };
    let verb = if differing == 1 { "differs" } else { "differ" };
    // A part says nothing exact about the whole: its bound stands instead of a rate.
    let equal = match unit.sample {
        Some(sample) => escape(&bound_text(sample)),
        None if is_sample => "\u{2013}".to_owned(),
        None => equal_share(unit),
    };
    let mut html = format!(
        "<tr{}><th scope=\"row\">{name}</th><td data-label=\"Result\">{}</td>\
         <td class=\"n\" data-label=\"Source rows\">{}</td>\
         <td class=\"n\" data-label=\"Postgres rows\">{}</td>\
         <td class=\"{}\" data-label=\"Equal\">{equal}</td>",
        if differing > 0 { " class=\"bad\"" } else { "" },
        result(differing, verb, "equal"),
        thousands(unit.source_rows),
        thousands(unit.target_rows),
        if unit.sample.is_some() { "n bound" } else { "n" },
    );
    for column in columns {
        html.push_str(&number_cell(column.heading, (column.number)(unit)));
    }
    html.push_str("</tr>");
    html
}

fn result(differing: u64, bad: &str, good: &str) -> String {
    if differing > 0 {
        format!(
            "<span class=\"sign bad\"><span aria-hidden=\"true\">\u{2717}</span> {} {bad}</span>",
            thousands(differing)
        )
    } else {
        format!(
            "<span class=\"sign good\"><span aria-hidden=\"true\">\u{2713}</span> {good}</span>"
        )
    }
}

fn number_cell(label: &str, number: u64) -> String {
    let class = if number == 0 { "n k zero" } else { "n k" };
    format!("<td class=\"{class}\" data-label=\"{label}\">{}</td>", thousands(number))
}

fn equal_share(unit: &UnitResult) -> String {
    let of = unit.source_rows.max(unit.target_rows);
    percent(of.saturating_sub(unit.differing() + unit.superseded), of)
}

/// A share in percent that says 100 only of everything and 0 only of nothing.
fn percent(part: u64, of: u64) -> String {
    match (part, of) {
        (_, 0) => "\u{2013}".to_owned(),
        (part, of) if part >= of => "100 %".to_owned(),
        (0, _) => "0 %".to_owned(),
        (part, of) => {
            let exact = part as f64 * 100.0 / of as f64;
            if exact > 99.99 {
                "&gt; 99.99 %".to_owned()
            } else if exact < 0.01 {
                "&lt; 0.01 %".to_owned()
            } else {
                format!("{exact:.2} %")
            }
        }
    }
}

const STREAM_COLUMNS: &[Column<StreamResult>] = &[
    Column { heading: "Rejected", is_kept: true, number: |stream| stream.rejected },
    Column { heading: "Stored corrected", is_kept: false, number: |stream| stream.corrected },
    Column { heading: "Left out by a rule", is_kept: false, number: |stream| stream.skipped },
    Column { heading: "Gave way to newer", is_kept: false, number: |stream| stream.superseded },
    Column { heading: "Values stored changed", is_kept: true, number: |stream| stream.ledgered },
    Column { heading: "Without a record", is_kept: false, number: |stream| stream.unaccounted },
];

/// Of these, a share of the records read makes sense.
const RATED: &[&str] = &["Rejected", "Stored corrected", "Left out by a rule", "Gave way to newer"];

fn streams(report: &Report) -> String {
    let (columns, none) = columns(STREAM_COLUMNS, &report.streams);
    let headings = headings(&columns);
    let mut html = format!(
        "<section id=\"streams\"><h2>Streams</h2><p>What became of every record. A stream is one \
         source table, or one kind of document. Refused and changed values are kept in \
         toolkit.reject and toolkit.ledger.</p><div class=\"wide\"><table class=\"counts\"><thead>\
         <tr><th scope=\"col\">Stream</th><th scope=\"col\">Result</th><th scope=\"col\">Read</th>\
         {headings}</tr></thead><tbody>"
    );
    for stream in &report.streams {
        html.push_str(&stream_row(stream, &columns));
    }
    for stream in &report.not_checked {
        html.push_str(&format!(
            "<tr class=\"unknown\"><th scope=\"row\">{}</th><td data-label=\"Result\" \
             colspan=\"{}\"><span class=\"sign unknown\"><span aria-hidden=\"true\">?</span> not \
             checked: no source was found</span></td></tr>",
            escape(stream),
            columns.len() + 2
        ));
    }
    html.push_str(&format!("</tbody></table></div>{none}</section>"));
    html
}

fn stream_row(stream: &StreamResult, columns: &[&Column<StreamResult>]) -> String {
    let mut html = format!(
        "<tr{}><th scope=\"row\">{}</th><td data-label=\"Result\">{}</td>\
         <td class=\"n\" data-label=\"Read\">{}</td>",
        if stream.unaccounted > 0 { " class=\"bad\"" } else { "" },
        escape(&stream.stream),
        result(stream.unaccounted, "without a record", "accounted for"),
        thousands(stream.read)
    );
    for column in columns {
        let number = (column.number)(stream);
        if number > 0 && RATED.contains(&column.heading) {
            html.push_str(&format!(
                "<td class=\"n k\" data-label=\"{}\">{} <small>({})</small></td>",
                column.heading,
                thousands(number),
                percent(number, stream.read.max(number))
            ));
        } else {
            html.push_str(&number_cell(column.heading, number));
        }
    }
    html.push_str("</tr>");
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_never_rounded_up_to_everything_nor_down_to_nothing() {
        assert_eq!(percent(1_000_000, 1_000_000), "100 %");
        assert_eq!(percent(999_999, 1_000_000), "&gt; 99.99 %");
        assert_eq!(percent(1, 1_000_000), "&lt; 0.01 %");
        assert_eq!(percent(1, 3), "33.33 %");
        assert_eq!(percent(0, 0), "\u{2013}");
    }
}
