//! What a gate asks for, and what was found.

use serde::Serialize;
use serde_json::{Value, json};

use super::state::Phase;
use crate::error::Error;

/// How one condition stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It holds.
    Met,
    /// It does not hold.
    Missing,
    /// It could not be checked.
    Unknown,
}

/// One condition of a gate.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What it is about, as one word.
    pub name: &'static str,
    /// How it stands.
    pub verdict: Verdict,
    /// What was found, as a sentence.
    pub finding: String,
    /// What to do about it: usually the next command to type.
    pub advice: Option<String>,
    /// The figures behind the sentence.
    pub facts: Value,
}

impl Check {
    /// It holds.
    pub(super) fn met(name: &'static str, finding: impl Into<String>) -> Self {
        Self::new(name, Verdict::Met, finding.into(), None)
    }

    /// It does not hold; `advice` says what to do.
    pub(super) fn missing(
        name: &'static str,
        finding: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self::new(name, Verdict::Missing, finding.into(), Some(advice.into()))
    }

    /// It could not be checked.
    pub(super) fn unknown(name: &'static str, error: &Error) -> Self {
        let advice = error.advice_text().map(str::to_owned);
        Self::new(
            name,
            Verdict::Unknown,
            format!("could not be checked: {}", error.detail()),
            advice,
        )
    }

    fn new(name: &'static str, verdict: Verdict, finding: String, advice: Option<String>) -> Self {
        Self { name, verdict, finding, advice, facts: Value::Null }
    }

    /// Adds the figures.
    #[must_use]
    pub(super) fn with(mut self, facts: Value) -> Self {
        self.facts = facts;
        self
    }

    /// As it is stored beside a transition.
    fn stored(&self) -> Value {
        json!({
            "check": self.name,
            "verdict": self.verdict,
            "finding": self.finding,
            "facts": self.facts,
        })
    }
}

/// The conditions of the way from one phase to the next.
#[derive(Debug, Clone, Serialize)]
pub struct Gate {
    /// From.
    pub from: Phase,
    /// To.
    pub to: Phase,
    /// What it asks for.
    pub checks: Vec<Check>,
}

impl Gate {
    /// Whether everything it asks for holds.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.checks.iter().all(|check| check.verdict == Verdict::Met)
    }

    /// What does not hold, or could not be checked.
    pub fn missing(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| check.verdict != Verdict::Met)
    }

    /// Whether nothing is known to be missing, but not everything could be checked.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        !self.is_open() && self.missing().all(|check| check.verdict == Verdict::Unknown)
    }

    /// As it is stored beside a transition.
    #[must_use]
    pub fn evidence(&self) -> Value {
        self.checks.iter().map(Check::stored).collect()
    }
}
