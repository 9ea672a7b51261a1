//! The file: a certificate and the SHA-256 over its canonical JSON.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::canonical::sha256;
use crate::certificate::{Certificate, FORMAT_VERSION};
use crate::error::{Error, ErrorKind, Result};
use crate::json::Json;
use crate::whole_file::write_whole;

/// The member that holds the digest of all others.
const DIGEST: &str = "sha256";

/// A certificate as it was found in a file.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// What it says; to be believed only if it is intact.
    pub certificate: Certificate,
    /// The digest it carries.
    pub stated: String,
    /// The digest of what it says.
    pub computed: String,
}

impl Sealed {
    /// Whether it says what it said when it was written.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.stated == self.computed
    }
}

/// Writes a certificate; returns its digest.
pub fn write(certificate: &Certificate, path: &Path) -> Result<String> {
    let not_json = |error| Error::new(ErrorKind::Bug, "a certificate is not JSON").because(error);
    let mut value = serde_json::to_value(certificate).map_err(not_json)?;
    let digest = digest_of(&value);
    if let Value::Object(members) = &mut value {
        members.insert(DIGEST.to_owned(), digest.clone().into());
    }
    let mut text = serde_json::to_string_pretty(&value).map_err(not_json)?;
    text.push('\n');
    write_whole(path, text.as_bytes())?;
    Ok(digest)
}

/// Reads a certificate, intact or not. Errors: no such file, no certificate, another format.
pub fn read(path: &Path) -> Result<Sealed> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::new(ErrorKind::Io, format!("{} cannot be read: {error}", path.display()))
            .because(error)
    })?;
    let not_one = |error: &dyn std::fmt::Display| {
        Error::new(ErrorKind::Usage, format!("{} is no certificate: {error}", path.display()))
            .advice("`toolkit verify-parity --certificate FILE` writes one")
    };
    let parsed = crate::json::parse(text.as_bytes()).map_err(|error| not_one(&error))?;
    if let Some(name) = twice(&parsed) {
        return Err(not_one(&format!("its member `{name}` is there twice")));
    }
    let members: Members = serde_json::from_str(&text).map_err(|error| not_one(&error))?;
    if members.format_version != FORMAT_VERSION {
        return Err(Error::new(
            ErrorKind::Usage,
            format!(
                "{} is a certificate of format {}; this toolkit reads format {FORMAT_VERSION}",
                path.display(),
                members.format_version
            ),
        )
        .advice("check it with the version of toolkit it names, or make a new one"));
    }
    let mut value: Value = serde_json::from_str(&text).map_err(|error| not_one(&error))?;
    if let Value::Object(all) = &mut value {
        all.shift_remove(DIGEST);
    }
    let computed = digest_of(&value);
    let without_digest = value.to_string();
    let certificate: Certificate =
        serde_json::from_str(&without_digest).map_err(|error| not_one(&error))?;
    Ok(Sealed { certificate, stated: members.sha256, computed })
}

/// A member that is there twice anywhere: of two a reader may see one and a program the other.
fn twice(json: &Json) -> Option<String> {
    let members = json.members();
    for (at, (name, value)) in members.iter().enumerate() {
        if members[..at].iter().any(|(earlier, _)| earlier == name) {
            return Some(String::from_utf8_lossy(name).into_owned());
        }
        if let Some(found) = twice(value) {
            return Some(found);
        }
    }
    json.iter().find_map(twice)
}

/// What must be there before anything else is looked at.
#[derive(Deserialize)]
struct Members {
    format_version: u32,
    sha256: String,
}

fn digest_of(value: &Value) -> String {
    hex::encode(sha256(canonical_json(value).as_bytes()))
}

/// JSON with the keys of every object sorted by their bytes and no whitespace.
fn canonical_json(value: &Value) -> String {
    fn append(value: &Value, text: &mut String) {
        match value {
            Value::Array(items) => {
                text.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        text.push(',');
                    }
                    append(item, text);
                }
                text.push(']');
            }
            Value::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                members.sort_unstable_by_key(|(key, _)| *key);
                text.push('{');
                for (at, (key, item)) in members.into_iter().enumerate() {
                    if at > 0 {
                        text.push(',');
                    }
                    text.push_str(&Value::from(key.as_str()).to_string());
                    text.push(':');
                    append(item, text);
                }
                text.push('}');
            }
            scalar => text.push_str(&scalar.to_string()),
        }
    }
    let mut text = String::new();
    append(value, &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_json_depends_on_neither_key_order_nor_whitespace() {
        let one: Value =
            serde_json::from_str(r#"{"b": [1, {"y":null,"x":"é\n"}], "a": true}"#).unwrap();
        let other: Value =
            serde_json::from_str(r#"{"a":true,"b":[1,{"x":"é\n","y":null}]}"#).unwrap();
        assert_eq!(canonical_json(&one), r#"{"a":true,"b":[1,{"x":"é\n","y":null}]}"#);
        assert_eq!(digest_of(&one), digest_of(&other));
        let swapped: Value =
            serde_json::from_str(r#"{"a":true,"b":[{"x":"é\n","y":null},1]}"#).unwrap();
        assert_ne!(digest_of(&one), digest_of(&swapped));
    }
}
