//! Workflow reports, prep manifests and comparisons: the JSON the pipeline leaves behind.

use super::dice::{Dice, iso};
use super::document::{Document, map};
use super::prose::{self, Paper};
use super::runs::{Kind, Run};

/// What every generated password contains, so that a test can look for it where none may be.
pub const SECRET_MARK: &str = "s3cret-";

/// The database URL that report `number` was written with, password and all.
pub(super) fn database_url(number: usize) -> String {
    format!("postgres://demo:{SECRET_MARK}{number}@db.example.invalid:5432/rag")
}

/// The stats object of step `prep`, shared by step output, report and manifest.
fn prep_stats(run: &Run, papers: &[&Paper]) -> Document {
    let total: i64 = papers.iter().map(|paper| paper.size_bytes).sum();
    map([
        ("num_files", papers.len().into()),
        ("total_size_bytes", total.into()),
        ("corpus_hash", run.corpus_hash.as_str().into()),
        ("hashing_enabled", true.into()),
        ("validate_text", false.into()),
        ("duplicate_count", 0_i64.into()),
        ("empty_file_count", 0_i64.into()),
        ("empty_text_count", 0_i64.into()),
        ("pdfinfo_available", true.into()),
    ])
}

pub(super) fn prep(run: &Run, papers: &[&Paper]) -> Document {
    let failed = run.kind == Kind::PrepFailed;
    map([
        ("status", if failed { "failed" } else { "completed" }.into()),
        ("reason", failed.then_some("no_files_found").into()),
        ("stats", prep_stats(run, papers)),
        ("warnings", if failed { vec!["no_files_found"] } else { Vec::new() }.into()),
        ("manifest_path", run.path_of("prep-manifest", "json").into()),
    ])
}

/// `prep-manifest-<run_id>.json`.
pub(super) fn manifest(run: &Run, papers: &[&Paper]) -> Document {
    let empty = || Document::List(Vec::new());
    let files: Vec<Document> = papers
        .iter()
        .map(|paper| {
            map([
                ("path", paper.path.as_str().into()),
                ("size_bytes", paper.size_bytes.into()),
                ("mtime", paper.mtime.into()),
                ("pages", paper.pages.into()),
                ("sha256", paper.sha256.as_str().into()),
            ])
        })
        .collect();
    map([
        ("run_id", run.id.as_str().into()),
        ("created_at", iso(run.started + 9_000).into()),
        ("corpus_hash", run.corpus_hash.as_str().into()),
        ("hashing_enabled", true.into()),
        ("validate_text", false.into()),
        ("stats", prep_stats(run, papers)),
        ("warnings", empty()),
        ("duplicates", empty()),
        ("empty_files", empty()),
        ("empty_text_files", empty()),
        ("files", files.into()),
    ])
}

fn config(run: &Run) -> Document {
    // Some versions wrote the chunk size as text: the same key with two types.
    let words: Document = if run.number % 5 == 4 { "350".into() } else { 350_i64.into() };
    let common = |members: &mut Document| {
        members.push("papers_dir", "\\\\ARCHIVE\\Share\\repos\\rag\\papers");
        members.push("max_papers", 6_i64);
        members.push("chunk_words", words.clone());
        members.push("chunk_overlap", 75_i64);
        members.push("top_k", 10_i64);
        members.push("batch_size", 64_i64);
        members.push("embedding_model", "text-embedding-3-large");
        members.push("chat_model", run.model);
    };
    let mut effective = map([]);
    common(&mut effective);
    effective.push("database_url", database_url(run.number));
    effective.push("bm25_weight", 0.45);
    effective.push("reranker_model", run.model);
    effective.push("rerank_top_n", 30_i64);
    effective.push("query_expansion", "1");
    effective.push("section_aware_chunking", true);
    effective.push("force_ocr", false);
    let mut config = map([]);
    common(&mut config);
    config.push("config_path", "\\\\ARCHIVE\\Share\\repos\\rag\\config.toml");
    config.push("config_hash", run.config_hash.as_str());
    config.push("config_effective", effective);
    config
}

