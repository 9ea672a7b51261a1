//! A verification as one HTML page: no script is needed to read it, and nothing is fetched.
//!
//! The order is that of a reader's questions: is it right, how much was compared, what differs,
//! how was it before, what was not looked at, and where does all this come from. Values come from
//! data that may be hostile: all text passes [`escape`] or [`marks::visible`], and the page's own
//! content security policy lets no other script run and nothing be loaded.

mod counts;
mod differences;
mod history;
mod marks;
mod verdict;

use crate::parity::limits::{NEVER_CHECKED, count, limits, thousands};
use crate::parity::stored::StoredRun;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The whole page.
#[must_use]
pub fn page(run: &StoredRun) -> String {
    let report = &run.report;
    let not_checked = limits(report, Some(&run.provenance));
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; form-action 'none'\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{} \u{2013} parity of {}</title>\
         <style>{STYLE}</style></head><body><main>",
        base64(&crate::canonical::sha256(STYLE.as_bytes())),
        base64(&crate::canonical::sha256(SCRIPT.as_bytes())),
        escape(&verdict::headline(report)),
        escape(&report.pack)
    );
    html.push_str(&verdict::block(run, &not_checked));
    html.push_str(&counts::block(report));
    html.push_str(&differences::block(report));
    html.push_str(&history::block(run));
    html.push_str("<section id=\"not-checked\"><h2>What was not checked</h2><dl>");
    for limit in &not_checked {
        html.push_str(&format!(
            "<dt>{}</dt><dd>{}{}</dd>",
            escape(&limit.what),
            escape(&limit.why),
            list(&limit.names)
        ));
    }
    html.push_str("</dl>");
    if not_checked.is_empty() {
        html.push_str("<p>Everything the pack describes was compared.</p>");
    }
    html.push_str(&format!("<p>{}</p></section>", escape(NEVER_CHECKED)));
    html.push_str(&provenance(run));
    html.push_str(&format!("</main><script>{SCRIPT}</script></body></html>\n"));
    html
}

fn provenance(run: &StoredRun) -> String {
    let (report, from) = (&run.report, &run.provenance);
    let version = from.pack_version.map_or(String::new(), |version| format!(" version {version}"));
    let rows: u64 = report.units.iter().map(|unit| unit.source_rows + unit.target_rows).sum();
    let speed = if report.seconds >= 1.0 {
        format!(", {:.0} rows a second", rows as f64 / report.seconds)
    } else {
        String::new()
    };
    let mut html = String::from(
        "<section id=\"provenance\"><h2>Where this comes from</h2><dl class=\"facts\">",
    );
    for (name, value) in [
        ("Run", format!("<code>{}</code>", escape(&report.run_id))),
        ("Level", escape(&report.level)),
        ("Began", format!("{}, took {:.1} s{speed}", escape(&from.started_at), report.seconds)),
        (
            "Snapshot of Postgres",
            format!(
                "{}, log position {}",
                escape(&report.snapshot_at),
                escape(&report.snapshot_lsn)
            ),
        ),
        (
            "Pack",
            format!(
                "{}{version}, SHA-256 <code>{}</code>",
                escape(&report.pack),
                escape(&from.pack_fingerprint)
            ),
        ),
        (
            "Made by",
            format!(
                "toolkit {}, canonical encoding {}",
                escape(&from.tool_version),
                from.encoding_version
            ),
        ),
        ("Compare again", command(&verdict::reproduce(run))),
    ] {
        html.push_str(&format!("<dt>{name}</dt><dd>{value}</dd>"));
    }
    html.push_str(
        "</dl><h3>Sources</h3><div class=\"wide\"><table class=\"counts sources\"><thead><tr>\
         <th scope=\"col\">Stream</th><th scope=\"col\">File</th><th scope=\"col\">Bytes</th>\
         <th scope=\"col\">Fingerprint</th></tr></thead><tbody>",
    );
    for input in &from.sources {
        let files = if input.source.is_empty() {
            count(input.files, "document")
        } else {
            escape(&input.source)
        };
        html.push_str(&format!(
            "<tr><th scope=\"row\">{}</th><td data-label=\"File\">{files}</td>\
             <td class=\"n\" data-label=\"Bytes\">{}</td>\
             <td data-label=\"Fingerprint\"><code>{}</code></td></tr>",
            escape(&input.stream),
            thousands(input.bytes),
            escape(&input.token)
        ));
    }
    html.push_str("</tbody></table></div></section>");
    html
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let items: Vec<String> =
        names.iter().map(|name| format!("<li>{}</li>", marks::visible(name))).collect();
    format!("<ul>{}</ul>", items.join(""))
}

/// A command line to be copied.
fn command(line: &str) -> String {
    format!("<code class=\"command\">{}</code>", escape(line))
}

/// Table and constants of a slice's name, `schema.table[column=value]`.
fn split_slice(target: &str) -> Option<(&str, &str)> {
    target.strip_suffix(']')?.split_once('[')
}

/// A slice's name, its constants set apart.
fn slice(target: &str) -> String {
    split_slice(target).map_or_else(
        || escape(target),
        |(table, rows)| {
            format!("{} <small class=\"slice-of\">where {}</small>", escape(table), escape(rows))
        },
    )
}

/// Where the differences of the table at this position are.
fn anchor(at: usize) -> String {
    format!("table-{at}")
}

/// Text as HTML, for content and attributes; nothing in it can reorder what follows.
fn escape(text: &str) -> String {
    marks::visible(text)
}

/// RFC 4648, of a digest.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = (0..3)
            .fold(0_u32, |bits, at| bits << 8 | u32::from(group.get(at).copied().unwrap_or(0)));
        for at in 0..4 {
            let index = (bits >> (18 - 6 * at)) & 63;
            text.push(if at > group.len() { '=' } else { char::from(LETTERS[index as usize]) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (bytes, text) in [("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
