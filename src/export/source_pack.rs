//! The pack whose sources are the tables of an archive's `SQLite` file.

use super::manifest::TableFacts;
use super::order;
use super::sqlite::{DATABASE, column_names};
use super::tables::Sheet;
use crate::cast::PgType;
use crate::pack::Pack;
use crate::pack::reference::to_column;
use crate::pack::toml_text::{key, list, one_line, string};
use crate::store::catalog::Table;
use crate::store::quote_qualified;

/// The text of its `pack.toml`: the same for the same tables, however many rows they have.
pub(super) fn manifest(pack: &Pack, tables: &[(&Sheet, &TableFacts)]) -> String {
    let header = &pack.manifest.pack;
    let file = DATABASE.rsplit('/').next().unwrap_or(DATABASE);
    let mut text = format!(
        "# The tables of {file}, as `toolkit export --as sqlite` wrote them, as sources of the pack\n\
         # they are of: `toolkit migrate up`, `backfill` and `verify-parity` take this folder.\n\n\
         [pack]\nname = {}\nversion = {}\ndescription = {}\n\n\
         # What triggers wrote is in the file.\n[defaults]\ndisable_triggers = true\n",
        string(pack.name()),
        header.version,
        string(&one_line(&header.description))
    );
    let catalog: Vec<Table> = tables.iter().map(|(sheet, _)| sheet.table.clone()).collect();
    for at in order::groups(&catalog).into_iter().flatten() {
        let (sheet, facts) = tables[at];
        text.push_str(&stream(sheet, facts, file));
    }
    text
}

fn stream(sheet: &Sheet, facts: &TableFacts, file: &str) -> String {
    let stored_as = facts.stored_as.as_deref().unwrap_or_default();
    let keys = if facts.key.is_empty() { "\"content\"".to_owned() } else { list(facts.key.iter()) };
    let mut text = format!(
        "\n[[stream]]\nname = {name}\nsource = {{ sqlite = {file}, table = {name} }}\n\
         target = {target}\nkey = {keys}\n[stream.columns]\n",
        name = string(stored_as),
        file = string(file),
        target = string(&quote_qualified(&sheet.table.schema, &sheet.table.name)),
    );
    let names = column_names(&sheet.columns);
    for ((column, name), ty) in sheet.columns.iter().zip(&names).zip(sheet.types()) {
        let from = string(&to_column(name));
        let mapped = match options(ty) {
            None => from,
            Some(more) => format!("{{ from = {from}, {more} }}"),
        };
        text.push_str(&format!("{} = {mapped}\n", key(column)));
    }
    text
}

/// What keeps a value of this type as it is: secrets were taken out, or let through, before.
fn options(ty: &PgType) -> Option<&'static str> {
    match ty {
        PgType::Text(_) | PgType::Json | PgType::Jsonb | PgType::Other(_) => Some("redact = false"),
        PgType::Array(element) => match **element {
            PgType::Text(_) | PgType::Json | PgType::Jsonb => Some("redact = false"),
            PgType::Bytea => Some("cast = \"bytea_hex\""),
            _ => None,
        },
        _ => None,
    }
}
