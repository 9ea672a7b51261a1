//! The verdict in words a newcomer understands, and what to do next.

use std::collections::BTreeSet;

use crate::parity::against::{Against, StoreResult};
use crate::parity::difference::Kind;
use crate::parity::limits::{Limit, bound_text, thousands};
use crate::parity::page::{command, count, escape, split_slice};
use crate::parity::report::{Report, StreamResult, UnitResult, Verdict};
use crate::parity::stored::StoredRun;
use crate::shell::shell_word;

/// One sentence: what was found.
pub(super) fn headline(report: &Report) -> String {
    let source: u64 = report.units.iter().map(|unit| unit.source_rows).sum();
    let target: u64 = report.units.iter().map(|unit| unit.target_rows).sum();
    let tables = tables_of(report.units.iter().filter(|unit| unit.differing() > 0));
    let rows: u64 = report.units.iter().map(UnitResult::differing).sum();
    let unaccounted = report.differing_rows.saturating_sub(rows);
    if report.verdict == Verdict::Clean {
        return match report.level.as_str() {
            _ if source == 0 && target == 0 => "No rows on either side".to_owned(),
            "counts" => format!("Row counts agree: {} on both sides", count(target, "row")),
            "sample" => {
                let n = report.units.iter().filter_map(|unit| unit.sample).map(|s| s.n).sum();
                format!("No difference in {} that were sampled", count(n, "row"))
            }
            _ if target == 1 => "The one row is equal".to_owned(),
            _ => format!("All {} rows are equal", thousands(target)),
        };
    }
    let missing_record = match unaccounted {
        0 => String::new(),
        1 => "1 refused or changed value has no record".to_owned(),
        n => format!("{} refused or changed values have no record", thousands(n)),
    };
    if rows == 0 {
        return missing_record;
    }
    let verb = if rows == 1 { "differs" } else { "differ" };
    let found = format!("{} {verb} in {}", count(rows, "row"), count(tables, "table"));
    let found = match report.level.as_str() {
        "counts" => format!("Row counts of {} do not agree", count(tables, "table")),
        "sample" => format!("At least {found}"),
        _ => found,
    };
    if unaccounted == 0 { found } else { format!("{found}, and {missing_record}") }
}

/// The verdict as the page's first block.
pub(super) fn block(run: &StoredRun, limits: &[Limit]) -> String {
    let report = &run.report;
    let is_clean = report.verdict == Verdict::Clean;
    let (class, sign) = if is_clean { ("good", "\u{2713}") } else { ("bad", "\u{2717}") };
    let mut html = format!(
        "<section class=\"verdict {class}\" id=\"verdict\"><p class=\"what\">Parity of pack \
         <b>{}</b></p><h1><span aria-hidden=\"true\">{sign}</span> {}</h1><p>{}</p>",
        escape(&report.pack),
        escape(&headline(report)),
        escape(&explanation(report))
    );
    if !is_clean {
        html.push_str(&kinds(report));
    }
    if !report.differences.is_empty() {
        html.push_str(
            "<p><a href=\"#differences\">See them, both sides next to each other</a>.</p>",
        );
    }
    if !limits.is_empty() {
        let named: Vec<String> = limits
            .iter()
            .map(|limit| limit.what.clone())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        html.push_str(&format!(
            "<p class=\"caution\"><span aria-hidden=\"true\">!</span> Not checked: {}. \
             <a href=\"#not-checked\">What, and why</a>.</p>",
            escape(&lowered(&named.join("; ")))
        ));
    }
    html.push_str(&left_out(report));
    html.push_str("</section>");
    if !is_clean {
        html.push_str(&next_steps(run));
    }
    html
}

