//! Names that become SQL.

use crate::error::{Error, ErrorKind, Result};

/// Longest identifier PostgreSQL keeps, in bytes; it cuts longer ones silently (`NAMEDATALEN` - 1).
const BYTES_MAX: usize = 63;

/// Quotes a name as an SQL identifier.
///
/// A name with a NUL byte cannot be an identifier. It becomes `""`, which every server refuses
/// ("zero-length delimited identifier"), so that no statement with such a name can run;
/// [`check_identifier`] says the same with a better message, earlier.
pub fn quote_ident(name: &str) -> String {
    if name.contains('\0') {
        return "\"\"".to_owned();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes `schema.name`.
pub fn quote_qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quote_ident(schema), quote_ident(name))
}

/// Quotes text as an SQL literal, for the few places that take no parameter (COPY, expressions of
/// a plan). Sessions are pinned to standard-conforming strings.
pub fn quote_literal(text: &str) -> Result<String> {
    if text.contains('\0') {
        return Err(Error::new(ErrorKind::Pack, format!("the constant {text:?} holds a NUL byte")));
    }
    Ok(format!("'{}'", text.replace('\'', "''")))
}

/// Refuses names PostgreSQL would refuse or cut: empty, with a NUL byte, over 63 bytes.
/// `what` says what is named, for the message.
pub fn check_identifier(what: &str, name: &str) -> Result<()> {
    let fault = if name.is_empty() {
        "is empty".to_owned()
    } else if name.contains('\0') {
        "holds a NUL byte".to_owned()
    } else if name.len() > BYTES_MAX {
        format!("has {} bytes; PostgreSQL would cut it to {BYTES_MAX}", name.len())
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::Pack, format!("{what} {name:?} {fault}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_inside_a_name_are_doubled() {
        assert_eq!(quote_ident("plain"), r#""plain""#);
        assert_eq!(quote_ident(r#"a"b"; DROP TABLE x; --"#), r#""a""b""; DROP TABLE x; --""#);
        assert_eq!(quote_qualified("a.b", "c"), r#""a.b"."c""#);
    }

    #[test]
    fn a_name_with_a_nul_byte_becomes_one_no_server_takes() {
        assert_eq!(quote_ident("a\0b"), r#""""#);
        assert!(check_identifier("column", "a\0b").is_err());
    }

    #[test]
    fn names_the_server_would_cut_are_refused() {
        assert!(check_identifier("table", &"x".repeat(63)).is_ok());
        let error = check_identifier("table", &"ä".repeat(32)).unwrap_err();
        assert!(error.detail().contains("64 bytes"));
        assert!(check_identifier("table", "").is_err());
    }
}
