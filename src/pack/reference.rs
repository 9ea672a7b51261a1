//! `from`, `each`, `when`: what a text in `pack.toml` refers to, and whether it can be there.

use crate::pack::plan::{From, Meta, Scope};

/// What makes the rest a column's name, whatever it begins with.
const COLUMN: &str = "column:";

/// Reads a reference: `@fact`, `^/pointer`, `+/pointer`, `/pointer`, the empty text (the whole
/// element), `column:NAME` for a column of any name, else a column name.
#[must_use]
pub fn parse(text: &str) -> From {
    let pointer = |scope, rest: &str| From::Pointer { scope, pointer: rest.to_owned() };
    match text {
        "@sha256" => From::Meta(Meta::FileSha256),
        "@path" => From::Meta(Meta::FilePath),
        "@name" => From::Meta(Meta::FileName),
        "@key" => From::Meta(Meta::ElementKey),
        "" => pointer(Scope::Element, ""),
        _ if text.starts_with('^') => pointer(Scope::Root, &text[1..]),
        _ if text.starts_with("+/") => pointer(Scope::Computed, &text[1..]),
        _ if text.starts_with('/') => pointer(Scope::Element, text),
        _ => From::Column(text.strip_prefix(COLUMN).unwrap_or(text).to_owned()),
    }
}

/// The reference to a column of this name, escaped where the bare name would be read otherwise.
#[must_use]
pub fn to_column(name: &str) -> String {
    match parse(name) {
        From::Column(read) if read == name => name.to_owned(),
        _ => format!("{COLUMN}{name}"),
    }
}

/// What the records of a stream are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Records {
    /// Rows of a table.
    Sqlite,
    /// Lines of a file.
    Csv,
    /// JSON elements; they have no columns.
    Json,
}

/// What a stream offers to refer to.
#[derive(Debug, Clone, Copy)]
pub struct Offer {
    /// What its records are.
    pub records: Records,
    /// There is a document beside each record.
    pub companion: bool,
    /// A function computes further fields.
    pub compute: bool,
    /// The reference is resolved for an element of `each`.
    pub in_each: bool,
}

impl Offer {
    fn has_columns(self) -> bool {
        self.records != Records::Json
    }

    /// Why `text` can never have a value here; None if it can.
    #[must_use]
    pub fn refusal(self, text: &str) -> Option<String> {
        match parse(text) {
            From::Meta(meta) => self.meta_refusal(text, meta),
            From::Pointer { scope, pointer } => {
                pointer_refusal(text, &pointer).or_else(|| self.scope_refusal(text, scope))
            }
            From::Column(_) if self.has_columns() => None,
            From::Column(_) if text.starts_with('@') => Some(format!(
                "`{text}` is no fact about a file; known are @sha256, @path, @name, @key"
            )),
            From::Column(name) => Some(format!(
                "`{name}` is a column's name, and JSON has no columns: write the pointer `/{name}`"
            )),
        }
    }

    fn meta_refusal(self, text: &str, meta: Meta) -> Option<String> {
        match meta {
            Meta::FileSha256 if self.records == Records::Sqlite => {
                Some(format!("`{text}` is known of documents, not of a SQLite file"))
            }
            Meta::ElementKey if !self.in_each => {
                Some(format!("`{text}` is the key of an element: it needs `each` in the output"))
            }
            _ => None,
        }
    }

    fn scope_refusal(self, text: &str, scope: Scope) -> Option<String> {
        match scope {
            Scope::Element if self.has_columns() && !self.in_each => Some(format!(
                "`{text}` points into a JSON document, and this stream's records are rows with \
                 columns: write a column's name (a column of just this name: `column:{text}`)"
            )),
            Scope::Root if self.has_columns() && !self.companion => Some(format!(
                "`{text}` points into the document beside a record, and [stream.source] names no \
                 `companion`"
            )),
            Scope::Computed if !self.compute => Some(format!(
                "`{text}` is a computed field, and [stream.source] names no `compute`"
            )),
            _ => None,
        }
    }
}

/// Pointers follow RFC 6901: each step begins with `/`, and `~` is written `~0`.
fn pointer_refusal(text: &str, pointer: &str) -> Option<String> {
    if !pointer.is_empty() && !pointer.starts_with('/') {
        return Some(format!("`{text}` is no JSON pointer: each step begins with `/`"));
    }
    let is_escaped = |tail: &str| tail.starts_with('0') || tail.starts_with('1');
    if pointer.split('~').skip(1).any(|tail| !is_escaped(tail)) {
        return Some(format!(
            "`{text}` is no JSON pointer: `~` is written `~0`, `/` in a name `~1`"
        ));
    }
    None
}