/// What of the source is not in Postgres, or not as it was, by a rule that is on record; and what
/// settled.
fn left_out(report: &Report) -> String {
    let sum = |get: fn(&StreamResult) -> u64| report.streams.iter().map(get).sum::<u64>();
    let pack = shell_word(&report.pack);
    let (rejects, ledger) = ("rejects list", "ledger list");
    let (changed, changes) = match report.documents {
        Some(_) => ("stored otherwise by the update policy", "review list"),
        None => ("stored changed by a rule", ledger),
    };
    let mut parts = Vec::new();
    for (number, what, list) in [
        (sum(|stream| stream.rejected), "rejected and not in Postgres", rejects),
        (sum(|stream| stream.corrected), "refused and compared as corrected instead", rejects),
        (sum(|stream| stream.skipped), "left out by a rule", ledger),
        (sum(|stream| stream.ledgered), changed, changes),
    ] {
        if number > 0 {
            parts.push((format!("{} {what}", thousands(number)), list));
        }
    }
    let mut html = String::new();
    if !parts.is_empty() {
        let whats: Vec<&str> = parts.iter().map(|(what, _)| what.as_str()).collect();
        let mut lists: Vec<String> = parts
            .iter()
            .map(|(_, list)| match *list {
                "review list" => command("toolkit review list"),
                list => command(&format!("toolkit {list} --pack {pack}")),
            })
            .collect();
        lists.dedup();
        html.push_str(&format!(
            "<p class=\"caution\"><span aria-hidden=\"true\">!</span> Of the source, and each on \
             record: {}. See {}.</p>",
            whats.join(", "),
            lists.join(" and ")
        ));
    }
    if let Some(settling) = report.settling.filter(|settling| settling.differed > 0) {
        html.push_str(&format!(
            "<p>The stores were live: {} differed at first, {} agreed when read again, {} still \
             changed.</p>",
            count(settling.differed, "row"),
            thousands(settling.settled),
            thousands(settling.unsettled)
        ));
        if settling.beyond > 0 {
            html.push_str(&format!(
                "<p class=\"caution\"><span aria-hidden=\"true\">!</span> {} of them were too many \
                 to be followed, and count as differing.</p>",
                thousands(settling.beyond)
            ));
        }
        if settling.waiting > 0 {
            html.push_str(&format!(
                "<p class=\"caution\"><span aria-hidden=\"true\">!</span> {} on the way back to \
                 SQLite, and not counted as differing.</p>",
                count(settling.waiting, "row")
            ));
        }
        if settling.behind > 0 {
            let store = if settling.is_back { "SQLite" } else { "Postgres" };
            html.push_str(&format!(
                "<p class=\"caution\"><span aria-hidden=\"true\">!</span> {store} still lacked \
                 {}.</p>",
                count(settling.behind, "captured change")
            ));
        }
    }
    html
}

/// With its first letter small, to stand within a sentence.
fn lowered(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// Tables behind slices; a slice is called `schema.table[column=value]`.
fn tables_of<'u>(units: impl Iterator<Item = &'u UnitResult>) -> u64 {
    let tables: BTreeSet<&str> = units
        .map(|unit| split_slice(&unit.target).map_or(&*unit.target, |(table, _)| table))
        .collect();
    tables.len() as u64
}

fn explanation(report: &Report) -> String {
    let tables = count(tables_of(report.units.iter()), "table");
    let superseded: u64 = report.units.iter().map(|unit| unit.superseded).sum();
    let how = match report.level.as_str() {
        "counts" => format!("Counted were the rows of {tables}, in the sources and in Postgres."),
        "sample" => match report.units.as_slice() {
            [one] => one.sample.map(bound_text).unwrap_or_default(),
            _ => format!("Rows were chosen at random in {tables} and compared byte for byte."),
        },
        _ if !report.against.contains(&Against::Source) => {
            format!("What Postgres holds was compared with {}.", stores(report))
        }
        _ if !report.stores.is_empty() => format!(
            "Every value that the sources tell was compared with what Postgres holds, and that \
             with {}.",
            stores(report)
        ),
        _ => format!(
            "Every row that the sources yield was compared, byte for byte, with what Postgres \
             holds in {tables}."
        ),
    };
    let newer = match superseded {
        0 => String::new(),
        n => format!(" {}: there the target rightly holds something newer.", count(n, "row")),
    };
    let when = report.snapshot_at.get(..16).unwrap_or(&report.snapshot_at).replace('T', " ");
    let when = if when.is_empty() { String::new() } else { format!(" As of {when} UTC.") };
    format!("{how}{newer}{when}")
}

/// The stores besides the sources, and what of them was compared.
fn stores(report: &Report) -> String {
    let one = |store: &StoreResult| {
        let what = match store.against {
            Against::Source => "the sources",
            Against::Sidecar => "the sidecar",
            Against::Qdrant => "the points of",
            Against::Graph => "the edges of",
        };
        format!("{what} {} ({})", store.place, store.notes.join("; "))
    };
    report.stores.iter().map(one).collect::<Vec<_>>().join(", and ")
}

/// The kinds with their counts, the kinds that occur only.
fn kinds(report: &Report) -> String {
    let sum = |get: fn(&UnitResult) -> u64| report.units.iter().map(get).sum::<u64>();
    let rows = sum(UnitResult::differing);
    let is_of_sources = report.against.contains(&Against::Source);
    let mostly = if is_of_sources { Against::Source } else { Against::Qdrant };
    let miscast: u64 = report.independent.iter().map(|result| result.differing).sum();
    let mut html = String::from("<ul class=\"kinds\">");
    for (kind, number) in [
        (Kind::Changed, sum(|unit| unit.changed)),
        (Kind::Missing, sum(|unit| unit.missing)),
        (Kind::Extra, sum(|unit| unit.extra)),
        (Kind::Duplicate, sum(|unit| unit.duplicates)),
        (Kind::Unaccounted, report.differing_rows.saturating_sub(rows + miscast)),
        (Kind::Miscast, miscast),
    ] {
        if number > 0 {
            html.push_str(&format!(
                "<li><b class=\"number\">{}</b> <b class=\"kind {}\">{}</b> <span>{}</span></li>",
                thousands(number),
                kind.name(),
                kind.name(),
                meaning(kind, mostly)
            ));
        }
    }
    html.push_str("</ul>");
    html
}

