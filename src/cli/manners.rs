//! Flags of commands that write much beside an application: how fast, and when to wait.

use std::path::PathBuf;
use std::time::Duration;

use crate::manners::{Manners, Rate};

/// What a throttle and conditions are, for `--help`.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Kind to production (looked at between chunks, about once a second)")]
pub(super) struct ManneredArgs {
    /// At most so many rows (5000/s) or bytes (10MB/s) a second, all workers of this process
    /// together, in portions of a twentieth of a second's
    #[arg(long, value_name = "RATE")]
    throttle: Option<Rate>,
    /// Wait while a replica replays later than this (500ms, 10s, 2m); needs `pg_read_all_stats`
    #[arg(long, value_name = "DURATION", value_parser = lag)]
    max_lag: Option<Duration>,
    /// Wait while more than N sessions of the server, other than the toolkit's own, are active;
    /// needs `pg_read_all_stats`
    #[arg(long, value_name = "N")]
    max_load: Option<u32>,
    /// Wait while this file is there
    #[arg(long, value_name = "PATH")]
    pause_file: Option<PathBuf>,
    /// Wait while this query says true; it runs read-only and has 2 s. NULL and no row are false
    #[arg(long, value_name = "SQL")]
    pause_while: Option<String>,
}

impl ManneredArgs {
    pub(super) fn manners(&self) -> Manners {
        Manners {
            throttle: self.throttle,
            max_lag: self.max_lag,
            max_load: self.max_load,
            pause_file: self.pause_file.clone(),
            pause_while: self.pause_while.clone(),
        }
    }

    /// As words of a command line that does the same.
    pub(super) fn words(&self, quoted: impl Fn(&str) -> String) -> Vec<String> {
        let given = [
            ("--throttle", self.throttle.map(|rate| rate.to_string())),
            ("--max-lag", self.max_lag.map(|most| format!("{}ms", most.as_millis()))),
            ("--max-load", self.max_load.map(|most| most.to_string())),
            ("--pause-file", self.pause_file.as_ref().map(|path| path.display().to_string())),
            ("--pause-while", self.pause_while.clone()),
        ];
        let given = given.into_iter();
        given.filter_map(|(flag, value)| Some(format!(" {flag} {}", quoted(&value?)))).collect()
    }
}

/// `500ms`, `10s`, `2m`
fn lag(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration such as 500ms, 10s or 2m");
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let per_unit_ms = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let ms = number.checked_mul(per_unit_ms).filter(|ms| *ms > 0).ok_or_else(wrong)?;
    Ok(Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lag_is_a_number_with_a_unit() {
        assert_eq!(lag("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(lag("2m"), Ok(Duration::from_mins(2)));
        for text in ["", "5", "s", "0s", "-1s", "1 s", "1.5s", "99999999999999999999s", "1d"] {
            assert!(lag(text).is_err(), "{text}");
        }
    }
}
