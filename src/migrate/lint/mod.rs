//! Migrations that would lock or rewrite a live table, found before they are run.
//!
//! Parsing and most rules are those of `squawk`; this module says which of them matter to whom
//! runs a migration with this tool, adds hazards it does not know, words the safe form, and tells
//! tables that are live from those the same migrations make.
//!
//! A statement is let through where the line above it says why:
//! `-- toolkit: allow renaming-table because the application is stopped`.

mod own;
mod rules;
mod subject;

use std::collections::BTreeSet;
use std::str::FromStr as _;

use serde::Serialize;
use squawk_linter::{Linter, Version};
use squawk_syntax::ast::{self, AstNode as _};
use squawk_syntax::{Parse, SourceFile};

pub use self::rules::{Severity, rule_names};
use super::set::{Migration, MigrationSet, NO_TRANSACTION_HEADER};
use crate::error::{Error, ErrorKind, Result};

/// What begins a comment that lets the next statement through.
const ALLOW: &str = "-- toolkit: allow ";

/// One SQL file as it is linted.
#[derive(Debug, Clone)]
pub struct LintFile {
    /// How it is called in the findings.
    pub name: String,
    /// Its text.
    pub text: String,
    /// Whether it runs as one transaction.
    pub transactional: bool,
    /// Whether the tables made by it, and by the files before it that say so too, are still empty
    /// when it runs: a first installation.
    pub first_installation: bool,
}

impl LintFile {
    /// A file as `toolkit migrate up` would run it: in a transaction, unless its first line is
    /// [`NO_TRANSACTION_HEADER`].
    #[must_use]
    pub fn new(name: impl Into<String>, text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
        let outside =
            text.lines().next().is_some_and(|line| line.trim_end() == NO_TRANSACTION_HEADER);
        Self { name: name.into(), text, transactional: !outside, first_installation: false }
    }

    fn of_set(migration: &Migration, installed_through: i64) -> Self {
        Self {
            name: migration.file_name.clone(),
            text: migration.sql().to_owned(),
            transactional: migration.transactional,
            first_installation: i64::from(migration.version()) <= installed_through,
        }
    }
}

/// The files of `set`; those up to version `installed_through` are a first installation.
#[must_use]
pub fn files_of(set: &MigrationSet, installed_through: i64) -> Vec<LintFile> {
    set.migrations.iter().map(|migration| LintFile::of_set(migration, installed_through)).collect()
}

/// A statement that hurts, and how to do without.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hazard {
    /// The file.
    pub file: String,
    /// Line in it, from 1.
    pub line: usize,
    /// Character in the line, from 1.
    pub column: usize,
    /// The rule, as it is written after `-- toolkit: allow`.
    pub rule: String,
    /// Whether it is refused or warned about.
    pub severity: Severity,
    /// The statement, on one line, shortened.
    pub statement: String,
    /// What it does to a live table.
    pub what: String,
    /// The safe form.
    pub safe: String,
}

/// What was found in all files.
#[derive(Debug, Clone, Serialize)]
pub struct Lint {
    /// Whether nothing is refused.
    pub passes: bool,
    /// Files that were read.
    pub files: usize,
    /// Statements in them.
    pub statements: usize,
    /// Statements let through by a comment.
    pub allowed: usize,
    /// What was found, in the order of files and places.
    pub hazards: Vec<Hazard>,
}

impl Lint {
    /// Adds what was found in files of their own.
    pub fn append(&mut self, mut other: Self) {
        self.passes &= other.passes;
        self.files += other.files;
        self.statements += other.statements;
        self.allowed += other.allowed;
        self.hazards.append(&mut other.hazards);
    }

    /// How many are refused.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.hazards.iter().filter(|hazard| hazard.severity == Severity::Refused).count()
    }
}

/// Lints `files` in their order for a server of version `postgres` (`15`, `16.2`).
///
/// Fails with [`ErrorKind::Usage`] where the version is none.
pub fn lint(files: &[LintFile], postgres: &str) -> Result<Lint> {
    let version = Version::from_str(postgres).map_err(|_| {
        Error::new(ErrorKind::Usage, format!("{postgres:?} is not a version of PostgreSQL"))
            .advice("write it as 15 or 16.2")
    })?;
    let mut found =
        Lint { passes: true, files: files.len(), statements: 0, allowed: 0, hazards: Vec::new() };
    let mut installed = BTreeSet::new();
    for file in files {
        let parse = SourceFile::parse(&file.text);
        let mut new = subject::tables_made(&parse.tree());
        if file.first_installation {
            installed.append(&mut new);
            new.clone_from(&installed);
        }
        let context = Context { file, new: &new };
        context.lint(&parse, version, &mut found);
    }
    found.passes = found.refused() == 0;
    Ok(found)
}

/// A file and the tables that are not live yet in it.
struct Context<'a> {
    file: &'a LintFile,
    new: &'a BTreeSet<String>,
}

/// What a rule found: where, and what of it.
struct Finding {
    at: usize,
    rule: &'static str,
}

