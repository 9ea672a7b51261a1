//! `--report FILE`: a verification in a file, its format taken from the file's name.

use std::path::{Path, PathBuf};

use serde::Serialize as _;

use super::Output;
use crate::error::{Error, ErrorKind, Result};
use crate::parity::{self, StoredRun};
use crate::whole_file::{check_writable, write_whole};

/// A report that was asked for.
#[derive(Debug, Clone)]
pub(super) struct ReportFile {
    path: PathBuf,
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Page,
    Json,
    Junit,
}

/// For clap: the path, or why its name says no format.
pub(super) fn parse(argument: &str) -> std::result::Result<ReportFile, String> {
    let path = PathBuf::from(argument);
    let extension =
        |path: &Path| path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let stem = path.file_stem().map(PathBuf::from).unwrap_or_default();
    let format = match (extension(&path).as_str(), extension(&stem).as_str()) {
        ("html" | "htm", _) => Format::Page,
        ("json", _) => Format::Json,
        ("xml", "junit") => Format::Junit,
        _ => {
            return Err(
                "the name says the format: .html for a page, .json, or .junit.xml".to_owned()
            );
        }
    };
    Ok(ReportFile { path, format })
}

/// Refuses, before anything runs, what could not be written in the end, and one path twice.
pub(super) fn check(reports: &[ReportFile], other: Option<&Path>) -> Result<()> {
    let mut seen: Vec<PathBuf> = Vec::new();
    let paths = reports.iter().map(|report| report.path.as_path()).chain(other);
    for path in paths {
        check_writable(path)?;
        let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        if seen.contains(&whole) {
            let detail = format!("{} is named twice", path.display());
            return Err(Error::new(ErrorKind::Usage, detail).advice("give each its own file"));
        }
        seen.push(whole);
    }
    Ok(())
}

/// Writes each report and says where it is.
pub(super) fn write(reports: &[ReportFile], run: &StoredRun, output: &Output) -> Result<()> {
    for report in reports {
        let text = match report.format {
            Format::Page => parity::page(run),
            Format::Junit => parity::junit(&run.report),
            Format::Json => json(&run.report)?,
        };
        write_whole(&report.path, text.as_bytes())?;
        output.note(format!("report written to {}", report.path.display()));
    }
    Ok(())
}

fn json(report: &parity::Report) -> Result<String> {
    let mut text = Vec::new();
    let mut writer = serde_json::Serializer::pretty(&mut text);
    report
        .serialize(&mut writer)
        .map_err(|e| Error::new(ErrorKind::Bug, "a parity report is not JSON").because(e))?;
    text.push(b'\n');
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_the_format_and_an_unknown_one_is_refused() {
        for (name, format) in [
            ("out.html", Format::Page),
            ("a/Out.HTM", Format::Page),
            ("out.json", Format::Json),
            ("out.junit.xml", Format::Junit),
        ] {
            assert_eq!(parse(name).unwrap().format, format, "{name}");
        }
        for name in ["out", "out.xml", "out.pdf", "html", ""] {
            assert!(parse(name).unwrap_err().contains(".junit.xml"), "{name}");
        }
    }
}
