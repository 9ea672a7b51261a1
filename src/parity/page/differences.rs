//! The differences, by table and kind, values side by side.

use crate::parity::against::Against;
use crate::parity::difference::{Difference, Kind};
use crate::parity::limits::thousands;
use crate::parity::page::marks::{pair, visible};
use crate::parity::page::verdict::meaning;
use crate::parity::page::{anchor, count, slice};
use crate::parity::report::{Report, UnitResult};

/// Most lines of `Report::differences` shown: a browser has to hold the page.
const SHOWN_MAX: usize = 5000;

/// All differences that were named, up to the limit.
pub(super) fn block(report: &Report) -> String {
    if report.differing_rows == 0 {
        return String::new();
    }
    let mut html = String::from("<section id=\"differences\"><h2>Differences</h2>");
    if report.differences.is_empty() {
        let why = if report.level == "counts" {
            "At level counts rows are only counted. --level full names each."
        } else {
            "None of them was named."
        };
        html.push_str(&format!("<p>{why}</p></section>"));
        return html;
    }
    html.push_str(
        "<p>Characters that differ are <mark>marked</mark>; characters one cannot see are written \
         out, as in <i class=\"code\">LF</i> for a line break. Long values are shortened around \
         the first character that differs.</p>\
         <form class=\"filter\" hidden><label>Show only <input type=\"search\" \
         placeholder=\"key, column, value or kind\"></label> <output></output></form>",
    );
    let shown = &report.differences[..report.differences.len().min(SHOWN_MAX)];
    let rows = rows_of(shown);
    let named = rows_of(&report.differences).len() as u64;
    for (at, unit) in report.units.iter().enumerate() {
        let of_unit: Vec<&[Difference]> =
            rows.iter().copied().filter(|row| row[0].target == unit.target).collect();
        if !of_unit.is_empty() || unit.differing() > 0 {
            html.push_str(&table(at, unit, &of_unit));
        }
    }
    let is_of_unit =
        |row: &&[Difference]| report.units.iter().any(|unit| unit.target == row[0].target);
    let others: Vec<&[Difference]> = rows.iter().copied().filter(|row| !is_of_unit(row)).collect();
    if !others.is_empty() {
        html.push_str("<h3>Other</h3>");
        html.push_str(&kinds(&others));
    }
    if report.differences.len() > SHOWN_MAX {
        html.push_str(&format!(
            "<p class=\"caution\">Shown are the first {} of {} lines; toolkit.parity_difference and \
             a JSON report hold all.</p>",
            thousands(SHOWN_MAX as u64),
            thousands(report.differences.len() as u64)
        ));
    }
    if named < report.differing_rows {
        html.push_str(&format!(
            "<p class=\"caution\">{} differ; {} of them are named. --max-differences names more.\
             </p>",
            count(report.differing_rows, "row"),
            thousands(named)
        ));
    }
    html.push_str("</section>");
    html
}

/// Lines of one row together: changed columns follow each other.
fn rows_of(differences: &[Difference]) -> Vec<&[Difference]> {
    let is_same_row = |a: &Difference, b: &Difference| {
        a.kind == Kind::Changed
            && (a.kind, &a.target, &a.key, &a.locator) == (b.kind, &b.target, &b.key, &b.locator)
    };
    differences.chunk_by(is_same_row).collect()
}

fn table(at: usize, unit: &UnitResult, rows: &[&[Difference]]) -> String {
    let mut html = format!(
        "<section class=\"slice\" id=\"{}\"><h3>{} <small>\u{b7} {}</small></h3>",
        anchor(at),
        slice(&unit.target),
        match unit.differing() {
            0 => "values without a record".to_owned(),
            1 => "1 row differs".to_owned(),
            n => format!("{} rows differ", thousands(n)),
        }
    );
    html.push_str(&kinds(rows));
    if rows.is_empty() {
        html.push_str("<p>Its rows are not named.</p>");
    }
    html.push_str("</section>");
    html
}