impl Context<'_> {
    fn lint(&self, parse: &Parse<SourceFile>, version: Version, found: &mut Lint) {
        let first = found.hazards.len();
        for error in parse.errors() {
            let hazard = self.not_understood(usize::from(error.range().start()), error.message());
            let is_said = |said: &Hazard| said.line == hazard.line;
            if !found.hazards[first..].iter().any(is_said) {
                found.hazards.push(hazard);
            }
        }
        let findings = self.findings(parse, version);
        for statement in parse.tree().stmts() {
            if matches!(statement, ast::Stmt::EmptyStmt(_)) {
                continue;
            }
            found.statements += 1;
            let range = statement.syntax().text_range();
            let (from, to) = (usize::from(range.start()), usize::from(range.end()));
            let is_new = subject::is_new(&statement, self.new);
            let mut said = BTreeSet::new();
            let mine = findings.iter().filter(|finding| (from..to).contains(&finding.at));
            for finding in mine.filter(|finding| said.insert(finding.rule)) {
                let Some(rule) = rules::of(finding.rule) else { continue };
                let is_spared = (rule.spares_new_tables && is_new)
                    || (rule.only_outside_transactions && self.file.transactional);
                if is_spared {
                    continue;
                }
                match self.allowance(from, finding.rule) {
                    Allowance::Given => found.allowed += 1,
                    Allowance::WithoutReason => {
                        found.hazards.push(self.without_reason(finding, from, to));
                    }
                    Allowance::None => found.hazards.push(self.hazard(rule, finding.at, from, to)),
                }
            }
        }
        found.hazards[first..].sort_by_key(|hazard| (hazard.line, hazard.column));
    }

    fn findings(&self, parse: &Parse<SourceFile>, version: Version) -> Vec<Finding> {
        let mut linter = Linter::from(rules::borrowed());
        linter.settings.pg_version = version;
        linter.settings.assume_in_transaction = self.file.transactional;
        let mut findings: Vec<Finding> = linter
            .lint(parse, &self.file.text)
            .into_iter()
            .filter_map(|violation| {
                let rule = rules::name_of(violation.code)?;
                Some(Finding { at: usize::from(violation.text_range.start()), rule })
            })
            .collect();
        for statement in parse.tree().stmts() {
            let range = statement.syntax().text_range();
            // DETACH PARTITION has no IF EXISTS.
            if own::has_no_repeatable_form(&statement) {
                findings.retain(|finding| {
                    finding.rule != "not-repeatable"
                        || !(usize::from(range.start())..usize::from(range.end()))
                            .contains(&finding.at)
                });
            }
            own::check(&statement, self.file.transactional, &mut |at, rule| {
                findings.push(Finding { at, rule });
            });
        }
        findings.sort_by_key(|finding| finding.at);
        findings
    }

    fn hazard(&self, rule: &rules::Known, at: usize, from: usize, to: usize) -> Hazard {
        let (line, column) = self.place(at);
        Hazard {
            file: self.file.name.clone(),
            line,
            column,
            rule: rule.name.to_owned(),
            severity: rule.severity,
            statement: one_line(&self.file.text[from..to]),
            what: rule.what.to_owned(),
            safe: rule.safe.to_owned(),
        }
    }

    fn without_reason(&self, finding: &Finding, from: usize, to: usize) -> Hazard {
        let (line, column) = self.place(finding.at);
        Hazard {
            file: self.file.name.clone(),
            line,
            column,
            rule: finding.rule.to_owned(),
            severity: Severity::Refused,
            statement: one_line(&self.file.text[from..to]),
            what: "the comment above allows it and gives no reason".to_owned(),
            safe: format!("{ALLOW}{} because REASON", finding.rule),
        }
    }

    fn not_understood(&self, at: usize, message: &str) -> Hazard {
        let (line, column) = self.place(at);
        let text = self.file.text.lines().nth(line - 1).unwrap_or_default();
        Hazard {
            file: self.file.name.clone(),
            line,
            column,
            rule: "syntax".to_owned(),
            severity: Severity::Warning,
            statement: one_line(text),
            what: format!("the parser does not understand it: {message}"),
            safe: "try it on a scratch database: `toolkit migrate up --dir DIR --pack PACK`"
                .to_owned(),
        }
    }

    fn place(&self, at: usize) -> (usize, usize) {
        let before = &self.file.text[..at.min(self.file.text.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        (line, column)
    }

    /// What the comment lines right above the statement say of `rule`. Comments belong to the
    /// text before the statement or to its leading part, as the parser has it.
    fn allowance(&self, from: usize, rule: &str) -> Allowance {
        let text = &self.file.text;
        let start = from + text[from..].len() - after_comments(&text[from..]).len();
        let above = text[..start].trim_end().lines().rev();
        for line in above.map(str::trim).take_while(|line| line.starts_with("--")) {
            let Some(rest) = line.strip_prefix(ALLOW) else { continue };
            let (named, reason) = rest.split_once(" because").unwrap_or((rest, ""));
            if named.split([',', ' ']).any(|name| name == rule) {
                let is_given = !reason.trim().is_empty();
                return if is_given { Allowance::Given } else { Allowance::WithoutReason };
            }
        }
        Allowance::None
    }
}

enum Allowance {
    Given,
    WithoutReason,
    None,
}

/// `text` from its first character that is neither blank nor in a line comment.
fn after_comments(text: &str) -> &str {
    let mut rest = text.trim_start();
    while rest.starts_with("--") {
        rest = rest.find('\n').map_or("", |end| rest[end..].trim_start());
    }
    rest
}

fn one_line(text: &str) -> String {
    const LONGEST: usize = 120;
    let without: Vec<&str> =
        text.lines().map(|line| line.split("--").next().unwrap_or_default()).collect();
    let words: Vec<&str> = without.iter().flat_map(|line| line.split_whitespace()).collect();
    let line = words.join(" ");
    if line.chars().count() <= LONGEST {
        return line;
    }
    let mut short: String = line.chars().take(LONGEST - 1).collect();
    short.push('…');
    short
}
