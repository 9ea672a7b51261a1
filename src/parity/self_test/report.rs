//! What the self-test found out.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::parity::self_test::case::{Case, Finding, Outcome, Way};

/// A whole self-test.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The scratch database, which is dropped.
    pub database: String,
    /// Seed of the draws; the same seed tries the same.
    pub seed: u64,
    /// Whether everything planted was found, and nothing else.
    pub passed: bool,
    /// Cases of drift.
    pub planted: u64,
    /// Those found exactly, in every way that promises to.
    pub found: u64,
    /// Cases that are no drift.
    pub harmless: u64,
    /// Cases of either kind in which something was reported that was not planted.
    pub false_alarms: u64,
    /// Casts with a bug, and casts without.
    pub cast_bugs_planted: u64,
    /// Bugs that the second reading found, and no other.
    pub cast_bugs_found: u64,
    /// Per class of drift.
    pub classes: Vec<ClassResult>,
    /// Every case.
    pub cases: Vec<CaseResult>,
    /// Every bug planted in a cast.
    pub casts: Vec<CastResult>,
    /// What was not tried, and why.
    pub not_tried: Vec<String>,
    /// Seconds from start to end.
    pub seconds: f64,
}

/// Cases of one class.
#[derive(Debug, Clone, Serialize)]
pub struct ClassResult {
    /// Class.
    pub class: String,
    /// Whether it is drift, and not a change that is none.
    pub is_drift: bool,
    /// Its cases.
    pub cases: u64,
    /// Per way of verifying.
    pub ways: BTreeMap<Way, WayResult>,
}

/// What one way said about the cases of a class.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct WayResult {
    /// Cases it promises to find; those it may find beside are not counted.
    pub promised: u64,
    /// As promised: found, or silent where there is nothing.
    pub right: u64,
    /// False alarms.
    pub false_alarms: u64,
}

/// One case.
#[derive(Debug, Clone, Serialize)]
pub struct CaseResult {
    /// Class.
    pub class: String,
    /// Table, column and type.
    pub place: String,
    /// Statements that planted it in the target.
    pub planted: String,
    /// Statements that changed the source.
    pub in_source: String,
    /// What had to be found.
    pub expected: Vec<Finding>,
    /// What each way said.
    pub ways: BTreeMap<Way, Outcome>,
    /// What was missed, or found without being there.
    pub problems: Vec<String>,
}

/// A bug planted in casts.
#[derive(Debug, Clone, Serialize)]
pub struct CastResult {
    /// The bug; None: right casts, of which no value may be called wrong.
    pub bug: Option<String>,
    /// Columns whose cast has it.
    pub columns: Vec<String>,
    /// Their type.
    pub ty: String,
    /// Whether the target was written by the same casts, so that both sides agree.
    pub backfilled: bool,
    /// What is wrong, if it was not found as it had to be.
    pub detail: Option<String>,
}

impl CaseResult {
    pub(super) fn new(case: Case, said: Vec<(Way, Outcome, Option<String>)>) -> Self {
        let problem = |(way, outcome, detail): &(Way, Outcome, Option<String>)| {
            let detail = detail.clone().unwrap_or_default();
            (!outcome.is_good()).then(|| format!("{}: {outcome:?}, {detail}", way.name()))
        };
        Self {
            class: case.class.to_owned(),
            place: case.place,
            planted: case.plant,
            in_source: case.in_source,
            expected: case.expected.into_iter().collect(),
            problems: said.iter().filter_map(problem).collect(),
            ways: said.into_iter().map(|(way, outcome, _)| (way, outcome)).collect(),
        }
    }

    fn is_drift(&self) -> bool {
        !self.expected.is_empty()
    }

    fn has_alarm(&self) -> bool {
        self.ways.values().any(|outcome| *outcome == Outcome::FalseAlarm)
    }
}

impl Report {
    pub(super) fn new(
        database: String,
        seed: u64,
        cases: Vec<CaseResult>,
        casts: Vec<CastResult>,
        not_tried: Vec<String>,
        seconds: f64,
    ) -> Self {
        let drift = || cases.iter().filter(|case| case.is_drift());
        let bugs = || casts.iter().filter(|cast| cast.bug.is_some());
        let mut report = Self {
            database,
            seed,
            passed: false,
            planted: drift().count() as u64,
            found: drift().filter(|case| case.problems.is_empty()).count() as u64,
            harmless: (cases.len() - drift().count()) as u64,
            false_alarms: cases.iter().filter(|case| case.has_alarm()).count() as u64,
            cast_bugs_planted: bugs().count() as u64,
            cast_bugs_found: bugs().filter(|cast| cast.detail.is_none()).count() as u64,
            classes: classes(&cases),
            casts: Vec::new(),
            cases: Vec::new(),
            not_tried,
            seconds,
        };
        report.passed = report.planted == report.found
            && report.planted > 0
            && report.false_alarms == 0
            && casts.iter().all(|cast| cast.detail.is_none());
        report.casts = casts;
        report.cases = cases;
        report
    }
}

/// Classes in the order in which they were first tried.
fn classes(cases: &[CaseResult]) -> Vec<ClassResult> {
    let mut classes: Vec<ClassResult> = Vec::new();
    for case in cases {
        let at = classes.iter().position(|class| class.class == case.class);
        let at = at.unwrap_or_else(|| {
            classes.push(ClassResult {
                class: case.class.clone(),
                is_drift: case.is_drift(),
                cases: 0,
                ways: BTreeMap::new(),
            });
            classes.len() - 1
        });
        let class = &mut classes[at];
        class.cases += 1;
        for (way, outcome) in &case.ways {
            let result = class.ways.entry(*way).or_default();
            result.promised += u64::from(*outcome != Outcome::NotPromised);
            result.right += u64::from(matches!(outcome, Outcome::Found | Outcome::Clean));
            result.false_alarms += u64::from(*outcome == Outcome::FalseAlarm);
        }
    }
    classes
}