/// What a kind means.
pub(super) fn meaning(kind: Kind, against: Against) -> &'static str {
    match (kind, against) {
        (Kind::Missing, Against::Sidecar | Against::Qdrant) => "in Postgres, not in the store",
        (Kind::Extra, Against::Sidecar | Against::Qdrant) => "in the store, not in Postgres",
        (Kind::Missing, Against::Graph) => "made by the junction tables, not in graph_edge",
        (Kind::Extra, Against::Graph) => "in graph_edge, made by no junction table",
        (Kind::Missing, Against::Source) => "in the source, not in Postgres",
        (Kind::Extra, Against::Source) => "in Postgres, not in the source",
        (Kind::Changed, _) => "in both, with another value",
        (Kind::Duplicate, _) => "more than once under one key",
        (Kind::Unaccounted, _) => "refused or stored changed, and not recorded",
        (Kind::Miscast, _) => "read otherwise by a second, independent way",
    }
}

fn next_steps(run: &StoredRun) -> String {
    let report = &run.report;
    let mut steps = Vec::new();
    if !report.changed_sources.is_empty() {
        steps.push(format!(
            "Sources changed while they were read. Verify again when the application is still: \
             {}",
            command(&reproduce(run))
        ));
    }
    let differs = |against: Against| {
        let mut units = report.units.iter().filter(|unit| unit.against == against);
        units.any(|unit| unit.missing + unit.extra + unit.changed > 0)
    };
    if differs(Against::Sidecar) {
        let write = command("toolkit sidecar write --source ARTIFACT");
        steps.push(format!("Write the sidecar anew, from Postgres: {write}"));
    }
    if differs(Against::Qdrant) {
        steps.push(format!(
            "Let Postgres decide about the points: {}, then {} and {}. What is on its way arrives by \
             the last alone.",
            command(&format!(
                "toolkit repair plan --run {} --out repair.json",
                shell_word(&report.run_id)
            )),
            command("toolkit repair apply repair.json"),
            command("toolkit outbox drain")
        ));
    }
    if differs(Against::Graph) {
        let reconcile = command("toolkit graph reconcile --repair");
        steps.push(format!("Make the edges anew from the junction tables: {reconcile}"));
    }
    if differs(Against::Source) {
        if report.level == "counts" {
            steps.push(format!(
                "Find which rows they are: {}",
                command(&reproduce(run).replace("--level counts", "--level full"))
            ));
        } else {
            steps.push(format!(
                "Let the sources decide. This writes a plan to read, and changes nothing: {}",
                command(&format!(
                    "toolkit repair plan --run {} --out repair.json",
                    shell_word(&report.run_id)
                ))
            ));
            let sources = source_flags(run);
            let pack = run.provenance.settings.pack_folder.as_ref();
            let pack = pack.map(|pack| format!(" --pack {}", shell_word(pack))).unwrap_or_default();
            steps.push(format!(
                "When the plan is right, carry it out: {}",
                command(&format!("toolkit repair apply repair.json{pack}{sources}"))
            ));
        }
    }
    if report.units.iter().any(|unit| unit.duplicates > 0) {
        steps.push("Remove the wrong ones of the duplicate rows by hand.".to_owned());
    }
    if report.streams.iter().any(|stream| stream.unaccounted > 0) {
        steps.push(format!(
            "Run the backfill again, so that it records what it refused or changed: {}",
            command(&format!("toolkit backfill --pack {}{}", pack(run), source_flags(run)))
        ));
    }
    let steps: Vec<String> = steps.iter().map(|step| format!("<li>{step}</li>")).collect();
    format!("<section id=\"next\"><h2>What to do</h2><ol>{}</ol></section>", steps.join(""))
}

/// The command that makes this comparison again.
pub(super) fn reproduce(run: &StoredRun) -> String {
    let mut line = format!(
        "toolkit verify-parity --pack {}{} --level {}",
        pack(run),
        source_flags(run),
        run.report.level
    );
    if let Some(sample) = run.provenance.settings.sample {
        line.push_str(&format!(" --n {} --seed {}", sample.n, sample.seed));
    }
    if !run.report.stores.is_empty() {
        let names: Vec<&str> = run.report.against.iter().map(|against| against.name()).collect();
        line.push_str(&format!(" --against {}", names.join(",")));
    }
    for stream in &run.provenance.settings.streams {
        line.push_str(&format!(" --stream {}", shell_word(stream)));
    }
    line
}

fn pack(run: &StoredRun) -> String {
    shell_word(run.provenance.settings.pack_folder.as_ref().unwrap_or(&run.report.pack))
}

fn source_flags(run: &StoredRun) -> String {
    let looked_in = &run.provenance.settings.looked_in;
    if looked_in.is_empty() {
        if !run.report.against.contains(&Against::Source) {
            return String::new();
        }
        return " --source PATH".to_owned();
    }
    let flags: Vec<String> =
        looked_in.iter().map(|path| format!(" --source {}", shell_word(path))).collect();
    flags.concat()
}
