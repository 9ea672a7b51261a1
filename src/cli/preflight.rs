//! `toolkit backfill --preflight`: the census, for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Report;
use crate::preflight::{
    Census, ColumnCensus, Counted, FileCensus, OutputCensus, Reason, ReferenceCensus,
    RowPrediction, StreamCensus, ValueCensus, grouped,
};

/// Columns of a line at most.
const WIDTH: usize = 100;

/// Findings of one kind that are listed; JSON has all.
const LISTED_MAX: usize = 8;

impl Report for Census {
    fn text(&self) -> String {
        let mut text = format!(
            "preflight of backfill, pack {} version {}; no changes are made\n",
            self.pack, self.version
        );
        for stream in &self.streams {
            text.push('\n');
            add_stream(&mut text, stream);
        }
        for file in self.files.iter().filter(|file| has_findings(file)) {
            text.push('\n');
            add_file(&mut text, file);
        }
        for unit in &self.inferred_units {
            text.push('\n');
            wrap(&mut text, "", &unit.sentence());
        }
        if !self.left_to_postgres.is_empty() {
            text.push_str("\nleft to Postgres, which may refuse more rows:\n");
            add_list(&mut text, "  ", &self.left_to_postgres);
        }
        if !self.absent.is_empty() {
            text.push('\n');
            wrap(&mut text, "", &format!("no source here for: {}", self.absent.join(", ")));
        }
        for source in &self.changed_sources {
            text.push('\n');
            let line = format!("CHANGED while it was counted: {source}; count again when it rests");
            wrap(&mut text, "", &line);
        }
        text.push('\n');
        wrap(&mut text, "", &self.verdict());
        text.trim_end().to_owned()
    }
}

impl Census {
    fn verdict(&self) -> String {
        let ledgered: u64 = self.streams.iter().map(|stream| stream.predicted.ledgered).sum();
        let ledger = match ledgered {
            0 => "no value changed".to_owned(),
            n => format!("{} stored changed, with a ledger entry each", counted(n, "value")),
        };
        let rejects = match self.rejects {
            0 => "no rejects predicted".to_owned(),
            1 => "1 REJECT predicted".to_owned(),
            n => format!("{} REJECTS predicted", grouped(n)),
        };
        format!(
            "{} records counted in {:.1} s: {rejects}; {ledger}",
            grouped(self.read),
            self.seconds
        )
    }
}

fn add_stream(text: &mut String, stream: &StreamCensus) {
    let predicted = &stream.predicted;
    let ledger = match predicted.ledgered {
        0 => String::new(),
        n => format!(", ledger {}", grouped(n)),
    };
    let line = format!(
        "{} ({}): {}; predicted: {}{ledger}",
        stream.stream,
        sources(stream),
        counted(predicted.read, "record"),
        rows(&predicted.records)
    );
    wrap(text, "", &line);
    let mut clean = Vec::new();
    for (at, output) in stream.outputs.iter().enumerate() {
        if at > 0 {
            let derived = predicted.derived.get(&output.output).copied().unwrap_or_default();
            let line = format!("+ {} -> {}: {}", output.output, output.target, rows(&derived));
            wrap(text, "  ", &line);
        }
        let indent = if at > 0 { "    " } else { "  " };
        add_reasons(text, indent, "reject", &output.refused);
        add_reasons(text, indent, "skip", &output.skipped);
        add_key(text, indent, output);
        for reference in &output.references {
            add_reference(text, indent, reference);
        }
        let mut told: Vec<&str> = Vec::new();
        for column in &output.columns {
            let values = values_of(stream, at, output, column);
            if !add_column(text, indent, column, &values, &mut told) {
                clean.push(column.column.as_str());
            }
        }
    }
    if !clean.is_empty() {
        let line = match clean.len() {
            1 => "1 column without a finding: stored as it is".to_owned(),
            n => format!("{n} columns without a finding: stored as they are"),
        };
        wrap(text, "  ", &line);
    }
}

fn sources(stream: &StreamCensus) -> String {
    let first = stream.sources.first().map(String::as_str).unwrap_or_default();
    match stream.files {
        0 | 1 => first.rsplit('/').next().unwrap_or_default().to_owned(),
        n => format!("{} files", grouped(n)),
    }
}

fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {what}{plural}", grouped(count))
}

/// What becomes of rows; only what there is.
fn rows(rows: &RowPrediction) -> String {
    let mut parts = vec![format!("stored {}", grouped(rows.stored))];
    for (name, count) in [("superseded", rows.superseded), ("skipped", rows.skipped)] {
        if count > 0 {
            parts.push(format!("{name} {}", grouped(count)));
        }
    }
    let name = if rows.rejected > 0 { "REJECT" } else { "reject" };
    parts.push(format!("{name} {}", grouped(rows.rejected)));
    parts.join(", ")
}

fn add_reasons(text: &mut String, indent: &str, what: &str, reasons: &BTreeMap<String, Reason>) {
    for (name, reason) in reasons {
        let detail = match reason.detail.as_str() {
            // Foreign keys have lines of their own.
            "" => String::new(),
            _ if name == "orphan" => String::new(),
            detail => format!(": {detail}"),
        };
        let line =
            format!("{what} {} {name}, first at {}{detail}", grouped(reason.count), reason.first);
        wrap(text, indent, &line);
    }
}

fn first(counted: &Counted) -> String {
    counted.first.as_ref().map(|first| format!(", first at {first}")).unwrap_or_default()
}

fn add_key(text: &mut String, indent: &str, output: &OutputCensus) {
    let key = &output.key;
    if key.not_checked > 0 {
        let line = format!(
            "key ({}): {} not checked, there are too many keys",
            key.columns.join(", "),
            counted(key.not_checked, "row")
        );
        wrap(text, indent, &line);
    }
    // Refused and skipped rows have lines of their own.
    let told = ["identical_duplicate", "duplicate_key"].iter().filter_map(|name| {
        output.skipped.get(*name).or_else(|| output.refused.get(*name)).map(|reason| reason.count)
    });
    let left = key.repeated.count.saturating_sub(told.sum());
    if left > 0 {
        let line = format!(
            "key ({}): {} under the key of an earlier one, and the conflict rule decides",
            key.columns.join(", "),
            counted(left, "row")
        );
        wrap(text, indent, &line);
    }
}

fn add_reference(text: &mut String, indent: &str, reference: &ReferenceCensus) {
    let name = format!("({}) -> {}", reference.columns.join(", "), reference.target);
    if reference.dangling.count > 0 {
        let line = format!(
            "{name}: {} of {} lead nowhere, neither in the sources nor in the database{}",
            grouped(reference.dangling.count),
            counted(reference.dangling.count + reference.found, "reference"),
            first(&reference.dangling)
        );
        wrap(text, indent, &line);
    }
    if reference.not_checked > 0 {
        let why = reference.not_checked_because.as_deref().unwrap_or("there are too many keys");
        let line = format!("{name}: {} not checked: {why}", grouped(reference.not_checked));
        wrap(text, indent, &line);
    }
}

/// What a target column draws from.
fn values_of<'s>(
    stream: &'s StreamCensus,
    at: usize,
    output: &OutputCensus,
    column: &ColumnCensus,
) -> Vec<&'s ValueCensus> {
    let of_output = |values: &ValueCensus| match &values.output {
        Some(name) => *name == output.output,
        None => at == 0 || stream.outputs.len() > 1,
    };
    let draws = |values: &ValueCensus| {
        let is_column = values.output.is_none();
        column.from.iter().any(|from| {
            *from == values.from || (is_column && from.eq_ignore_ascii_case(&values.from))
        })
    };
    stream.values.iter().filter(|values| of_output(values) && draws(values)).collect()
}

