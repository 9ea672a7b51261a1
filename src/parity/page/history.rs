//! The pack's verifications over time, as a chart and as a list.

use crate::parity::limits::thousands;
use crate::parity::page::{count, escape};
use crate::parity::stored::{PastRun, StoredRun};

/// Height of the chart and of its parts, in CSS pixels; widths are shares of the page's.
const HEIGHT: f64 = 150.0;
const TOP: f64 = 22.0;
const BASE: f64 = 118.0;

/// Runs up to which each bar carries its number.
const LABELLED_MAX: usize = 12;

/// The chart and the list.
pub(super) fn block(run: &StoredRun) -> String {
    let history = &run.history;
    if history.is_empty() {
        return String::new();
    }
    let clean = history.iter().filter(|past| past.is_clean).count() as u64;
    let mut html = format!(
        "<section id=\"history\"><h2>History</h2><p>The newest {} of this pack: {} clean, {} with \
         differences. A bar is as high as the run has differing rows (logarithmic); a run on the \
         line has none.</p>",
        count(history.len() as u64, "verification"),
        thousands(clean),
        thousands(history.len() as u64 - clean)
    );
    html.push_str(&chart(run));
    html.push_str(
        "<details><summary>The runs as a list</summary><div class=\"wide\"><table \
         class=\"counts\"><thead><tr><th scope=\"col\">Ended (UTC)</th><th scope=\"col\">Level</th>\
         <th scope=\"col\">Differing rows</th><th scope=\"col\">Run</th></tr></thead><tbody>",
    );
    for past in history.iter().rev() {
        let is_this = past.run_id == run.report.run_id;
        html.push_str(&format!(
            "<tr><th scope=\"row\">{}{}</th><td data-label=\"Level\">{}</td>\
             <td class=\"n\" data-label=\"Differing rows\">{}</td>\
             <td data-label=\"Run\"><code>{}</code></td></tr>",
            escape(&moment(past)),
            if is_this { " (this one)" } else { "" },
            escape(&level(past)),
            thousands(past.differing_rows),
            escape(&past.run_id)
        ));
    }
    html.push_str("</tbody></table></div></details></section>");
    html
}

fn chart(run: &StoredRun) -> String {
    let history = &run.history;
    let most = history.iter().map(|past| past.differing_rows).max().unwrap_or(0);
    // Few runs stand side by side at the left, not one at each end of the page.
    let step = 100.0 / history.len().max(LABELLED_MAX) as f64;
    let mut svg = format!(
        "<svg class=\"chart\" role=\"img\" width=\"100%\" height=\"{HEIGHT}\" \
         aria-label=\"Differing rows of the newest {} verifications\">\
         <line class=\"axis\" x1=\"0\" x2=\"100%\" y1=\"{BASE}\" y2=\"{BASE}\"/>",
        history.len()
    );
    for (at, past) in history.iter().enumerate() {
        let is_this = past.run_id == run.report.run_id;
        let (left, middle) = (at as f64 * step, (at as f64 + 0.5) * step);
        let title = format!(
            "{}: {}, level {}",
            moment(past),
            if past.is_clean {
                "clean".to_owned()
            } else {
                format!("{} differing", count(past.differing_rows, "row"))
            },
            level(past)
        );
        let class = match (past.is_clean, is_this) {
            (true, true) => "good this",
            (true, false) => "good",
            (false, true) => "bad this",
            (false, false) => "bad",
        };
        svg.push_str(&format!("<g class=\"{class}\"><title>{}</title>", escape(&title)));
        if past.is_clean {
            svg.push_str(&format!("<circle cx=\"{middle:.2}%\" cy=\"{BASE}\" r=\"5\"/>"));
        } else {
            let height = height(past.differing_rows, most);
            svg.push_str(&format!(
                "<rect x=\"{:.2}%\" y=\"{:.1}\" width=\"{:.2}%\" height=\"{height:.1}\"/>",
                left + step * 0.15,
                BASE - height,
                step * 0.7
            ));
            let is_labelled =
                history.len() <= LABELLED_MAX || is_this || past.differing_rows == most;
            if is_labelled {
                svg.push_str(&format!(
                    "<text x=\"{middle:.2}%\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                    BASE - height - 6.0,
                    short(past.differing_rows)
                ));
            }
        }
        svg.push_str("</g>");
    }
    svg.push_str(&labels(run, step));
    svg.push_str("</svg>");
    svg
}

/// First and last date below the line, and where this run stands.
fn labels(run: &StoredRun, step: f64) -> String {
    let history = &run.history;
    let (Some(first), Some(last)) = (history.first(), history.last()) else {
        return String::new();
    };
    let mut svg = String::new();
    if let Some(at) = history.iter().position(|past| past.run_id == run.report.run_id) {
        let middle = (at as f64 + 0.5) * step;
        let anchor = if middle > 90.0 {
            "end"
        } else if middle < 10.0 {
            "start"
        } else {
            "middle"
        };
        let x = if anchor == "end" {
            100.0
        } else if anchor == "start" {
            0.0
        } else {
            middle
        };
        svg.push_str(&format!(
            "<text class=\"this\" x=\"{x:.2}%\" y=\"{:.1}\" text-anchor=\"{anchor}\">this run\
             </text>",
            BASE + 18.0
        ));
    }
    let dates = if moment(first) == moment(last) {
        moment(first)
    } else {
        format!("{} to {}", moment(first), moment(last))
    };
    svg.push_str(&format!(
        "<text class=\"date\" x=\"0\" y=\"{:.1}\">{}</text>",
        HEIGHT - 2.0,
        escape(&dates)
    ));
    svg
}

/// Logarithmic, so that three rows and three million are both seen.
fn height(differing: u64, most: u64) -> f64 {
    let share = (differing as f64).ln_1p() / (most.max(1) as f64).ln_1p();
    (share * (BASE - TOP)).max(4.0)
}

/// `1234` as `1.2k`: narrow enough for a bar on a phone.
fn short(number: u64) -> String {
    match number {
        0..1000 => number.to_string(),
        1000..1_000_000 => format!("{}k", number / 1000),
        _ => format!("{}M", number / 1_000_000),
    }
}

/// `2026-03-31 12:30`.
fn moment(past: &PastRun) -> String {
    past.finished_at.get(..16).unwrap_or(&past.finished_at).replace('T', " ")
}

fn level(past: &PastRun) -> String {
    if past.is_partial { format!("{}, some streams", past.level) } else { past.level.clone() }
}