fn kinds(rows: &[&[Difference]]) -> String {
    let mut html = String::new();
    for kind in [
        Kind::Changed,
        Kind::Missing,
        Kind::Extra,
        Kind::Duplicate,
        Kind::Unaccounted,
        Kind::Miscast,
    ] {
        let rows: Vec<&[Difference]> =
            rows.iter().copied().filter(|row| row[0].kind == kind).collect();
        if rows.is_empty() {
            continue;
        }
        html.push_str(&format!(
            "<h4><span class=\"kind {0}\">{0}</span> {1}</h4>",
            kind.name(),
            meaning(kind, Against::of_stream(&rows[0][0].stream, &rows[0][0].target))
        ));
        if matches!(kind, Kind::Changed | Kind::Miscast) {
            html.extend(rows.iter().map(|row| changed(row)));
        } else {
            html.push_str(&whole_rows(kind, &rows));
        }
    }
    html
}

/// One row with its changed columns.
fn changed(columns: &[Difference]) -> String {
    let first = &columns[0];
    let (left, right) = match first.kind {
        Kind::Miscast => ("A second way reads", "The cast reads"),
        _ if first.corrected => ("It was corrected to", "Postgres holds"),
        _ => match Against::of_stream(&first.stream, &first.target) {
            Against::Source => ("The source has", "Postgres holds"),
            Against::Sidecar => ("Postgres holds", "The sidecar has"),
            Against::Qdrant => ("Postgres holds", "The point has"),
            Against::Graph => ("The junction tables make", "graph_edge has"),
        },
    };
    let mut html = format!(
        "<article class=\"row changed\"><header>{}{}</header><table class=\"pair\"><thead><tr>\
         <th scope=\"col\">Column</th><th scope=\"col\">{left}</th>\
         <th scope=\"col\">{right}</th></tr></thead><tbody>",
        key(first),
        place(first)
    );
    for difference in columns {
        let values = pair(difference.source_value.as_deref(), difference.target_value.as_deref());
        html.push_str(&format!(
            "<tr><th scope=\"row\">{}</th><td data-label=\"{left}\"><div class=\"value\">\
             {}</div></td><td data-label=\"{right}\"><div class=\"value\">{}</div></td></tr>",
            visible(difference.column.as_deref().unwrap_or("(the row)")),
            values.source,
            values.target
        ));
        if let Some((source, target)) = values.codes {
            html.push_str(&format!(
                "<tr class=\"codes\"><td></td><td>{left}: {source}</td><td>{right}: {target}</td></tr>"
            ));
        }
    }
    html.push_str("</tbody></table></article>");
    html
}

/// Rows of which only one side, or neither, has a value to show.
fn whole_rows(kind: Kind, rows: &[&[Difference]]) -> String {
    let mut html = format!("<ul class=\"rows {}\">", kind.name());
    for row in rows {
        let difference = &row[0];
        let text = |text: &String| format!("<span class=\"text\">{}</span>", visible(text));
        let row = difference.source_value.as_ref().or(difference.target_value.as_ref());
        let place = place(difference);
        let what = match row {
            Some(what) if kind == Kind::Unaccounted => format!("{}{place}", text(what)),
            Some(row) => format!("{}{place} {}", key(difference), text(row)),
            None => format!("{}{place}", key(difference)),
        };
        html.push_str(&format!("<li class=\"row\">{what}</li>"));
    }
    html.push_str("</ul>");
    html
}

fn key(difference: &Difference) -> String {
    let parts: Vec<String> = difference
        .key
        .iter()
        .map(|(column, value)| {
            let value = match value {
                serde_json::Value::String(text) if text.is_empty() => {
                    "<span class=\"none\">empty text</span>".to_owned()
                }
                serde_json::Value::String(text) => visible(text),
                serde_json::Value::Null => "<span class=\"none\">NULL</span>".to_owned(),
                other => visible(&other.to_string()),
            };
            format!("<span class=\"part\">{} <b>{value}</b></span>", visible(column))
        })
        .collect();
    format!("<span class=\"key\">{}</span>", parts.join(" "))
}

fn place(difference: &Difference) -> String {
    let corrected = if difference.corrected {
        " <span class=\"note\">expected as it was corrected: the source holds what was refused</span>"
    } else {
        ""
    };
    let place = difference.locator.as_ref().map_or_else(String::new, |place| {
        format!(" <span class=\"place\">{}</span>", visible(place))
    });
    format!("{place}{corrected}")
}
