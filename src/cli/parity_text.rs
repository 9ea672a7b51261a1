//! A verification as text: verdict, tables, streams, and each difference side by side.

use super::record::shown as escaped;
use super::{Report, output};
use crate::parity::{self, Against, Difference, Kind, UnitResult, Verdict};

impl Report for parity::Report {
    fn text(&self) -> String {
        let mut text = units_table(&self.units).to_string();
        if !self.streams.is_empty() {
            text.push_str("\n\n");
            text.push_str(&streams_table(self).to_string());
        }
        if !self.differences.is_empty() {
            text.push_str("\n\n");
            text.push_str(&differences_text(&self.differences));
        }
        if let Some(line) = independent_line(self) {
            text.push_str(&format!("\n\n{line}"));
        }
        if !self.not_checked.is_empty() {
            text.push_str(&format!(
                "\n\nNOT CHECKED, no source found: {}",
                self.not_checked.join(", ")
            ));
        }
        let of_sources = self.units.iter().filter(|unit| unit.against == Against::Source);
        let extra: u64 = of_sources.map(|unit| unit.extra).sum();
        if extra > 0 && self.documents.is_none() {
            text.push_str(&format!(
                "\n\n{} of the target stand in no source that was given: give each that the \
                 backfill had, for what comes from one left out is extra too",
                output::count(extra, "row")
            ));
        }
        for outside in &self.outside_slices {
            text.push_str(&format!(
                "\n\nNOT COMPARED: {} of {}, in no slice of the pack",
                output::count(outside.rows, "row"),
                outside.table
            ));
        }
        for left_out in &self.left_out {
            text.push_str(&format!(
                "\n\nNOT COMPARED: {} of the source with {}, which retention removed from {}; the \
                 target still holds {} of that age",
                output::count(left_out.source_rows, "row"),
                left_out.rule,
                left_out.target,
                left_out.target_rows
            ));
        }
        for unmapped in &self.unmapped_columns {
            text.push_str(&format!(
                "\n\nNOT COMPARED: columns of {} that the pack does not fill: {}",
                unmapped.table,
                unmapped.columns.join(", ")
            ));
        }
        for trigger in &self.changing_triggers {
            text.push_str(&format!(
                "\n\nhint: trigger {trigger} may change rows as they are stored, which then differ \
                 from the source; `backfill --disable-triggers` stores them as they are"
            ));
        }
        if !self.changed_sources.is_empty() {
            text.push_str(&format!(
                "\n\nCHANGED while being read: {}; what differs may be due to that, so verify \
                 again when the application is still",
                self.changed_sources.join(", ")
            ));
        }
        for line in left_out(self) {
            text.push_str(&format!("\n\n{line}"));
        }
        for store in &self.stores {
            text.push_str(&format!("\n\nagainst {}: {}", store.against.name(), store.place));
            for note in &store.notes {
                text.push_str(&format!("\n  {note}"));
            }
        }
        text.push_str(&format!("\n\n{}", verdict(self)));
        text
    }
}

/// What of the source is not in Postgres, or not as it was, and is no difference because backfill
/// recorded it.
fn left_out(report: &parity::Report) -> Vec<String> {
    let sum = |count: fn(&parity::StreamResult) -> u64| report.streams.iter().map(count).sum();
    let pack = &report.pack;
    // Documents have words of their own, below, for what is stored otherwise.
    let ledgered = if report.documents.is_some() { 0 } else { sum(|stream| stream.ledgered) };
    let kinds: [(u64, &str, String); 4] = [
        (
            sum(|stream| stream.rejected),
            "rejected, and not in Postgres",
            format!("toolkit rejects list --pack {pack}"),
        ),
        (
            sum(|stream| stream.corrected),
            "refused, and compared as corrected instead",
            format!("toolkit rejects list --pack {pack} --state retried"),
        ),
        (
            sum(|stream| stream.skipped),
            "left out by a rule, and not in Postgres",
            format!("toolkit ledger list --pack {pack}"),
        ),
        (ledgered, "stored changed by a rule", format!("toolkit ledger list --pack {pack}")),
    ];
    let mut lines: Vec<String> = kinds
        .into_iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, what, command)| format!("of the source {count} {what}: `{command}`"))
        .collect();
    if let Some(documents) = report.documents {
        for (count, what) in [
            (
                documents.reviewed,
                "are otherwise in Postgres by the update policy: `toolkit review list`, \
                 `toolkit ledger list --pack anime`",
            ),
            (documents.elsewhere, "in Postgres come from other artifacts, or newer entries"),
        ] {
            if count > 0 {
                lines.push(format!("{count} values and rows {what}"));
            }
        }
    }
    if let Some(settling) = report.settling.filter(|settling| settling.differed > 0) {
        lines.push(format!(
            "{} differed at first: {} agreed when read again ({}), still changing: {}",
            output::count(settling.differed, "row"),
            settling.settled,
            output::count(settling.readings.into(), "more reading"),
            settling.unsettled
        ));
        if settling.beyond > 0 {
            lines.push(format!(
                "too many to be followed, and counted as differing: {}; let `toolkit dual-write \
                 run` catch up, then verify again",
                output::count(settling.beyond, "row")
            ));
        }
        if settling.waiting > 0 {
            lines.push(format!(
                "on their way back to SQLite, and not counted as differing: {}; `toolkit dual-write \
                 reverse run` writes them back",
                output::count(settling.waiting, "row")
            ));
        } else if settling.behind > 0 {
            let (store, run) = if settling.is_back {
                ("SQLite", "toolkit dual-write reverse run")
            } else {
                ("Postgres", "toolkit dual-write run")
            };
            lines.push(format!(
                "{store} still lacked {}: let `{run}` catch up, then verify again",
                output::count(settling.behind, "captured change")
            ));
        }
    }
    lines
}

