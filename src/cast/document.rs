//! json and jsonb columns, and secrets inside documents.

use std::borrow::Cow;

use super::fault::{Class, Fault};
use super::field::{begin, end};
use super::note::{Note, Original, Policies, Policy, Refusal};
use super::options::JsonNull;
use super::redact::{Redacted, Redactor};
use super::text::{valid_utf8, without_nul};
use super::value::Value;
use crate::json::{self, Json, Written, push_flat_object, to_source_text, write_jsonb};

/// How a json or jsonb column stores its values.
pub(super) struct DocumentRules<'a> {
    pub(super) jsonb: bool,
    pub(super) json_null: JsonNull,
    pub(super) policies: &'a Policies,
    pub(super) redactor: Option<&'a Redactor>,
}

/// What a document column does with a value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stored {
    /// The field is written.
    Written,
    /// SQL NULL or the column's default is due.
    Missing,
}

/// Writes a json or jsonb field.
pub(super) fn write_document(
    value: Value<'_>,
    rules: &DocumentRules<'_>,
    out: &mut Vec<u8>,
    notes: &mut Vec<Note>,
) -> Result<Stored, Fault> {
    let parsed;
    let mut raw = None;
    let document = match value {
        Value::Null => return Ok(Stored::Missing),
        // The commonest documents need no parser.
        Value::Text(text @ (b"{}" | b"[]")) => {
            let at = begin(out);
            if rules.jsonb {
                out.push(1);
            }
            out.extend_from_slice(text);
            end(out, at)?;
            return Ok(Stored::Written);
        }
        Value::Text(text) if rules.jsonb && write_flat(text, rules, out)? => {
            return Ok(Stored::Written);
        }
        Value::Json(document) => document,
        Value::Text(text) => {
            parsed = read(text)?;
            raw = std::str::from_utf8(text).ok().filter(|text| !text.starts_with('\u{feff}'));
            &parsed
        }
        Value::Integer(n) => {
            parsed = Json::Number(n.to_string().into());
            &parsed
        }
        Value::Real(x) => {
            let text = super::decimal::ShortText::float8(x);
            let text = std::str::from_utf8(text.bytes()).unwrap_or_default();
            parsed = Json::Number(text.into());
            &parsed
        }
        Value::Blob(_) => return Err(hidden(Fault::wrong_type("a BLOB in a JSON column"))),
    };
    if *document == Json::Null && rules.json_null == JsonNull::SqlNull {
        return Ok(Stored::Missing);
    }
    if rules.jsonb {
        return write_binary(document, rules, out, notes);
    }
    write_json(document, raw, rules, out, notes)
}

/// Writes a small flat document without a tree of it; false where it is not of that kind.
fn write_flat(text: &[u8], rules: &DocumentRules<'_>, out: &mut Vec<u8>) -> Result<bool, Fault> {
    let at = begin(out);
    out.push(1);
    if !push_flat_object(text, rules.redactor, out) {
        out.truncate(at);
        return Ok(false);
    }
    end(out, at)?;
    Ok(true)
}

fn read(text: &[u8]) -> Result<Json, Fault> {
    json::parse(text).map_err(|error| {
        // Neither the text nor a part of it: it may hold a secret that only a parser would find.
        hidden(Fault::new(Class::Unreadable, "invalid_json", format!("not JSON: {error}")))
    })
}

fn hidden(fault: Fault) -> Fault {
    Fault { show_value: false, ..fault }
}

fn write_binary(
    document: &Json,
    rules: &DocumentRules<'_>,
    out: &mut Vec<u8>,
    notes: &mut Vec<Note>,
) -> Result<Stored, Fault> {
    let at = begin(out);
    out.push(1);
    let written =
        write_jsonb(document, rules.policies, rules.redactor, out, notes).map_err(of_refusal)?;
    if written == Written::Null && rules.json_null == JsonNull::SqlNull {
        out.truncate(at);
        return Ok(Stored::Missing);
    }
    end(out, at)?;
    Ok(Stored::Written)
}

fn of_refusal(refusal: Refusal) -> Fault {
    let class = if refusal.reason == "invalid_json" { Class::Unreadable } else { Class::Final };
    hidden(Fault::new(class, refusal.reason, refusal.detail))
}

/// json keeps its own text; only a changed document is written anew.
fn write_json(
    document: &Json,
    raw: Option<&str>,
    rules: &DocumentRules<'_>,
    out: &mut Vec<u8>,
    notes: &mut Vec<Note>,
) -> Result<Stored, Fault> {
    let before = notes.len();
    let mut stored = document.clone();
    let mut cleaner = Cleaner {
        policies: Some(rules.policies),
        redactor: rules.redactor,
        path: String::new(),
        notes,
    };
    cleaner.value(&mut stored, None)?;
    let changed = notes.len() > before;
    if changed && stored == Json::Null && rules.json_null == JsonNull::SqlNull {
        return Ok(Stored::Missing);
    }
    let at = begin(out);
    match raw {
        Some(text) if !changed => out.extend_from_slice(text.as_bytes()),
        _ => out.extend_from_slice(&to_source_text(&stored)),
    }
    end(out, at)?;
    Ok(Stored::Written)
}

/// Removes the secrets of a document, with a note for each.
pub(super) fn redact(document: &mut Json, redactor: &Redactor, notes: &mut Vec<Note>) {
    let mut cleaner =
        Cleaner { policies: None, redactor: Some(redactor), path: String::new(), notes };
    // Without policies there is nothing to refuse.
    let _ = cleaner.value(document, None);
}

