//! A plan as a file: written once, read back only as it was written, less the actions taken out.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::canonical::{ENCODING_VERSION, sha256};
use crate::error::{Error, ErrorKind, Result};
use crate::repair::plan::{Action, FORMAT_VERSION, Operation, Plan};

/// What an action's seal is over.
#[derive(Serialize)]
struct Sealed<'a> {
    format_version: u32,
    encoding_version: i32,
    parity_run: &'a str,
    pack: &'a str,
    pack_version: i32,
    pack_fingerprint: &'a str,
    database: &'a str,
    operation: Operation,
    target: &'a str,
    stream: &'a str,
    key: BTreeMap<&'a String, &'a serde_json::Value>,
    columns: &'a [String],
    source_digest: Option<&'a str>,
    target_digest: Option<&'a str>,
}

impl Plan {
    /// Seals every action.
    pub(super) fn seal(&mut self) {
        let seals: Vec<String> = self.actions.iter().map(|action| self.seal_of(action)).collect();
        for (action, seal) in self.actions.iter_mut().zip(seals) {
            action.seal = seal;
        }
    }

    fn seal_of(&self, action: &Action) -> String {
        let sealed = Sealed {
            format_version: self.format_version,
            encoding_version: self.encoding_version,
            parity_run: &self.parity_run,
            pack: &self.pack,
            pack_version: self.pack_version,
            pack_fingerprint: &self.pack_fingerprint,
            database: &self.database,
            operation: action.operation,
            target: &action.target,
            stream: &action.stream,
            key: action.key.iter().collect(),
            columns: &action.columns,
            source_digest: action.source_digest.as_deref(),
            target_digest: action.target_digest.as_deref(),
        };
        // Strings, numbers and maps of strings always have a JSON form.
        hex::encode(sha256(&serde_json::to_vec(&sealed).unwrap_or_default()))
    }

    /// The first action that is not as it was planned.
    fn edited(&self) -> Option<&Action> {
        self.actions.iter().find(|action| action.seal != self.seal_of(action))
    }
}

/// Writes the plan as JSON; refuses to overwrite a file.
pub fn write_plan(plan: &Plan, path: &Path) -> Result<()> {
    use std::io::Write as _;
    let text = serde_json::to_string_pretty(plan)
        .map_err(|e| Error::new(ErrorKind::Bug, "a repair plan is not JSON").because(e))?;
    let mut file = std::fs::File::create_new(path).map_err(|error| {
        Error::new(ErrorKind::Io, format!("{} cannot be written: {error}", path.display()))
            .advice("name a file that does not exist yet, in a folder you may write to")
    })?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    Ok(())
}

/// Reads a plan back; refuses other formats and encodings, and actions that were edited.
pub fn read_plan(path: &Path) -> Result<Plan> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::new(ErrorKind::Io, format!("{} cannot be read: {error}", path.display()))
            .advice("`toolkit repair plan --run latest --out FILE` writes one")
    })?;
    let no_plan = |error: serde_json::Error| {
        Error::new(ErrorKind::Usage, format!("{} is not a repair plan: {error}", path.display()))
            .advice(
                "make one with `toolkit repair plan --run ID --out FILE`; by hand, only take \
                 whole actions out of it",
            )
    };
    let value: serde_json::Value = serde_json::from_str(&text).map_err(no_plan)?;
    let is_version = |member: &str, wanted: i64| {
        value.get(member).and_then(serde_json::Value::as_i64).is_none_or(|found| found == wanted)
    };
    if !is_version("format_version", FORMAT_VERSION.into())
        || !is_version("encoding_version", ENCODING_VERSION.into())
    {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("{} was made by another version of toolkit", path.display()),
        )
        .advice("verify again with this version, and make a new plan"));
    }
    let plan: Plan = serde_json::from_value(value).map_err(no_plan)?;
    if let Some(action) = plan.edited() {
        return Err(Error::new(
            ErrorKind::Usage,
            format!(
                "{}: the {} of {} {} is not as it was planned: it, or the head of the plan, was \
                 edited",
                path.display(),
                action.operation.name(),
                action.target,
                serde_json::Value::Object(action.key.clone())
            ),
        )
        .advice("take whole actions out of a plan, or make a new one; nothing was changed"));
    }
    Ok(plan)
}