/// `workflow-report-<run_id>.json`; `outputs` are the steps' outputs by name, in order.
pub(super) fn report(run: &Run, outputs: &[(&'static str, Document)]) -> Document {
    let mut report = map([
        ("run_id", run.id.as_str().into()),
        ("started_at", iso(run.started).into()),
        ("papers_dir", run.papers_dir.as_str().into()),
        ("config", config(run)),
    ]);
    if run.is_later_format() {
        report.push("workstream_id", run.workstream);
        report.push("arm", run.workstream.map(|_| run.model));
        report.push("parent_run_id", run.parent.clone());
        report.push("trigger_source", "workflow_sync");
        report.push("git_sha", run.git_sha.as_str());
        report.push("git_branch", "main");
        report.push("usage_store", map([("database_url", true.into())]));
        report.push("db_url_resolution", url_resolution());
    } else {
        report.push("usage_db", "/srv/app/sqlite/ragonometrics_token_usage.sqlite");
    }
    for (step, output) in outputs.iter().filter(|(step, _)| *step != "report") {
        report.push(step, output.clone());
        if *step == "prep" && run.is_later_format() {
            report.push("paper_set_hash", run.corpus_hash.as_str());
        }
    }
    report.push("finished_at", iso(run.finished()));
    if run.is_later_format() {
        report.push(
            "report_store",
            map([("database_url", true.into()), ("status", "stored".into())]),
        );
        if run.kind == Kind::Full {
            report.push("audit_artifacts", audit_artifacts(run));
        }
        report.push("report_path", run.path_of("workflow-report", "json"));
    }
    report
}

fn url_resolution() -> Document {
    map([
        ("preferred_present", true.into()),
        ("env_present", true.into()),
        ("selected_source", "env_DATABASE_URL".into()),
        ("selected_reachable", true.into()),
        ("fallback_used", false.into()),
    ])
}

/// Two artifacts; every third PDF failed, which leaves an exit code instead of a `tex_path`.
fn audit_artifacts(run: &Run) -> Document {
    let failed = run.number % 3 == 2;
    let mut pdf = map([
        ("status", if failed { "failed" } else { "generated" }.into()),
        ("path", run.path_of("audit-workflow-report", "pdf").into()),
    ]);
    if failed {
        pdf.push("exit_code", 1_i64);
        pdf.push("stderr_tail", "[error] Required executable 'pandoc' was not found in PATH.\n");
    } else {
        pdf.push("tex_path", run.path_of("audit-workflow-report", "tex"));
    }
    map([
        ("enabled", true.into()),
        ("status", if failed { "partial" } else { "completed" }.into()),
        (
            "markdown",
            map([
                ("status", "generated".into()),
                ("path", run.path_of("audit-workflow-report", "md").into()),
            ]),
        ),
        ("pdf", pdf),
    ])
}

/// Output of step `agentic` with `questions` report questions.
pub(super) fn agentic(dice: &mut Dice, run: &Run, questions: usize) -> Document {
    let mut scores = Vec::new();
    let asked: Vec<Document> = (0..questions)
        .map(|ordinal| {
            let (question, score) = report_question(dice, run, ordinal);
            scores.extend(score);
            question
        })
        .collect();
    let reused = run.reused_from.as_ref().map_or(0, |_| questions);
    map([
        ("status", "completed".into()),
        ("question", prose::question(0).into()),
        ("question_tokens_estimate", 23_i64.into()),
        // An SDK object that was turned into text: seen in real reports, kept as text.
        (
            "subquestions",
            vec![
                "ResponseTextConfig(format=ResponseFormatText(type='text'), verbosity='low')"
                    .into(),
                prose::sentence(dice),
            ]
            .into(),
        ),
        ("final_answer", prose::paragraph(dice, 600).into()),
        ("report_questions_enabled", true.into()),
        ("report_questions_set", "structured".into()),
        ("report_questions", asked.into()),
        ("report_questions_reused_count", reused.into()),
        ("report_question_confidence", confidence_summary(&scores)),
        ("report_questions_error", Document::Null),
        ("citations_enabled", false.into()),
        ("citations_preview", Document::List(Vec::new())),
    ])
}

fn label_of(score: f64) -> &'static str {
    match score {
        _ if score < 0.33 => "low",
        _ if score < 0.66 => "medium",
        _ => "high",
    }
}

fn confidence_summary(scores: &[f64]) -> Document {
    let count_of = |label| scores.iter().filter(|score| label_of(**score) == label).count();
    let mean = scores.iter().sum::<f64>() / scores.len() as f64;
    map([
        ("count", scores.len().into()),
        ("mean", (!scores.is_empty()).then_some(mean).into()),
        (
            "label_counts",
            map([
                ("high", count_of("high").into()),
                ("medium", count_of("medium").into()),
                ("low", count_of("low").into()),
            ]),
        ),
    ])
}

/// One report question and its confidence; every seventh is of the oldest form, without one.
fn report_question(dice: &mut Dice, run: &Run, ordinal: usize) -> (Document, Option<f64>) {
    let length = usize::try_from(dice.between(120, 700)).unwrap_or(120);
    let mut question = map([
        ("id", prose::question_id(ordinal).into()),
        ("category", prose::category(ordinal).into()),
        ("question", prose::question(ordinal).into()),
        ("answer", prose::paragraph(dice, length).into()),
    ]);
    if ordinal % 7 == 6 {
        return (question, None);
    }
    let score = dice.unit();
    let assumption = dice.chance(10);
    question.push("question_tokens_estimate", dice.between(8, 40));
    question.push("evidence_type", dice.pick(&["table", "direct quote", "inference"]));
    question.push("confidence", label_of(score));
    question.push("confidence_score", score);
    question.push("retrieval_method", dice.pick(&["local", "hybrid"]));
    let anchors: Vec<Document> = (0..dice.below(3)).map(|_| anchor(dice)).collect();
    question.push("citation_anchors", anchors);
    question.push("quote_snippet", dice.chance(70).then(|| prose::sentence(dice)));
    question.push("table_figure", dice.chance(20).then(|| format!("Table {}", dice.below(9) + 1)));
    question.push("data_source", dice.chance(60).then_some("Household panel, 2004–2019"));
    question.push("assumption_flag", assumption.then_some(true));
    question.push("assumption_notes", assumption.then(|| prose::sentence(dice)));
    let related = if ordinal > 0 { vec![prose::question_id(ordinal - 1)] } else { Vec::new() };
    question.push("related_questions", related);
    if let Some((run_id, finished)) = &run.reused_from {
        let origin =
            map([("run_id", run_id.as_str().into()), ("finished_at", iso(*finished).into())]);
        question.push("_reused_from", origin);
    }
    (question, Some(score))
}

fn anchor(dice: &mut Dice) -> Document {
    let start = dice.between(0, 400);
    map([
        ("page", dice.between(1, 60).into()),
        ("start_word", start.into()),
        ("end_word", (start + dice.between(20, 350)).into()),
        ("section", dice.pick(&["Results", "Données", "Data § 2.1", "Appendix B"]).into()),
        ("note", prose::sentence(dice).into()),
    ])
}

/// `workstream-comparison-*.json` of two runs.
pub(super) fn comparison(id: &str, baseline: &Run, variant: &Run) -> Document {
    let column = |name: &str, kind: &str, purpose: &str| {
        map([("name", name.into()), ("type", kind.into()), ("purpose", purpose.into())])
    };
    let record = |run: &Run| {
        map([
            ("comparison_group_id", id.into()),
            ("source_bucket", "reports".into()),
            ("report_path", run.path_of("workflow-report", "json").into()),
            ("run_id", run.id.as_str().into()),
            ("papers_dir", run.papers_dir.as_str().into()),
            ("started_at", iso(run.started).into()),
            ("finished_at", iso(run.finished()).into()),
            ("duration_sec", ((run.finished() - run.started) as f64 / 1e6).into()),
            ("chat_model", run.model.into()),
            ("config_hash", run.config_hash.as_str().into()),
        ])
    };
    map([
        ("comparison_id", id.into()),
        ("baseline_run_id", baseline.id.as_str().into()),
        ("variant_run_id", variant.id.as_str().into()),
        (
            "schema",
            vec![
                column("comparison_group_id", "text", "Groups the runs of one comparison."),
                column("run_id", "text", "The run compared."),
                column("duration_sec", "number", "Wall time of the run."),
            ]
            .into(),
        ),
        ("records", vec![record(baseline), record(variant)].into()),
    ])
}
