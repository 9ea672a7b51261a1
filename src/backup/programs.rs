//! `pg_dump` and `pg_restore`: run with the session's own place and role, ended with the command.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::store::{ClientPrograms, Postgres};

/// What a program says of its failure is shown up to here.
const SAID_BYTES_MAX: usize = 2_000;

/// Dumps `schemas` as a snapshot shows them into a file.
pub(super) async fn dump(
    programs: &ClientPrograms,
    postgres: &Postgres,
    schemas: &[String],
    snapshot: &str,
    file: &Path,
    stop: &Stop,
) -> Result<()> {
    let mut arguments: Vec<OsString> =
        ["--format=custom", "--no-password", "--strict-names"].map(OsString::from).into();
    arguments.push(format!("--snapshot={snapshot}").into());
    for schema in schemas {
        // Without quotes it would be a pattern.
        arguments.push(format!("--schema=\"{}\"", schema.replace('"', "\"\"")).into());
    }
    arguments.push("--file".into());
    arguments.push(file.into());
    run(&programs.pg_dump, &arguments, postgres, stop).await.map(drop)
}

/// Restores all of a dump but the schemas themselves, which are there.
pub(super) async fn restore(
    programs: &ClientPrograms,
    into: &Postgres,
    file: &Path,
    list: &Path,
    stop: &Stop,
) -> Result<()> {
    let contents = run(&programs.pg_restore, &["--list".into(), file.into()], into, stop).await?;
    let kept: Vec<&str> = contents.lines().filter(|line| !makes_schema(line)).collect();
    std::fs::write(list, kept.join("\n") + "\n")
        .map_err(|error| Error::from(error).context(list.display()))?;
    let database = into.database();
    let arguments: Vec<OsString> = vec![
        "--no-owner".into(),
        "--no-privileges".into(),
        "--no-password".into(),
        "--exit-on-error".into(),
        "--use-list".into(),
        list.into(),
        "--dbname".into(),
        database.into(),
        file.into(),
    ];
    run(&programs.pg_restore, &arguments, into, stop).await.map(drop)
}

/// `7; 2615 16385 SCHEMA - webtoon postgres`
fn makes_schema(line: &str) -> bool {
    let entry = line.split_once("; ").map_or("", |(_, entry)| entry);
    let words: Vec<&str> = entry.split(' ').take(4).collect();
    matches!(words[..], [_, _, "SCHEMA", "-"])
}

async fn run(
    program: &PathBuf,
    arguments: &[OsString],
    postgres: &Postgres,
    stop: &Stop,
) -> Result<String> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // In a group of its own, so that Ctrl-C reaches it through this process alone.
        .process_group(0)
        .kill_on_drop(true);
    // What stands in the surroundings may lead elsewhere.
    for name in ["PGSERVICE", "PGSERVICEFILE", "PGHOSTADDR", "PGOPTIONS"] {
        command.env_remove(name);
    }
    command.envs(postgres.client_environment());
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let child = command.spawn().map_err(|error| {
        Error::new(ErrorKind::Io, format!("{} cannot be run", program.display())).because(error)
    })?;
    let output = stop
        .unless(async {
            child.wait_with_output().await.map_err(|error| Error::from(error).context(&name))
        })
        .await?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: String = said.trim().chars().take(SAID_BYTES_MAX).collect();
    let said = if said.is_empty() { output.status.to_string() } else { said };
    Err(Error::new(ErrorKind::StoreFailed, format!("{name} failed: {said}")).advice(
        "see that this role may read every table (pg_read_all_data), and that there is room on \
         the disks of this machine and of the server",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_that_make_a_schema_are_known() {
        assert!(makes_schema("7; 2615 16385 SCHEMA - web toon postgres"));
        for line in [
            "; Archive created at 2026-01-01",
            "3; 0 0 COMMENT - SCHEMA public postgres",
            "215; 1259 16399 TABLE own SCHEMA postgres",
            "",
        ] {
            assert!(!makes_schema(line), "{line}");
        }
    }
}
