//! The text Postgres would print for a document stored as jsonb, with the policies applied.
//!
//! Sources of the format: `src/backend/utils/adt/jsonb.c` (`JsonbToCString`), `jsonb_util.c`
//! (`lengthCompareJsonbStringValue`, `uniqueifyJsonbObject`), `json.c` (`escape_json`) and
//! `numeric.c` (`numeric_in`, `numeric_out`) of Postgres 15.

use std::borrow::Cow;

use memchr::memchr;

use super::escape::{Faults, is_plain, push_quoted};
use super::number::{Misfit, is_special, push_nearest_numeric, push_numeric};
use super::pointer::Path;
use super::stored::{BYTES_MAX, ELEMENTS_MAX, MEMBERS_MAX, StoredSize};
use super::{Json, JsonString, to_source_text};
use crate::cast::note::{Note, Original, Policies, Policy, Refusal};
use crate::cast::redact::{Redacted, Redactor};

/// What stands for a member whose key is there more than once, where the policy is `null`.
static NULL: Json = Json::Null;

/// What [`write_jsonb`] wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// The document's text; a source document `null` is one too.
    Value,
    /// `null`, because a policy replaced the whole document. The caller may store SQL NULL.
    Null,
}

/// Appends to `out` exactly the text `jsonb_out` would print for `document`.
///
/// Keys are sorted by length, then bytewise; of duplicate keys the last wins, if the policy lets
/// it. Strings and keys pass through `redact` first, so that no note, pointer or refusal tells a
/// secret: a value that was redacted and then changed keeps a keyed hash as its original. A
/// dropped duplicate's note holds its redacted source text.
///
/// On a refusal `out` and `notes` are as they were.
pub fn write_jsonb(
    document: &Json,
    policies: &Policies,
    redact: Option<&Redactor>,
    out: &mut Vec<u8>,
    notes: &mut Vec<Note>,
) -> Result<Written, Refusal> {
    let (out_length, notes_length) = (out.len(), notes.len());
    let mut writer = Writer { policies, redact, out, notes, size: StoredSize::new() };
    let written = writer.document(document);
    if written.is_err() {
        out.truncate(out_length);
        notes.truncate(notes_length);
    }
    written
}

struct Writer<'a> {
    policies: &'a Policies,
    redact: Option<&'a Redactor>,
    out: &'a mut Vec<u8>,
    notes: &'a mut Vec<Note>,
    size: StoredSize,
}