impl parity::Report {
    /// The differences and the verdict, without the tables.
    pub(super) fn findings(&self) -> String {
        format!("{}\n\n{}", differences_text(&self.differences), verdict(self))
    }
}

/// What the second reading of the casts says, in a sentence.
fn independent_line(report: &parity::Report) -> Option<String> {
    let columns = &report.independent;
    let checked: u64 = columns.iter().map(|column| column.checked).sum();
    let differing: u64 = columns.iter().map(|column| column.differing).sum();
    let unread: u64 = columns.iter().map(|column| column.unread).sum();
    if checked + unread == 0 {
        return None;
    }
    let mut line = format!(
        "second reading of the casts: {differing} of {} in {} differ",
        output::count(checked, "value"),
        output::count(columns.iter().filter(|c| c.checked > 0).count() as u64, "column")
    );
    if unread > 0 {
        line.push_str(&format!(
            "; {} could be read by the cast alone",
            output::count(unread, "value")
        ));
    }
    let alone: Vec<String> = columns
        .iter()
        .filter(|column| !column.has_second_way)
        .map(|column| format!("{}.{}", column.target, column.column))
        .collect();
    if !alone.is_empty() {
        line.push_str(&format!("; no second way for {}", alone.join(", ")));
    }
    Some(line)
}

fn units_table(units: &[UnitResult]) -> comfy_table::Table {
    let mut table = output::table([
        "target",
        "source rows",
        "target rows",
        "missing",
        "extra",
        "changed",
        "duplicate",
        "superseded",
        "sample",
    ]);
    for unit in units {
        table.add_row([
            unit.target.clone(),
            unit.source_rows.to_string(),
            unit.target_rows.to_string(),
            unit.missing.to_string(),
            unit.extra.to_string(),
            unit.changed.to_string(),
            unit.duplicates.to_string(),
            unit.superseded.to_string(),
            unit.sample.map(sample_text).unwrap_or_default(),
        ]);
    }
    table
}

fn sample_text(sample: parity::SampleBound) -> String {
    let percent = sample.upper_bound * 100.0;
    // A bound from a part is always above the part's own share.
    if sample.upper_bound * sample.n as f64 <= sample.differing as f64 {
        return format!("{} of {} differ: that is every row", sample.differing, sample.n);
    }
    format!(
        "{} of {} differ: fewer than {} % at 95 % confidence",
        sample.differing,
        sample.n,
        if percent < 0.01 { format!("{percent:.4}") } else { format!("{percent:.2}") }
    )
}

fn streams_table(report: &parity::Report) -> comfy_table::Table {
    let mut table = output::table([
        "stream",
        "read",
        "rejected",
        "skipped",
        "superseded",
        "ledgered",
        "unaccounted",
    ]);
    for stream in &report.streams {
        table.add_row([
            stream.stream.clone(),
            stream.read.to_string(),
            stream.rejected.to_string(),
            stream.skipped.to_string(),
            stream.superseded.to_string(),
            stream.ledgered.to_string(),
            stream.unaccounted.to_string(),
        ]);
    }
    table
}

fn differences_text(differences: &[Difference]) -> String {
    let lines: Vec<String> = differences.iter().map(difference_text).collect();
    lines.join("\n")
}

