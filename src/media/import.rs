//! What the import computes of a record before it is cast, for JSON and CSV alike.
//!
//! An empty cell of a CSV file is no value. A field that nothing takes is refused, not lost.

use crate::cast::Refusal;
use crate::json::Json;
use crate::media::{attributes, filter, key};

type Computed = Result<Json, Refusal>;

/// The fields of a record, taken out one by one under any of their names.
struct Fields<'a> {
    left: Vec<(&'a str, &'a Json)>,
}

impl<'a> Fields<'a> {
    fn of(record: &'a Json) -> Result<Self, Refusal> {
        let Json::Object(members) = record else {
            return Err(Refusal::new("wrong_type", "a record is an object of its fields"));
        };
        let mut left = Vec::with_capacity(members.len());
        for (name, value) in members {
            let name = std::str::from_utf8(name)
                .map_err(|_| Refusal::new("invalid_utf8", "the name of a field is no UTF-8"))?;
            if left.iter().any(|(known, _)| *known == name) {
                let detail = format!("the field `{}` is there twice", name.escape_debug());
                return Err(Refusal::new("json_duplicate_keys", detail));
            }
            left.push((name, value));
        }
        Ok(Self { left })
    }

    /// The value under the first name that has one; what is empty is none.
    fn take(&mut self, names: &[&str]) -> Option<&'a Json> {
        let mut found = None;
        for name in names {
            let at = self.left.iter().position(|(known, value)| {
                known.trim().eq_ignore_ascii_case(name) && (found.is_none() || is_empty(value))
            });
            if let Some(at) = at {
                let (_, value) = self.left.remove(at);
                found = found.or(Some(value).filter(|value| !is_empty(value)));
            }
        }
        found
    }

    fn text(&mut self, names: &[&str], what: &str) -> Result<&'a str, Refusal> {
        let Some(value) = self.take(names) else {
            return Err(Refusal::new("null_not_allowed", format!("there is no {what}")));
        };
        utf8(value, what)
    }

    /// What nobody took, as further members of the object `of`.
    fn into_object(self, name: &str, of: Option<Json>) -> Result<Option<Json>, Refusal> {
        let left = self.left.into_iter().filter(|(_, value)| !is_empty(value));
        let left: Vec<(&str, Json)> = left.map(|(name, value)| (name, value.clone())).collect();
        if left.is_empty() {
            return Ok(of);
        }
        let refused = |detail: String| Err(Refusal::new("unknown_field", detail));
        let mut members = match of {
            None | Some(Json::Null) => Vec::new(),
            Some(Json::Object(members)) => members,
            Some(_) => return refused(format!("{name} is no object, and there are more fields")),
        };
        for (field, value) in left {
            if members.iter().any(|(known, _)| **known == *field.as_bytes()) {
                let field = field.escape_debug();
                return refused(format!("the field `{field}` is in {name} too"));
            }
            members.push((field.as_bytes().into(), value));
        }
        Ok(Some(Json::Object(members)))
    }

    /// Refuses what nobody took.
    fn done(self) -> Result<(), Refusal> {
        match self.left.iter().find(|(_, value)| !is_empty(value)) {
            None => Ok(()),
            Some((name, _)) => {
                let detail = format!("nothing takes the field `{}`", name.escape_debug());
                Err(Refusal::new("unknown_field", detail))
            }
        }
    }
}

fn is_empty(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::String(text) => text.is_empty(),
        _ => false,
    }
}

fn utf8<'a>(value: &'a Json, what: &str) -> Result<&'a str, Refusal> {
    value.as_str().ok_or_else(|| match value {
        Json::String(_) => Refusal::new("invalid_utf8", format!("the {what} is not UTF-8")),
        _ => Refusal::new("wrong_type", format!("the {what} is no text")),
    })
}

fn object(members: Vec<(&str, Option<Json>)>) -> Json {
    let there = members.into_iter().filter_map(|(name, value)| Some((name, value?)));
    Json::Object(there.map(|(name, value)| (name.as_bytes().into(), value)).collect())
}

fn text(text: impl AsRef<str>) -> Json {
    Json::String(text.as_ref().as_bytes().into())
}

const EMAIL: &[&str] = &["user_email", "email", "user"];
const MEDIA: &[&str] = &["media_external_id", "external_id", "media"];

