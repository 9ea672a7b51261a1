//! The one place that prints: reports on standard output, everything else on standard error.
//!
//! A reader that goes away (`toolkit ... | head`) is no failure: what it no longer reads is not
//! written, the work goes on, and its outcome is what the process exits with.

use std::error::Error as _;
use std::fmt::Display;
use std::io::{self, ErrorKind as IoKind, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::json;

use crate::config::{Format, LogFormat, Settings};
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;

/// What a command says to whom it was started by, and the wish to stop it hears from them.
#[derive(Debug)]
pub struct Output {
    format: Format,
    log_format: LogFormat,
    reader_gone: AtomicBool,
    stop: Stop,
}

/// A result that prints as a table for people and as one JSON document for programs.
pub trait Report: Serialize {
    /// The text for people, without a final newline.
    fn text(&self) -> String;
}

impl Output {
    /// As the settings want it.
    pub fn new(settings: &Settings, stop: Stop) -> Self {
        Self::with(settings.format, settings.log_format, stop)
    }

    /// Before there are settings.
    pub fn with(format: Format, log_format: LogFormat, stop: Stop) -> Self {
        Self { format, log_format, reader_gone: AtomicBool::new(false), stop }
    }

    /// How reports are printed.
    pub fn format(&self) -> Format {
        self.format
    }

    /// How logs and progress are printed.
    pub fn log_format(&self) -> LogFormat {
        self.log_format
    }

    /// Set when the person asks to stop; pass it to whatever takes long.
    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Whether progress may be drawn: standard error is a terminal and logs are text.
    pub fn draws_progress(&self) -> bool {
        self.log_format == LogFormat::Text && io::stderr().is_terminal()
    }

    /// Prints a command's result in the format asked for.
    pub fn report(&self, report: &impl Report) -> Result<()> {
        match self.format {
            Format::Table => self.line(fitted(report.text())),
            Format::Json => self.json(report),
        }
    }

    /// Prints one JSON document, whatever the format.
    pub fn json(&self, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|e| Error::new(ErrorKind::Bug, "a report is not JSON").because(e))?;
        self.line(text)
    }

    /// Prints text and a newline on standard output.
    pub fn line(&self, text: impl Display) -> Result<()> {
        self.bytes(format!("{text}\n").as_bytes())
    }

    /// Writes bytes to standard output as they are.
    pub fn bytes(&self, bytes: &[u8]) -> Result<()> {
        if self.reader_gone.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == IoKind::BrokenPipe => {
                self.reader_gone.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(e) => Err(Error::new(ErrorKind::Io, "standard output").because(e)),
        }
    }

    /// Says something on standard error that is no result: what happens next, what to do.
    pub fn note(&self, text: impl Display) {
        let line = match self.log_format {
            LogFormat::Text => text.to_string(),
            LogFormat::Json => json!({ "level": "INFO", "message": text.to_string() }).to_string(),
        };
        say(&line);
    }

    /// Prints a failure with its causes and advice on standard error.
    pub fn error(&self, error: &Error) {
        say(&match self.log_format {
            LogFormat::Text => error_text(error),
            LogFormat::Json => json!({
                "level": "ERROR",
                "kind": format!("{:?}", error.kind()),
                "message": error.detail(),
                "causes": causes(error),
                "advice": error.advice_text(),
            })
            .to_string(),
        });
    }
}

/// An empty table in the one style, with its headings.
pub fn table<const N: usize>(headings: [&str; N]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(headings);
    table
}

/// Longest line of prose on a terminal that is wider.
const LINE_MAX: usize = 100;

/// Lines of prose broken to the width of the terminal, if there is one: a program that reads the
/// text gets each in one piece. Commands to be copied stay whole.
fn fitted(text: String) -> String {
    let width = Table::new().width().map(|width| usize::from(width).min(LINE_MAX));
    match width.filter(|_| io::stdout().is_terminal()) {
        Some(width) => wrapped(&text, width),
        None => text,
    }
}

fn wrapped(text: &str, width: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        // Tables fit already, and their cells are set apart by more than one space.
        let is_prose = !line.trim_start().contains("  ");
        if line.chars().count() <= width || !is_prose {
            lines.push(line.to_owned());
            continue;
        }
        let indent = words.iter().take_while(|word| word.is_empty()).count();
        let mut now = " ".repeat(indent);
        let mut is_command = false;
        for word in &words[indent..] {
            let fits = now.chars().count() + 1 + word.chars().count() <= width;
            if now.trim().is_empty() {
                now.push_str(word);
            } else if fits || is_command {
                now.push(' ');
                now.push_str(word);
            } else {
                lines.push(std::mem::replace(&mut now, " ".repeat(indent) + word));
            }
            if word.matches('`').count() % 2 == 1 {
                is_command = !is_command;
            }
        }
        lines.push(now);
    }
    lines.join("\n")
}

/// `1 row`, `2 rows`.
pub fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Names and values under each other, names as wide as the widest.
pub fn facts<'a>(facts: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let facts: Vec<(&str, String)> = facts.into_iter().collect();
    let width = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let lines: Vec<String> =
        facts.iter().map(|(name, value)| format!("{name:width$}  {value}")).collect();
    lines.join("\n")
}

/// Nobody is left to tell when standard error is gone.
fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

fn error_text(error: &Error) -> String {
    let mut text = format!("error: {}", error.detail());
    for cause in causes(error) {
        text.push_str("\n  caused by: ");
        text.push_str(&cause);
    }
    if let Some(advice) = error.advice_text() {
        text.push_str("\n  help: ");
        text.push_str(advice);
    }
    text
}

/// The chain of causes, without those that say again what was said already.
fn causes(error: &Error) -> Vec<String> {
    let mut said = vec![error.detail().to_owned()];
    let mut next = error.source();
    while let Some(cause) = next {
        let mut text = cause.to_string();
        // Many errors append their source; it follows on its own line.
        if let Some(inner) = cause.source() {
            let suffix = format!(": {inner}");
            text = text.strip_suffix(&suffix).map(str::to_owned).unwrap_or(text);
        }
        if !said.iter().any(|earlier| earlier.contains(&text)) {
            said.push(text);
        }
        next = cause.source();
    }
    said.split_off(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_is_broken_at_words_and_commands_and_tables_are_not() {
        let text = "one two three four\n  indented words go on\na  b  c  d  e  f  g\n\nend";
        assert_eq!(
            wrapped(text, 12),
            "one two\nthree four\n  indented\n  words go\n  on\na  b  c  d  e  f  g\n\nend"
        );
        let command = "see `toolkit rejects list` there";
        assert_eq!(wrapped(command, 10), "see\n`toolkit rejects list`\nthere");
    }

    #[test]
    fn an_error_names_each_cause_once_and_ends_with_advice() {
        let inner = Error::new(ErrorKind::Io, "disk full");
        let middle = Error::new(ErrorKind::Io, "cannot write x: disk full").because(inner);
        let error = Error::new(ErrorKind::Io, "saving failed").because(middle).advice("free space");
        assert_eq!(
            error_text(&error),
            "error: saving failed\n  caused by: cannot write x\n  caused by: disk full\n  \
             help: free space"
        );
        let repeated = Error::new(ErrorKind::Io, "a: b").because(Error::new(ErrorKind::Io, "b"));
        assert_eq!(error_text(&repeated), "error: a: b");
    }
}