/// Says what there is to say about a column; whether there was anything.
fn add_column<'s>(
    text: &mut String,
    indent: &str,
    column: &ColumnCensus,
    values: &[&'s ValueCensus],
    told: &mut Vec<&'s str>,
) -> bool {
    let remarks = values.iter().filter(|values| !values.remarks.is_empty());
    let new: Vec<&&ValueCensus> =
        remarks.filter(|values| !told.contains(&values.from.as_str())).collect();
    if column.reject + column.ledger == 0 && new.is_empty() {
        return false;
    }
    let from = match column.from.as_slice() {
        [one] if *one == column.column => String::new(),
        froms => format!(
            " from {}",
            froms.iter().map(|from| shown(from)).collect::<Vec<_>>().join(", else ")
        ),
    };
    let mut counts = vec![format!("lossless {}", grouped(column.lossless))];
    if column.ledger > 0 {
        counts.push(format!("ledger {}", grouped(column.ledger)));
    }
    if column.reject > 0 {
        counts.push(format!("REJECT {}", grouped(column.reject)));
    }
    let not_null = if column.not_null { " not null" } else { "" };
    wrap(
        text,
        indent,
        &format!("{} {}{not_null}{from}: {}", column.column, column.ty, counts.join(", ")),
    );
    let deeper = format!("{indent}  ");
    add_reasons(text, &deeper, "reject", &column.reasons);
    add_reasons(text, &deeper, "ledger", &column.rules);
    for values in new {
        told.push(values.from.as_str());
        let name = if column.from.len() > 1 {
            format!("{}: ", shown(&values.from))
        } else {
            String::new()
        };
        let is_said = |remark: &str| {
            let codes = [("not UTF-8", "invalid_utf8"), ("with U+0000", "nul")];
            codes.iter().any(|(words, code)| {
                let known = column.reasons.contains_key(*code) || column.rules.contains_key(*code);
                known && remark.contains(words) && !remark.starts_with("JSON")
            })
        };
        for remark in values.remarks.iter().filter(|remark| !is_said(remark)) {
            wrap(text, &deeper, &format!("{name}{remark}"));
        }
    }
    true
}

fn shown(from: &str) -> &str {
    if from.is_empty() { "the whole document" } else { from }
}

fn has_findings(file: &FileCensus) -> bool {
    !file.names.is_empty()
        || !file.broken_references.is_empty()
        || !file.unread_tables.is_empty()
        || file.references_not_checked.is_some()
}

fn add_file(text: &mut String, file: &FileCensus) {
    wrap(text, "", &format!("{}:", file.file));
    let names: Vec<String> = file.names.iter().map(|found| found.detail.clone()).collect();
    add_list(text, "  ", &names);
    let broken: Vec<String> = file
        .broken_references
        .iter()
        .map(|found| {
            format!(
                "{} of {} without a counterpart in {}, by the file's own foreign keys",
                counted(found.rows, "row"),
                found.table,
                found.parent
            )
        })
        .collect();
    add_list(text, "  ", &broken);
    if let Some(why) = &file.references_not_checked {
        wrap(text, "  ", &format!("its own foreign keys could not be checked: {why}"));
    }
    if !file.unread_tables.is_empty() {
        let shown = &file.unread_tables[..file.unread_tables.len().min(LISTED_MAX)];
        let more = more(file.unread_tables.len());
        wrap(text, "  ", &format!("no stream reads: {}{more}", shown.join(", ")));
    }
}

fn add_list(text: &mut String, indent: &str, lines: &[String]) {
    for line in lines.iter().take(LISTED_MAX) {
        wrap(text, indent, line);
    }
    if lines.len() > LISTED_MAX {
        wrap(text, indent, more(lines.len()).trim_start_matches(", "));
    }
}

fn more(count: usize) -> String {
    match count.saturating_sub(LISTED_MAX) {
        0 => String::new(),
        rest => format!(", and {rest} more (--format json has all)"),
    }
}

/// Adds a paragraph, its later lines indented further; words that are too long are cut.
fn wrap(text: &mut String, indent: &str, paragraph: &str) {
    let mut line = indent.to_owned();
    let mut is_empty = true;
    for word in paragraph.split_whitespace() {
        let mut word = word.to_owned();
        let room = WIDTH - indent.chars().count() - 4;
        if word.chars().count() > room {
            word = word.chars().take(room - 3).collect();
            word.push_str("...");
        }
        if !is_empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(text, "{line}");
            line = format!("{indent}    ");
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(&word);
        is_empty = false;
    }
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_stay_within_the_width_and_keep_their_words() {
        let mut text = String::new();
        wrap(&mut text, "  ", &format!("{} {}", "word ".repeat(60), "x".repeat(300)));
        assert!(text.lines().count() > 3);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with("      ")), "{text}");
        assert_eq!(text.matches("word").count(), 60);
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