/// An item: key, type and class in one spelling, attributes normalised, a year as its first day.
/// Fields that have no column are attributes.
pub fn item(record: &Json) -> Computed {
    let mut fields = Fields::of(record)?;
    let given_key = fields.take(&["external_id"]);
    let title = fields.text(&["title"], "title")?;
    let release_date = fields.take(&["release_date"]);
    let given_type = match fields.take(&["media_type"]) {
        None => None,
        Some(given) => Some(utf8(given, "media type")?),
    };
    let (external_id, media_type) = match (given_key, given_type) {
        (Some(given), _) => {
            let external_id = key::external_id(utf8(given, "key")?)?;
            let of_key = external_id.split(':').next().unwrap_or_default().to_owned();
            if let Some(own) = given_type.map(key::media_type).filter(|own| *own != of_key) {
                let detail = format!("the key says {of_key}, the media type {own}");
                return Err(Refusal::new("type_conflict", detail));
            }
            (external_id, of_key)
        }
        (None, Some(given)) => {
            let day = release_date.map(first_day);
            let year = day.as_ref().and_then(Json::as_str).and_then(|date| date.get(..4));
            let media_type = key::media_type(given);
            let made = format!("{media_type}:{}:{}", key::slug(title), year.unwrap_or_default());
            (key::external_id(&made)?, media_type)
        }
        (None, None) => {
            return Err(Refusal::new(
                "null_not_allowed",
                "there is neither a key nor a media type",
            ));
        }
    };
    let media_class = match fields.take(&["media_class"]) {
        Some(class) => class.clone(),
        None => text(format!("media.{media_type}")),
    };
    let creators = fields.take(&["creators"]).map(|given| match given {
        Json::String(_) => Json::Array(vec![given.clone()]),
        other => other.clone(),
    });
    let attributes = fields.take(&["attributes"]).cloned();
    for mapped in ["country_of_origin", "cover_url", "description"] {
        fields.take(&[mapped]);
    }
    let attributes = fields.into_object("attributes", attributes)?;
    let attributes = attributes.map(|given| attributes::normalised(&given, &media_type));
    Ok(object(vec![
        ("external_id", Some(text(external_id))),
        ("media_type", Some(text(media_type))),
        ("media_class", Some(media_class)),
        ("release_date", release_date.map(first_day)),
        ("creators", creators),
        ("attributes", attributes.transpose()?),
    ]))
}

/// A year alone is its first day, as the application's importers have it.
fn first_day(date: &Json) -> Json {
    let is_year = |year: &str| year.len() == 4 && year.bytes().all(|byte| byte.is_ascii_digit());
    match date {
        Json::Number(year) if is_year(year) => text(format!("{year}-01-01")),
        Json::String(year) => match std::str::from_utf8(year) {
            Ok(year) if is_year(year) => text(format!("{year}-01-01")),
            _ => date.clone(),
        },
        _ => date.clone(),
    }
}

/// A link of an item to the key that another site has for it.
pub fn link(record: &Json) -> Computed {
    let mut fields = Fields::of(record)?;
    let media = key::external_id(fields.text(MEDIA, "media key")?)?;
    let source = fields.take(&["source_name", "source"]).cloned();
    let external_key = fields.take(&["external_key", "key"]).cloned();
    fields.done()?;
    Ok(object(vec![
        ("media", Some(text(media))),
        ("source_name", source),
        ("external_key", external_key),
    ]))
}

/// A relation of two items.
pub fn relationship(record: &Json) -> Computed {
    let mut fields = Fields::of(record)?;
    let from = ["from_external_id", "from", "media_external_id", "external_id", "source"];
    let from = key::external_id(fields.text(&from, "key of the first item")?)?;
    let to = ["to_external_id", "to", "related_external_id", "related_media_external_id", "target"];
    let to = key::external_id(fields.text(&to, "key of the second item")?)?;
    let kind = fields.take(&["relation_type", "relationship_type", "type"]);
    let kind = kind.map(|kind| match kind.as_str() {
        Some(spelled) => text(spelled.trim().to_lowercase()),
        None => kind.clone(),
    });
    let notes = fields.take(&["notes"]).cloned();
    let weight = fields.take(&["weight"]).cloned();
    fields.done()?;
    Ok(object(vec![
        ("from", Some(text(from))),
        ("to", Some(text(to))),
        ("relation_type", kind),
        ("notes", notes),
        ("weight", weight),
    ]))
}