fn difference_text(difference: &Difference) -> String {
    let key: Vec<String> = difference
        .key
        .iter()
        .map(|(column, value)| match value {
            serde_json::Value::String(text) => format!("{column}={}", escaped(text)),
            other => format!("{column}={other}"),
        })
        .collect();
    let place = difference.locator.as_deref().map(escaped);
    let place = place.map(|place| format!("  ({place})")).unwrap_or_default();
    let head = format!(
        "{:<11} {} [{}] {}{place}",
        difference.kind.name().to_uppercase(),
        difference.target,
        difference.stream,
        key.join(", ")
    );
    let against = Against::of_stream(&difference.stream, &difference.target);
    let (left, right) = against.sides();
    let is_bare = difference.source_value.is_none() && difference.target_value.is_none();
    match (difference.kind, &difference.column) {
        // Only digests are at hand.
        (Kind::Changed, Some(column)) if is_bare && against == Against::Sidecar => {
            format!("{head}\n            {column}")
        }
        (Kind::Changed, Some(column)) => format!(
            "{head}\n            column {column}\n              {:<9} {}\n              {:<9} {}",
            if difference.corrected {
                "correction, not the source:".to_owned()
            } else {
                format!("{left}:")
            },
            shown(difference.source_value.as_deref()),
            format!("{right}:"),
            shown(difference.target_value.as_deref())
        ),
        (Kind::Miscast, Some(column)) => format!(
            "{head}\n            column {column}\n              second way: {}\n              the cast:   {}",
            shown(difference.source_value.as_deref()),
            shown(difference.target_value.as_deref())
        ),
        (Kind::Unaccounted, _) => {
            format!(
                "{head}\n            {}",
                difference.source_value.as_deref().map(escaped).unwrap_or_default()
            )
        }
        _ if difference.corrected && difference.source_value.is_some() => format!(
            "{head}\n            as it was corrected, not as the source has it: {}",
            difference.source_value.as_deref().map(escaped).unwrap_or_default()
        ),
        _ => match difference.source_value.as_ref().or(difference.target_value.as_ref()) {
            Some(row) if !row.is_empty() => format!("{head}\n            {}", escaped(row)),
            _ => head,
        },
    }
}

fn shown(value: Option<&str>) -> String {
    value.map_or_else(|| "NULL".to_owned(), |text| format!("'{}'", escaped(text)))
}

/// What is equal where more than the sources, or something else, was compared.
fn clean_of_stores(report: &parity::Report) -> String {
    let parts: Vec<String> = report
        .against
        .iter()
        .map(|against| {
            let units = report.units.iter().filter(|unit| unit.against == *against);
            let rows: u64 = units.map(|unit| unit.target_rows).sum();
            match against {
                parity::Against::Source => format!("{rows} rows with what the sources say"),
                parity::Against::Sidecar => format!("{rows} entries of the sidecar"),
                parity::Against::Qdrant => format!("{rows} points of Qdrant"),
                parity::Against::Graph => format!("{rows} edges of the graph"),
            }
        })
        .collect();
    format!("PARITY: Postgres agrees in {}", parts.join(", "))
}

fn verdict(report: &parity::Report) -> String {
    let rows: u64 = report.units.iter().map(|unit| unit.source_rows).sum();
    let named: std::collections::BTreeSet<String> = report
        .differences
        .iter()
        .map(|d| format!("{} {:?} {:?}", d.target, d.key, d.locator))
        .collect();
    let slices = output::count(report.units.len() as u64, "slice");
    let corrected: u64 = report.streams.iter().map(|stream| stream.corrected).sum();
    let head = match report.verdict {
        Verdict::Clean if report.level == "counts" => {
            format!("COUNTS AGREE: {} in {slices}", output::count(rows, "row"))
        }
        Verdict::Clean if report.level == "sample" => {
            format!("NO DIFFERENCE in the sample of {slices}")
        }
        Verdict::Clean if !report.stores.is_empty() => clean_of_stores(report),
        Verdict::Clean if report.documents.is_some() => {
            let read: u64 = report.streams.iter().map(|stream| stream.read).sum();
            format!("PARITY: every value of all {read} entries is in Postgres or accounted for")
        }
        Verdict::Clean => {
            let all = match rows {
                1 => format!("the one row of {slices} is"),
                _ => format!("all {rows} rows of {slices} are"),
            };
            format!("PARITY: {all} equal, byte for byte in canonical form")
        }
        Verdict::Differences => format!(
            "DIFFERENCES: {} {}{}",
            output::count(report.differing_rows, "row"),
            if report.differing_rows == 1 { "differs" } else { "differ" },
            if (named.len() as u64) < report.differing_rows {
                format!(", {} of them named above", named.len())
            } else {
                String::new()
            }
        ),
    };
    let head = match corrected {
        0 => head,
        n => format!("{head}; {} as corrected, not as in the source", output::count(n, "record")),
    };
    format!(
        "{head} (level {}, {} digests, {:.1} s, snapshot at {}, run {})",
        report.level, report.digests, report.seconds, report.snapshot_lsn, report.run_id
    )
}