impl Writer<'_> {
    fn document(&mut self, document: &Json) -> Result<Written, Refusal> {
        if matches!(document, Json::Array(_) | Json::Object(_)) {
            return self.value(document, None, &Path::ROOT);
        }
        // jsonb keeps a scalar as an array of one.
        let start = self.size.enter(1);
        let written = self.value(document, None, &Path::ROOT)?;
        self.leave("value", start, &Path::ROOT)?;
        Ok(written)
    }

    /// `key` is the member's name where the value is a member.
    fn value(
        &mut self,
        value: &Json,
        key: Option<&[u8]>,
        path: &Path<'_>,
    ) -> Result<Written, Refusal> {
        match value {
            Json::Null => self.out.extend_from_slice(b"null"),
            Json::Bool(true) => self.out.extend_from_slice(b"true"),
            Json::Bool(false) => self.out.extend_from_slice(b"false"),
            Json::Number(literal) => return self.number(literal, path),
            Json::String(text) => {
                let Some(text) = self.storable(text, Part::Value(key), path)? else {
                    self.out.extend_from_slice(b"null");
                    return Ok(Written::Null);
                };
                self.size.add_string(text.len());
                push_quoted(self.out, &text);
            }
            Json::Array(elements) => self.array(elements, path)?,
            Json::Object(members) => self.object(members, path)?,
        }
        Ok(Written::Value)
    }

    fn number(&mut self, literal: &str, path: &Path<'_>) -> Result<Written, Refusal> {
        let start = self.out.len();
        let Err(misfit) = push_numeric(self.out, literal) else {
            self.size.add_numeric(&self.out[start..]);
            return Ok(Written::Value);
        };
        let (rule, policy, detail) = match misfit {
            Misfit::NotANumber if is_special(literal) => {
                ("nan", self.policies.nan, format!("{literal}, which JSON does not have"))
            }
            Misfit::NotANumber => {
                let detail = format!("the number at {} is not a JSON number", path.place());
                return Err(Refusal::new("invalid_json", detail));
            }
            Misfit::Overflow => (
                "overflow",
                self.policies.overflow,
                format!(
                    "{}, beyond numeric's 131072 digits before and 16383 after the point",
                    shortened(literal)
                ),
            ),
        };
        if policy == Policy::Reject {
            return Err(Refusal::new(rule, format!("the number at {} is {detail}", path.place())));
        }
        self.note(rule, path, Original::Bytes(literal.as_bytes().to_vec()));
        if policy == Policy::Null {
            self.out.extend_from_slice(b"null");
            return Ok(Written::Null);
        }
        match misfit {
            Misfit::NotANumber => {
                self.size.add_string(literal.len());
                push_quoted(self.out, literal.as_bytes());
            }
            Misfit::Overflow => {
                push_nearest_numeric(self.out, literal);
                self.size.add_numeric(&self.out[start..]);
            }
        }
        Ok(Written::Value)
    }

    /// A string as jsonb can hold it, or None where a policy makes it null.
    fn storable<'t>(
        &mut self,
        text: &'t [u8],
        part: Part<'_>,
        path: &Path<'_>,
    ) -> Result<Option<Cow<'t, [u8]>>, Refusal> {
        let secret = self.redaction(text, part);
        if secret.is_none() && text.len() <= BYTES_MAX && is_plain(text) {
            return Ok(Some(Cow::Borrowed(text)));
        }
        let (text, secret) = match secret {
            Some((rule, found)) => (Cow::Owned(found.text), Some((rule, found.secret_hash))),
            None => (Cow::Borrowed(text), None),
        };
        let faults = self.faults(&text, part, path)?;
        let changed = faults.iter().any(|fault| fault.found);
        let original = match secret {
            Some((_, hash)) => Original::Secret(hash),
            None if changed => Original::Bytes(text.to_vec()),
            None => return Ok(Some(text)),
        };
        let text = if changed { Cow::Owned(replaced(&text)) } else { text };
        // Of a key, the pointer is known only now.
        let here = part.place_of(&text, path);
        let rules = faults.iter().filter(|fault| fault.found).map(|fault| fault.rule);
        for rule in secret.map(|(rule, _)| rule).into_iter().chain(rules) {
            self.note(rule, &here, original.clone());
        }
        let becomes_null = part != Part::Key
            && faults.iter().any(|fault| fault.found && fault.policy == Policy::Null);
        Ok((!becomes_null).then_some(text))
    }

    /// The secrets of a string, and the rule that found them.
    fn redaction(&self, text: &[u8], part: Part<'_>) -> Option<(&'static str, Redacted)> {
        let redactor = self.redact?;
        match part {
            Part::Value(Some(key)) => redact_value(redactor, key, text),
            Part::Key | Part::Value(None) => redact_urls(redactor, text),
        }
    }

    /// What jsonb cannot hold in a redacted text; an error where the policy rejects it.
    fn faults(&self, text: &[u8], part: Part<'_>, path: &Path<'_>) -> Result<[Fault; 2], Refusal> {
        let noun = if part == Part::Key { "key" } else { "string" };
        let place = || part.place_of(text, path).place();
        if text.len() > BYTES_MAX {
            let here = part.place_of(text, path);
            return Err(too_many(noun, text.len(), "bytes", BYTES_MAX, &here));
        }
        let faults = [
            Fault { rule: "nul", policy: self.policies.nul, found: memchr(0, text).is_some() },
            Fault {
                rule: "invalid_utf8",
                policy: self.policies.invalid_utf8,
                found: std::str::from_utf8(text).is_err(),
            },
        ];
        for fault in &faults {
            if fault.found && fault.policy == Policy::Reject {
                let what = match fault.rule {
                    "nul" => "holds U+0000, which jsonb cannot",
                    _ => "is not UTF-8 (lone surrogates count)",
                };
                let detail = format!("the {noun} at {} {what}", place());
                return Err(Refusal::new(fault.rule, detail));
            }
        }
        Ok(faults)
    }

    fn array(&mut self, elements: &[Json], path: &Path<'_>) -> Result<(), Refusal> {
        if elements.len() > ELEMENTS_MAX {
            return Err(too_many("array", elements.len(), "elements", ELEMENTS_MAX, path));
        }
        let start = self.size.enter(elements.len());
        self.out.push(b'[');
        for (index, element) in elements.iter().enumerate() {
            if index > 0 {
                self.out.extend_from_slice(b", ");
            }
            self.value(element, None, &path.index(index))?;
        }
        self.out.push(b']');
        self.leave("array", start, path)
    }

    fn object(&mut self, members: &[(JsonString, Json)], path: &Path<'_>) -> Result<(), Refusal> {
        if members.len() > MEMBERS_MAX {
            return Err(too_many("object", members.len(), "members", MEMBERS_MAX, path));
        }
        if members.is_empty() {
            self.size.enter(0);
            self.out.extend_from_slice(b"{}");
            return Ok(());
        }
        let mut sorted: Vec<Member<'_>> = Vec::with_capacity(members.len());
        for (key, value) in members {
            sorted.push((self.storable(key, Part::Key, path)?.unwrap_or_default(), value));
        }
        // Stable, so that equal keys stay in source order.
        sorted.sort_by(|(one, _), (other, _)| {
            one.len().cmp(&other.len()).then_with(|| one.cmp(other))
        });
        if sorted.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            sorted = self.without_duplicates(sorted, path)?;
        }
        let start = self.size.enter(2 * sorted.len());
        self.size.add_string(sorted.iter().map(|(key, _)| key.len()).sum());
        self.out.push(b'{');
        for (index, (key, value)) in sorted.iter().enumerate() {
            if index > 0 {
                self.out.extend_from_slice(b", ");
            }
            push_quoted(self.out, key);
            self.out.extend_from_slice(b": ");
            self.value(value, Some(key), &path.key(key))?;
        }
        self.out.push(b'}');
        self.leave("object", start, path)
    }

    /// Ends a container that began at `start` of the stored size.
    fn leave(&self, noun: &str, start: usize, path: &Path<'_>) -> Result<(), Refusal> {
        let bytes = self.size.since(start);
        if bytes > BYTES_MAX {
            return Err(too_many(noun, bytes, "bytes as jsonb", BYTES_MAX, path));
        }
        Ok(())
    }

    /// Keeps the last member of each key, or JSON null in place of all of them; `sorted` has equal
    /// keys side by side.
    fn without_duplicates<'m>(
        &mut self,
        sorted: Vec<Member<'m>>,
        path: &Path<'_>,
    ) -> Result<Vec<Member<'m>>, Refusal> {
        let mut kept = Vec::with_capacity(sorted.len());
        let mut members = sorted.into_iter().peekable();
        let nulls = self.policies.json_duplicate_keys == Policy::Null;
        let mut is_repeated = false;
        while let Some((key, value)) = members.next() {
            if members.peek().is_some_and(|(next, _)| *next == key) {
                self.drop_duplicate(&key, value, path)?;
                is_repeated = true;
                continue;
            }
            if is_repeated && nulls {
                self.drop_duplicate(&key, value, path)?;
                kept.push((key, &NULL));
            } else {
                kept.push((key, value));
            }
            is_repeated = false;
        }
        Ok(kept)
    }

    /// Notes a member that a later one of the same key, or JSON null, replaces.
    fn drop_duplicate(&mut self, key: &[u8], value: &Json, path: &Path<'_>) -> Result<(), Refusal> {
        let here = path.key(key);
        if self.policies.json_duplicate_keys == Policy::Reject {
            let detail = format!(
                "the object at {} holds the key {:?} more than once; jsonb keeps one",
                path.place(),
                shortened(&String::from_utf8_lossy(key))
            );
            return Err(Refusal::new("json_duplicate_keys", detail));
        }
        // Postgres reads the dropped value too: what a policy rejects, it rejects here as well.
        let (out_length, notes_length) = (self.out.len(), self.notes.len());
        let mark = self.size.mark();
        self.value(value, Some(key), &here)?;
        self.size.rewind(mark);
        self.out.truncate(out_length);
        self.notes.truncate(notes_length);
        let text = match self.redact {
            Some(redactor) => {
                to_source_text(&self.redacted_copy(redactor, value, Some(key), &here))
            }
            None => to_source_text(value),
        };
        self.note("json_duplicate_keys", &here, Original::Bytes(text));
        Ok(())
    }

    /// A copy without secrets; each one is noted at its pointer.
    fn redacted_copy(
        &mut self,
        redactor: &Redactor,
        value: &Json,
        key: Option<&[u8]>,
        path: &Path<'_>,
    ) -> Json {
        match value {
            Json::String(text) => {
                let part = Part::Value(key);
                let Some((rule, redacted)) = self.redaction(text, part) else {
                    return value.clone();
                };
                self.note(rule, path, Original::Secret(redacted.secret_hash));
                Json::String(redacted.text.into())
            }
            Json::Array(elements) => Json::Array(
                elements
                    .iter()
                    .enumerate()
                    .map(|(index, element)| {
                        self.redacted_copy(redactor, element, None, &path.index(index))
                    })
                    .collect(),
            ),
            Json::Object(members) => {
                let mut copies = Vec::with_capacity(members.len());
                for (key, member) in members {
                    let mut copy = key.clone();
                    if let Some((rule, redacted)) = redact_urls(redactor, key) {
                        copy = redacted.text.into();
                        let original = Original::Secret(redacted.secret_hash);
                        self.note(rule, &path.key(&copy), original);
                    }
                    let member = self.redacted_copy(redactor, member, Some(key), &path.key(&copy));
                    copies.push((copy, member));
                }
                Json::Object(copies)
            }
            other => other.clone(),
        }
    }

    fn note(&mut self, rule: &'static str, path: &Path<'_>, original: Original) {
        self.notes.push(Note { rule, path: Some(path.text()), original });
    }
}