/// What a user tracks; fields that have no column are kept in the snapshot.
pub fn tracked(record: &Json) -> Computed {
    let mut fields = Fields::of(record)?;
    let email = fields.text(EMAIL, "email of the user")?;
    let media = key::external_id(fields.text(MEDIA, "media key")?)?;
    let status = fields.take(&["status"]).map(|status| match status.as_str() {
        Some(spelled) => text(spelled.trim().to_lowercase().replace([' ', '_'], "-")),
        None => status.clone(),
    });
    let mut members = vec![("email", Some(text(email))), ("media", Some(text(media)))];
    members.push(("status", status));
    for name in ["progress", "rating", "notes", "started_at", "completed_at"] {
        members.push((name, fields.take(&[name]).cloned()));
    }
    let snapshot = fields.take(&["meta_snapshot"]);
    // A cell of a CSV file holds an object as text.
    let snapshot = match snapshot {
        Some(Json::String(cell)) => crate::json::parse(cell).ok().or_else(|| snapshot.cloned()),
        other => other.cloned(),
    };
    members.push(("meta_snapshot", fields.into_object("meta_snapshot", snapshot)?));
    Ok(object(members))
}

/// A list of a user: its items in order, or one item a record; its filter checked.
pub fn list(record: &Json) -> Computed {
    let mut fields = Fields::of(record)?;
    let email = fields.text(EMAIL, "email of the user")?;
    let name = fields.text(&["list_name", "name"], "name of the list")?;
    let definition = filter_of(fields.take(&["filter_definition", "filter"]))?;
    let kind = match fields.take(&["list_type", "type"]) {
        Some(kind) => kind.clone(),
        None => text(if definition.is_some() { "smart" } else { "static" }),
    };
    // Refused here rather than by the table, so that the record is kept with its items.
    if !kind.as_str().is_some_and(|kind| ["static", "smart"].contains(&kind)) {
        return Err(Refusal::new("check", "the list type is static or smart"));
    }
    if kind.as_str() == Some("smart") && definition.is_none() {
        return Err(Refusal::new("invalid_filter", "a smart list needs a filter_definition"));
    }
    let description = fields.take(&["description"]).cloned();
    let is_public = fields.take(&["is_public", "public"]).cloned();
    let items = items(&mut fields)?;
    fields.done()?;
    Ok(object(vec![
        ("email", Some(text(email))),
        ("list", Some(text(format!("{email}\n{name}")))),
        ("name", Some(text(name))),
        ("list_type", Some(kind)),
        ("description", description),
        ("is_public", is_public),
        ("filter_definition", definition),
        ("items", Some(Json::Array(items))),
    ]))
}

fn filter_of(given: Option<&Json>) -> Result<Option<Json>, Refusal> {
    let invalid = |detail: String| Refusal::new("invalid_filter", detail);
    let Some(given) = given else { return Ok(None) };
    let parsed = match given {
        Json::String(text) => {
            crate::json::parse(text).map_err(|error| invalid(error.to_string()))?
        }
        other => other.clone(),
    };
    filter::parse(&parsed).map_err(invalid)?;
    Ok(Some(parsed))
}

/// The items: a list, a text with `;` or `|` between them or of a JSON array, or the record's one.
fn items(fields: &mut Fields<'_>) -> Result<Vec<Json>, Refusal> {
    let position = fields.take(&["position", "item_position"]).cloned();
    if let Some(one) = fields.take(MEDIA) {
        let one = element(one, position)?;
        return Ok(vec![one]);
    }
    let given = match fields.take(&["items"]) {
        None => Vec::new(),
        Some(Json::Array(elements)) => elements.clone(),
        Some(Json::String(cell)) if cell.first() == Some(&b'[') => match crate::json::parse(cell) {
            Ok(Json::Array(elements)) => elements,
            _ => return Err(Refusal::new("invalid_json", "the items are no JSON array")),
        },
        Some(Json::String(cell)) => {
            let parts = cell.split(|byte| matches!(byte, b';' | b'|')).map(<[u8]>::trim_ascii);
            parts.filter(|part| !part.is_empty()).map(|part| Json::String(part.into())).collect()
        }
        Some(_) => return Err(Refusal::new("wrong_type", "the items are no list")),
    };
    let places = given.iter().zip(1_u32..);
    places.map(|(item, place)| element(item, Some(number(place)))).collect()
}

fn number(number: u32) -> Json {
    Json::Number(number.to_string().into())
}

fn element(given: &Json, position: Option<Json>) -> Computed {
    if let Some(spelled) = given.as_str() {
        let media = text(key::external_id(spelled)?);
        return Ok(object(vec![("media", Some(media)), ("position", position)]));
    }
    let mut fields = Fields::of(given)?;
    let media = key::external_id(fields.text(MEDIA, "media key of an item")?)?;
    let position = fields.take(&["position"]).cloned().or(position);
    fields.done()?;
    Ok(object(vec![("media", Some(text(media))), ("position", position)]))
}
