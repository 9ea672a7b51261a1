//! Finding the value a column comes from.

use std::sync::Arc;

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

    /// The first of several that is not NULL.
    pub(super) fn first(&self, from: &[From]) -> Value<'a> {
        for source in from {
            let value = self.one(source);
            if value != Value::Null {
                return value;
            }
        }
        Value::Null
    }

    /// Missing, NULL, JSON null, or an empty text, array or object.
    pub(super) fn is_empty(&self, from: &From) -> bool {
        match self.one(from) {
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

    fn one(&self, from: &From) -> Value<'a> {
        match from {
            From::Column(name) => position(name, self).map_or(Value::Null, |at| self.values[at]),
            From::Pointer { .. } => self.pointed(from).map_or(Value::Null, Value::Json),
            From::Meta(Meta::FileSha256) => Value::Text(self.file.sha256.as_bytes()),
            From::Meta(Meta::FilePath) => Value::Text(self.file.relative.as_bytes()),
            From::Meta(Meta::FileName) => {
                let name = self.file.relative.rsplit('/').next().unwrap_or_default();
                Value::Text(name.as_bytes())
            }
            From::Meta(Meta::ElementKey) => self.element_key.map_or(Value::Null, Value::Text),
        }
    }
}

/// Resolves `from`s; remembers where columns stand.
#[derive(Debug, Default)]
pub(super) struct Resolver {
    /// The names of the record at hand. What is held here cannot change, nor give its place to
    /// others, so that the same names are known by their address.
    names: Option<Arc<[String]>>,
    /// By output and column of the plan: where its one source column stands among these names, as
    /// far as that was looked for.
    places: Vec<Vec<Option<Place>>>,
}

/// Where a column stands; None: nowhere.
type Place = Option<usize>;

impl Resolver {
    /// Takes note of the names of the record whose columns are looked for next.
    pub(super) fn see(&mut self, names: Option<&Arc<[String]>>) {
        let is_known = match (&self.names, names) {
            (Some(known), Some(names)) => Arc::ptr_eq(known, names),
            (None, None) => true,
            _ => false,
        };
        if !is_known {
            self.names = names.cloned();
            self.places.clear();
        }
    }

    /// As [`Context::first`], for a column of an output: most come from one source column, which
    /// stands where it stood in the record before. The record was [seen](Self::see).
    pub(super) fn of_column<'a>(
        &mut self,
        (output, column): (usize, usize),
        from: &[From],
        context: &Context<'a>,
    ) -> Value<'a> {
        let [From::Column(name)] = from else { return context.first(from) };
        if self.places.len() <= output {
            self.places.resize_with(output + 1, Vec::new);
        }
        let places = &mut self.places[output];
        if places.len() <= column {
            places.resize(column + 1, None);
        }
        let place = *places[column].get_or_insert_with(|| position(name, context));
        place.map_or(Value::Null, |at| context.values[at])
    }
}

/// Where a column stands. `SQLite` column names are case-insensitive.
fn position(name: &str, context: &Context<'_>) -> Option<usize> {
    context
        .names
        .iter()
        .position(|column| column == name)
        .or_else(|| context.names.iter().position(|column| column.eq_ignore_ascii_case(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Arc<[String]> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_column_is_found_where_it_stands_in_each_record() {
        let file = SourceFile {
            path: "a".into(),
            relative: "a".to_owned(),
            sha256: String::new(),
            size_bytes: 0,
        };
        let mut resolver = Resolver::default();
        let mut place_of = |names: &Arc<[String]>, wanted: &str| {
            let values: Vec<Value<'_>> = (0_i64..).take(names.len()).map(Value::Integer).collect();
            let context = Context {
                file: &file,
                names,
                values: &values,
                element: None,
                root: None,
                computed: None,
                element_key: None,
            };
            resolver.see(Some(names));
            match resolver.of_column((1, 2), &[From::Column(wanted.to_owned())], &context) {
                Value::Integer(at) => Some(at),
                _ => None,
            }
        };
        for (order, place) in [
            (["id", "model", "at"], Some(1)),
            (["model", "id", "at"], Some(0)),
            (["id", "at", "MODEL"], Some(2)),
            (["id", "at", "modell"], None),
            (["id", "model", "at"], Some(1)),
        ] {
            // Names that are gone give their memory to the next ones.
            let names = names(&order);
            assert_eq!(place_of(&names, "model"), place, "{order:?}");
            assert_eq!(place_of(&names, "model"), place, "{order:?} again");
        }
    }
}
