//! `toolkit copy`: a `SQLite` file into Postgres without a pack of its own.
//!
//! The file's declarations and a census of its values give a plan ([`plan()`]); the plan is written
//! as a pack ([`Plan::files`]: a migration and a `pack.toml`), and that pack is migrated, backfilled
//! and verified by the very code that serves any other pack ([`apply`]). What has no certain
//! translation is left out and said in [`Plan::notes`] or at its table, never guessed.
//!
//! | module | what it does |
//! |---|---|
//! | `tokens`, `schema` | what the file declares |
//! | `evidence`, `infer` | what its values allow, and the type that follows |
//! | `expression`, `values` | conditions and defaults in Postgres's SQL |
//! | `names` | names Postgres can have |
//! | `make`, `keys` | the plan |
//! | `emit` | the pack |
//! | `apply` | migrate, backfill, verify |

mod apply;
mod emit;
mod evidence;
mod expression;
mod infer;
mod keys;
mod make;
mod names;
mod schema;
mod tokens;
mod values;

pub use apply::{Copied, Event, Standing, apply, refuse_foreign, require_same, snapshot};
pub use emit::{MIGRATION, PACK, write_new};
pub use make::{pack_name, plan, schema_name};

use std::path::PathBuf;

use serde::Serialize;

use crate::cast::PgType;
use crate::error::{Error, ErrorKind, Result};

/// What a caller decides.
#[derive(Debug, Clone, Default)]
// Wishes of one person, each a choice of its own.
#[allow(clippy::struct_excessive_bools)]
pub struct Options {
    /// Target schema; None: named after the file.
    pub schema: Option<String>,
    /// Only these tables; empty: all.
    pub tables: Vec<String>,
    /// Tables left behind.
    pub skip: Vec<String>,
    /// Text stays text, whatever it always is.
    pub keep_text: bool,
    /// Types that were asked for.
    pub types: Vec<Asked>,
    /// Zone of times without an offset.
    pub zone: Option<String>,
    /// INTEGER columns that look like moments become timestamptz.
    pub epochs: bool,
    /// What becomes of text Postgres cannot hold.
    pub bad_text: BadText,
    /// What becomes of a foreign key that rows break.
    pub dangling: Dangling,
    /// Names become lower-case.
    pub lower_names: bool,
    /// Secrets in URLs and members are stored as they are.
    pub keep_secrets: bool,
}

/// `TABLE.COLUMN=TYPE`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Table of the source.
    pub table: String,
    /// Its column.
    pub column: String,
    /// The type.
    pub ty: PgType,
}

/// Types that can be asked for.
const TYPES: [(&str, PgType); 12] = [
    ("bigint", PgType::Int8),
    ("boolean", PgType::Bool),
    ("bytea", PgType::Bytea),
    ("date", PgType::Date),
    ("double precision", PgType::Float8),
    ("jsonb", PgType::Jsonb),
    ("numeric", PgType::Numeric(None)),
    ("text", PgType::Text(None)),
    ("time", PgType::Time),
    ("timestamp", PgType::Timestamp),
    ("timestamptz", PgType::Timestamptz),
    ("uuid", PgType::Uuid),
];

impl std::str::FromStr for Asked {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let wrong = || format!("`{text}` is not TABLE.COLUMN=TYPE");
        let (place, ty) = text.rsplit_once('=').ok_or_else(wrong)?;
        let (table, column) = place.split_once('.').ok_or_else(wrong)?;
        let known = TYPES.iter().find(|(name, _)| ty.trim().eq_ignore_ascii_case(name));
        let Some((_, ty)) = known else {
            let names: Vec<&str> = TYPES.iter().map(|(name, _)| *name).collect();
            return Err(format!("there is no type `{ty}` here; known are {}", names.join(", ")));
        };
        Ok(Self { table: table.to_owned(), column: column.to_owned(), ty: ty.clone() })
    }
}

/// What becomes of text with U+0000 or bytes that are not UTF-8.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BadText {
    /// Its row is rejected, and kept whole.
    #[default]
    Reject,
    /// U+FFFD stands in its place, with a ledger entry.
    Replace,
    /// Its column becomes bytea.
    Bytea,
}

/// What becomes of a declared foreign key where rows lead nowhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Dangling {
    /// All rows are stored, and the key is left out.
    #[default]
    Keep,
    /// The key is created, and such rows are rejected.
    Reject,
    /// The key is created, and such references become NULL, with a ledger entry.
    Null,
}

/// What a copy would do.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// The file.
    pub source: PathBuf,
    /// The target schema.
    pub schema: String,
    /// The pack it is written as.
    pub pack: String,
    /// Tables, in the order of the file.
    pub tables: Vec<TablePlan>,
    /// What is not copied.
    pub not_copied: Vec<NotCopied>,
    /// What a person should know beside.
    pub notes: Vec<String>,
    #[serde(skip)]
    pub(crate) migration: String,
    #[serde(skip)]
    pub(crate) manifest: String,
}

impl Plan {
    /// The files of the pack: name and text.
    #[must_use]
    pub fn files(&self) -> [(&'static str, &str); 2] {
        [(MIGRATION, &self.migration), (PACK, &self.manifest)]
    }
}

/// One table of a plan.
#[derive(Debug, Clone, Serialize)]
pub struct TablePlan {
    /// Name in the source.
    pub source: String,
    /// Name in the target schema.
    pub target: String,
    /// Rows when they were counted.
    pub rows: u64,
    /// Columns of its key in the target; none: rows are known by all they hold.
    pub key: Vec<String>,
    /// Columns.
    pub columns: Vec<ColumnPlan>,
    /// What was left out or changed, in words.
    pub notes: Vec<String>,
}

/// One column of a plan.
#[derive(Debug, Clone, Serialize)]
pub struct ColumnPlan {
    /// Name in the source.
    pub source: String,
    /// Name in the target.
    pub target: String,
    /// The declared type, as written.
    pub declared: String,
    /// Type in the target.
    #[serde(rename = "type")]
    pub ty: String,
    /// The values that prove it, or why it is another; empty where the declared type says the same.
    pub why: String,
    /// What a person may want to do about it.
    pub hint: Option<String>,
}

/// Something of the file that is not copied.
#[derive(Debug, Clone, Serialize)]
pub struct NotCopied {
    /// `view`, `trigger`, `virtual table`, `shadow table`, `table`
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// The error of a name the file does not have.
fn no_such(what: &str, name: &str, known: &[&str]) -> Error {
    Error::new(ErrorKind::Usage, format!("the file has no {what} `{name}`"))
        .advice(format!("it has: {}", known.join(", ")))
}

/// Refuses a schema the toolkit or the server has for itself.
fn check_schema(schema: &str) -> Result<()> {
    crate::store::check_identifier("schema", schema)?;
    if schema == "toolkit" || schema == "information_schema" || schema.starts_with("pg_") {
        return Err(Error::new(ErrorKind::Usage, format!("schema {schema} is not for tables"))
            .advice("name another one with --schema"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_asked_for_by_table_column_and_name() {
        let asked: Asked = "t.a.b=double precision".parse().unwrap();
        assert_eq!(asked, Asked { table: "t".into(), column: "a.b".into(), ty: PgType::Float8 });
        for wrong in ["t.c", "c=text", "t.c=varchar", ""] {
            assert!(wrong.parse::<Asked>().is_err(), "{wrong}");
        }
    }
}
