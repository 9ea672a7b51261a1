//! Fields of a workflow report and of a workstream comparison that a JSON pointer cannot reach.

use std::collections::BTreeMap;

use crate::canonical::sha256;
use crate::json::Json;

/// Confidence labels every report's counts name, in this order.
const LABELS: [&str; 3] = ["high", "medium", "low"];

/// Computed fields of a workflow report: `question_count`, `confidence_mean`,
/// `confidence_label_counts`, `final_answer_hash` (SHA-256 of the text, hexadecimal) and
/// `artifacts`, a list of `{type, path, status, sha256, record_key, payload}`.
#[must_use]
pub fn compute(report: &Json) -> Json {
    let mut computed = Vec::new();
    if let Some(Json::Array(questions)) = report.pointer("/agentic/report_questions") {
        computed.push(member("question_count", number(questions.len())));
        let stated = report.pointer("/agentic/report_question_confidence/mean");
        if let Some(mean) = stated.cloned().or_else(|| mean_score(questions)) {
            computed.push(member("confidence_mean", mean));
        }
        let stated = report.pointer("/agentic/report_question_confidence/label_counts");
        let counts = stated.cloned().unwrap_or_else(|| label_counts(questions));
        computed.push(member("confidence_label_counts", counts));
    }
    if let Some(Json::String(answer)) = report.pointer("/agentic/final_answer") {
        computed.push(member("final_answer_hash", text(&hex::encode(sha256(answer)))));
    }
    computed.push(member("artifacts", Json::Array(artifacts(report))));
    Json::Object(computed)
}

/// Computed field of a workstream comparison: `record_key`.
#[must_use]
pub fn comparison(document: &Json) -> Json {
    let id = match document.pointer("/comparison_id") {
        Some(Json::String(id)) => id.to_vec(),
        _ => return Json::Object(Vec::new()),
    };
    let mut key = b"workstream_comparison:".to_vec();
    key.extend_from_slice(&id);
    Json::Object(vec![member("record_key", Json::String(key.into()))])
}

fn mean_score(questions: &[Json]) -> Option<Json> {
    let scores: Vec<f64> = questions
        .iter()
        .filter_map(|question| question.pointer("/confidence_score")?.as_f64())
        .filter(|score| score.is_finite())
        .collect();
    if scores.is_empty() {
        return None;
    }
    let mean = scores.iter().sum::<f64>() / scores.len() as f64;
    Some(Json::Number(mean.to_string().into()))
}

fn label_counts(questions: &[Json]) -> Json {
    let mut counts: BTreeMap<&[u8], usize> =
        LABELS.iter().map(|label| (label.as_bytes(), 0)).collect();
    for question in questions {
        if let Some(Json::String(label)) = question.pointer("/confidence") {
            *counts.entry(label).or_default() += 1;
        }
    }
    let members = counts.into_iter().map(|(label, count)| (label.into(), number(count)));
    Json::Object(members.collect())
}

/// Every object directly under `audit_artifacts` is one artifact; scalars beside them (`enabled`,
/// `status`) belong to the report.
fn artifacts(report: &Json) -> Vec<Json> {
    let Some(Json::Object(entries)) = report.pointer("/audit_artifacts") else {
        return Vec::new();
    };
    entries
        .iter()
        .filter(|(_, entry)| matches!(entry, Json::Object(_)))
        .map(|(kind, entry)| artifact(kind, entry))
        .collect()
}

fn artifact(kind: &[u8], entry: &Json) -> Json {
    let mut key = kind.to_vec();
    key.push(b':');
    if let Some(Json::String(path)) = entry.pointer("/path") {
        key.extend_from_slice(path);
    }
    let mut members = vec![
        member("type", Json::String(kind.into())),
        member("record_key", Json::String(key.into())),
        member("payload", entry.clone()),
    ];
    for name in ["path", "status", "sha256"] {
        if let Some(value) = entry.pointer(&format!("/{name}")) {
            members.push(member(name, value.clone()));
        }
    }
    Json::Object(members)
}

fn member(name: &str, value: Json) -> (Box<[u8]>, Json) {
    (name.as_bytes().into(), value)
}

fn number(count: usize) -> Json {
    Json::Number(count.to_string().into())
}

fn text(value: &str) -> Json {
    Json::String(value.as_bytes().into())
}