/// A member with its key as it is stored.
type Member<'m> = (Cow<'m, [u8]>, &'m Json);

/// What a string is in the document.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part<'k> {
    Key,
    /// A value, under its key where it is a member.
    Value(Option<&'k [u8]>),
}

impl Part<'_> {
    /// The pointer of a string; a key stands at the place it names.
    fn place_of<'p>(self, text: &'p [u8], path: &'p Path<'p>) -> Path<'p> {
        if self == Self::Key { path.key(text) } else { *path }
    }
}

/// One thing that jsonb cannot hold in a string.
struct Fault {
    rule: &'static str,
    policy: Policy,
    found: bool,
}

fn too_many(noun: &str, found: usize, unit: &str, limit: usize, path: &Path<'_>) -> Refusal {
    let place = path.place();
    let detail = format!("the {noun} at {place} has {found} {unit}; jsonb takes at most {limit}");
    Refusal::new("too_long", detail)
}

fn redact_value(redactor: &Redactor, key: &[u8], text: &[u8]) -> Option<(&'static str, Redacted)> {
    redactor
        .redact_member(key, text)
        .map(|redacted| ("redact_member", redacted))
        .or_else(|| redact_urls(redactor, text))
}

fn redact_urls(redactor: &Redactor, text: &[u8]) -> Option<(&'static str, Redacted)> {
    redactor.redact_text(text).map(|redacted| ("redact_url_password", redacted))
}

/// U+FFFD for each U+0000, each lone surrogate and each maximal invalid sequence.
fn replaced(text: &[u8]) -> Vec<u8> {
    const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();
    let mut out = Vec::with_capacity(text.len() + 8);
    for part in Faults::of(text) {
        for (index, piece) in part.valid.split(|&byte| byte == 0).enumerate() {
            if index > 0 {
                out.extend_from_slice(REPLACEMENT);
            }
            out.extend_from_slice(piece);
        }
        if !part.invalid.is_empty() {
            out.extend_from_slice(REPLACEMENT);
        }
    }
    out
}

/// The beginning of a text, for a sentence.
fn shortened(text: &str) -> Cow<'_, str> {
    const CHARACTERS_MAX: usize = 60;
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => Cow::Owned(format!("{}...", &text[..end])),
        None => Cow::Borrowed(text),
    }
}
