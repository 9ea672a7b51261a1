//! `toolkit verify-parity --self-test`: what was planted, and what each way of verifying found.

use super::{Outcome, Output, Report, output};
use crate::config::Settings;
use crate::error::Result;
use crate::parity::self_test::{self, ClassResult, Options, Way};
use crate::store::Postgres;

/// Failed cases shown to a person; all are in the JSON.
const FAILURES_SHOWN: usize = 20;

/// Runs the self-test.
pub(super) async fn run(
    options: &Options,
    settings: &Settings,
    output: &Output,
) -> Result<Outcome> {
    output.note(format!("planting drift in a scratch database, with --seed {}", options.seed));
    let postgres = output.stop().unless(Postgres::connect(settings)).await?;
    let report = self_test::run(settings, &postgres, options, output.stop()).await;
    let closed = postgres.close().await;
    let report = report?;
    closed?;
    output.report(&report)?;
    Ok(if report.passed { Outcome::Success } else { Outcome::Differences })
}

impl Report for self_test::Report {
    fn text(&self) -> String {
        let mut parts = Vec::new();
        for (ways, heading, silence) in [
            (&Way::OF_TABLES[..], "drift", "no drift: right is silence"),
            (&Way::OF_DERIVED[..], "drift in what is derived", "no drift in it"),
        ] {
            for (is_drift, heading) in [(true, heading), (false, silence)] {
                let is_of = |class: &&ClassResult| {
                    class.is_drift == is_drift
                        && ways.iter().any(|way| class.ways.contains_key(way))
                };
                let classes: Vec<&ClassResult> = self.classes.iter().filter(is_of).collect();
                if !classes.is_empty() {
                    parts.push(matrix(&classes, ways, heading));
                }
            }
        }
        let mut text = parts.join("\n\n");
        text.push_str(
            "\n\nfound of promised; - : this way does not promise it. counts: rows per table; \
             sample: every key\ndrawn; few keys: 5 of them; client, server: level full, digests \
             made there; re-read: level full\nwithout a record on disk; sidecar, points: \
             --against those.\n",
        );
        text.push_str(&format!(
            "\nbugs in casts: {} of {} found by the second reading",
            self.cast_bugs_found, self.cast_bugs_planted
        ));
        for what in &self.not_tried {
            text.push_str(&format!("\nNOT TRIED: {what}"));
        }
        text.push_str(&failures(self));
        text.push_str(&format!("\n\n{}", verdict(self)));
        text
    }
}

fn matrix(classes: &[&ClassResult], ways: &[Way], heading: &str) -> String {
    let mut headings = vec![heading, "cases"];
    headings.extend(ways.iter().map(|way| way.name()));
    let mut table = output::table([""; 0]);
    table.set_header(headings);
    for class in classes {
        let mut row = vec![class.class.clone(), class.cases.to_string()];
        row.extend(ways.iter().map(|way| cell(class, *way)));
        table.add_row(row);
    }
    table.to_string()
}

fn cell(class: &ClassResult, way: Way) -> String {
    let result = class.ways.get(&way).copied().unwrap_or_default();
    match (result.promised, result.false_alarms) {
        (0, _) => "-".to_owned(),
        (promised, 0) => format!("{}/{promised}", result.right),
        (promised, alarms) => format!("{}/{promised} {alarms} FALSE", result.right),
    }
}

fn failures(report: &self_test::Report) -> String {
    let cases = report.cases.iter().filter(|case| !case.problems.is_empty()).map(|case| {
        let planted = [case.planted.as_str(), case.in_source.as_str()].concat();
        format!(
            "\n\nFAILED {} [{}]\n  planted: {planted}\n  {}",
            case.class,
            case.place,
            case.problems.join("\n  ")
        )
    });
    let casts = report.casts.iter().filter_map(|cast| {
        let bug = cast.bug.as_deref().unwrap_or("no bug");
        let columns = cast.columns.join(", ");
        Some(format!("\n\nFAILED {bug} in the cast of {columns}\n  {}", cast.detail.as_ref()?))
    });
    cases.chain(casts).take(FAILURES_SHOWN).collect()
}

fn verdict(report: &self_test::Report) -> String {
    let head = if report.passed { "SELF-TEST PASSED" } else { "SELF-TEST FAILED" };
    format!(
        "{head}: {} of {} plants found in every way that promises it, {} false alarms in {} \
         cases, {} of {} cast bugs found (seed {}, {:.1} s)",
        report.found,
        report.planted,
        report.false_alarms,
        report.planted + report.harmless,
        report.cast_bugs_found,
        report.cast_bugs_planted,
        report.seed,
        report.seconds
    )
}