/// A text as it may be shown, whatever column it stands in: without the secrets of its URLs and,
/// where it is a document, of its members.
pub(crate) fn redact_shown<'a>(text: &'a [u8], redactor: &Redactor) -> Cow<'a, [u8]> {
    let mut shown = Cow::Borrowed(text);
    if matches!(text.first(), Some(b'{' | b'['))
        && let Ok(mut document) = json::parse(text)
    {
        let mut notes = Vec::new();
        redact(&mut document, redactor, &mut notes);
        if !notes.is_empty() {
            shown = Cow::Owned(to_source_text(&document));
        }
    }
    match redactor.redact_text(&shown) {
        Some(redacted) => Cow::Owned(redacted.text),
        None => shown,
    }
}

/// Walks a document and puts right, or refuses, what its target cannot hold.
struct Cleaner<'a> {
    /// None: only secrets are removed.
    policies: Option<&'a Policies>,
    redactor: Option<&'a Redactor>,
    /// JSON pointer of the place, of stored keys.
    path: String,
    notes: &'a mut Vec<Note>,
}

impl Cleaner<'_> {
    fn value(&mut self, value: &mut Json, key: Option<&[u8]>) -> Result<(), Fault> {
        let length = self.path.len();
        match value {
            Json::Null | Json::Bool(_) => {}
            Json::Number(text) => {
                if let Some(policies) = self.policies
                    && matches!(&**text, "NaN" | "Infinity" | "-Infinity")
                {
                    self.note("nan", Original::Bytes(text.as_bytes().to_vec()));
                    *value = match policies.nan {
                        Policy::Reject => {
                            return Err(self.fault(
                                Class::Final,
                                "nan",
                                "JSON has no NaN and no infinity",
                            ));
                        }
                        Policy::Replace => Json::String(text.as_bytes().into()),
                        Policy::Null => Json::Null,
                    };
                }
            }
            Json::String(text) => {
                if self.string(text, key)? {
                    *value = Json::Null;
                }
            }
            Json::Array(elements) => {
                for (index, element) in elements.iter_mut().enumerate() {
                    self.path.push('/');
                    self.path.push_str(&index.to_string());
                    self.value(element, None)?;
                    self.path.truncate(length);
                }
            }
            Json::Object(members) => {
                for (name, member) in members {
                    let source_name = name.clone();
                    self.string(name, None)?;
                    self.path.push('/');
                    let shown = String::from_utf8_lossy(name).replace('~', "~0").replace('/', "~1");
                    self.path.push_str(&shown.replace('\0', "\u{fffd}"));
                    self.value(member, Some(&source_name))?;
                    self.path.truncate(length);
                }
            }
        }
        Ok(())
    }

    /// Puts a string right; true when a policy makes it null.
    fn string(&mut self, text: &mut json::JsonString, key: Option<&[u8]>) -> Result<bool, Fault> {
        let mut secret = None;
        if let Some((rule, redacted)) = self.redactor.and_then(|r| redaction(r, text, key)) {
            self.note(rule, Original::Secret(redacted.secret_hash));
            *text = redacted.text.into();
            secret = Some(redacted.secret_hash);
        }
        let Some(policies) = self.policies else { return Ok(false) };
        let faults = [
            ("invalid_utf8", policies.invalid_utf8, std::str::from_utf8(text).is_err()),
            ("nul", policies.nul, memchr::memchr(0, text).is_some()),
        ];
        let original = text.clone();
        let mut null = false;
        for (rule, policy, found) in faults {
            if !found {
                continue;
            }
            if policy == Policy::Reject {
                let what = "a string holds U+0000 or is not UTF-8 (lone surrogates count)";
                return Err(self.fault(Class::Final, rule, what));
            }
            null |= policy == Policy::Null;
            let kept = match secret {
                Some(hash) => Original::Secret(hash),
                None => Original::Bytes(original.to_vec()),
            };
            self.note(rule, kept);
            let replaced = if rule == "nul" { without_nul(text) } else { valid_utf8(text) };
            *text = replaced.into();
        }
        Ok(null)
    }

    fn note(&mut self, rule: &'static str, original: Original) {
        self.notes.push(Note { rule, path: Some(self.path.clone()), original });
    }

    fn fault(&self, class: Class, reason: &'static str, what: &str) -> Fault {
        hidden(Fault::new(class, reason, format!("{what}, at {:?}", self.path)))
    }
}

fn redaction(
    redactor: &Redactor,
    text: &[u8],
    key: Option<&[u8]>,
) -> Option<(&'static str, Redacted)> {
    let member = key.and_then(|key| redactor.redact_member(key, text));
    match member {
        Some(redacted) => Some(("redact_member", redacted)),
        None => redactor.redact_text(text).map(|redacted| ("redact_url_password", redacted)),
    }
}

/// The keyed hash of a secret in a document, if there is one.
pub(super) fn secret_of(document: &Json, redactor: &Redactor) -> Option<[u8; 32]> {
    let mut notes = Vec::new();
    redact(&mut document.clone(), redactor, &mut notes);
    notes.into_iter().find_map(|note| match note.original {
        Original::Secret(hash) => Some(hash),
        Original::Bytes(_) => None,
    })
}
