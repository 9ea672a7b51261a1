//! Which source columns the keys of a stream's rows are made of.

use crate::error::{Error, ErrorKind, Result};
use crate::pack::plan::{From, Meta, SourceKind, StreamPlan};

/// The source columns that the keys of the stream's rows are made of, as the pack names them.
///
/// Errors: rows whose key a change in the table cannot tell.
pub(super) fn key_columns(stream: &StreamPlan) -> Result<Vec<String>> {
    let mut found: Vec<String> = Vec::new();
    for output in &stream.outputs {
        let refused = |why: &str| {
            Error::new(
                ErrorKind::Pack,
                format!("stream {}: changes cannot be captured: {why}", stream.name),
            )
            .advice(
                "give its target a key that is made of columns of the table; or leave the stream \
                 to a last `toolkit backfill --stream` while the application stands still, in a \
                 pack of its own",
            )
        };
        if output.is_content {
            return Err(refused("key = \"content\": an older version of a row is not found again"));
        }
        if output.each.is_some() {
            return Err(refused("its rows are made of the elements of a document"));
        }
        for position in &output.key {
            let column = &output.columns[*position];
            if column.constant.is_some() {
                continue;
            }
            for from in &column.from {
                match from {
                    From::Column(name) if !found.iter().any(|n| n.eq_ignore_ascii_case(name)) => {
                        found.push(name.clone());
                    }
                    From::Column(_) | From::Meta(Meta::FilePath | Meta::FileName) => {}
                    From::Pointer { .. } | From::Meta(_) => {
                        let why = format!("the key column {} comes from a document", column.name);
                        return Err(refused(&why));
                    }
                }
            }
        }
    }
    Ok(found)
}

/// The table that a stream reads, if it reads one.
pub(super) fn table_of(stream: &StreamPlan) -> Option<&str> {
    match &stream.source {
        SourceKind::Sqlite { table, .. } => Some(table),
        _ => None,
    }
}
