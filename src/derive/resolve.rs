//! Finding the value a column comes from.

use std::collections::HashMap;

use crate::cast::Value;
use crate::json::Json;
use crate::pack::plan::{From, Meta, Scope};
use crate::source::SourceFile;

/// Everything a `from` can reach while one row is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) file: &'a SourceFile,
    pub(super) names: &'a [String],
    pub(super) values: &'a [Value<'a>],
    pub(super) element: Option<&'a Json>,
    pub(super) root: Option<&'a Json>,
    pub(super) computed: Option<&'a Json>,
    pub(super) element_key: Option<&'a [u8]>,
}

impl<'a> Context<'a> {
    /// The JSON value a pointer reaches; None also for columns and facts.
    pub(super) fn pointed(&self, from: &From) -> Option<&'a Json> {
        let From::Pointer { scope, pointer } = from else { return None };
        let base = match scope {
            Scope::Element => self.element,
            Scope::Root => self.root,
            Scope::Computed => self.computed,
        }?;
        base.pointer(pointer)
    }

    /// The elements `each` makes rows of, with their member names if it is an object.
    pub(super) fn members(&self, each: &From) -> Vec<(Option<&'a [u8]>, &'a Json)> {
        match self.pointed(each) {
            Some(Json::Array(elements)) => elements.iter().map(|element| (None, element)).collect(),
            Some(Json::Object(members)) => {
                members.iter().map(|(key, value)| (Some(&**key), value)).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Resolves `from`s; remembers where columns stand.
#[derive(Debug, Default)]
pub(super) struct Resolver {
    columns: HashMap<String, Option<usize>>,
}

impl Resolver {
    /// The first of several that is not NULL.
    pub(super) fn first<'a>(&mut self, from: &[From], context: &Context<'a>) -> Value<'a> {
        for source in from {
            let value = self.one(source, context);
            if value != Value::Null {
                return value;
            }
        }
        Value::Null
    }

    /// Missing, NULL, JSON null, or an empty text, array or object.
    pub(super) fn is_empty(&mut self, from: &From, context: &Context<'_>) -> bool {
        match self.one(from, context) {
            Value::Null => true,
            Value::Text(text) => text.is_empty(),
            Value::Json(json) => match json {
                Json::Null => true,
                Json::String(text) => text.is_empty(),
                Json::Array(elements) => elements.is_empty(),
                Json::Object(members) => members.is_empty(),
                Json::Bool(_) | Json::Number(_) => false,
            },
            _ => false,
        }
    }

    fn one<'a>(&mut self, from: &From, context: &Context<'a>) -> Value<'a> {
        match from {
            From::Column(name) => match self.column(name, context) {
                Some(at) => context.values[at],
                None => Value::Null,
            },
            From::Pointer { .. } => context.pointed(from).map_or(Value::Null, Value::Json),
            From::Meta(Meta::FileSha256) => Value::Text(context.file.sha256.as_bytes()),
            From::Meta(Meta::FilePath) => Value::Text(context.file.relative.as_bytes()),
            From::Meta(Meta::FileName) => {
                let name = context.file.relative.rsplit('/').next().unwrap_or_default();
                Value::Text(name.as_bytes())
            }
            From::Meta(Meta::ElementKey) => context.element_key.map_or(Value::Null, Value::Text),
        }
    }

    /// `SQLite` column names are case-insensitive; the order of a stream's columns never changes.
    fn column(&mut self, name: &str, context: &Context<'_>) -> Option<usize> {
        if let Some(found) = self.columns.get(name) {
            return *found;
        }
        let found =
            context.names.iter().position(|column| column == name).or_else(|| {
                context.names.iter().position(|column| column.eq_ignore_ascii_case(name))
            });
        self.columns.insert(name.to_owned(), found);
        found
    }
}
