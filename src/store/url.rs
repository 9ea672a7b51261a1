//! URLs as they may be shown.

/// The URL without its password, for messages.
///
/// Whatever is unclear is hidden rather than shown: an unescaped `@`, `/` or `?` inside the
/// password, passwords and keys among the query parameters (also with percent-escaped names),
/// and text that is no URL at all.
pub fn redact_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return "***".to_owned();
    };
    // The last `@` ends the user's part: taking the first one after the host too would show the
    // tail of a password that holds an unescaped `@`.
    let rest = match rest.rsplit_once('@') {
        Some((user, tail)) => match user.split_once(':') {
            Some((name, _password)) => format!("{name}:***@{tail}"),
            None => rest.to_owned(),
        },
        None => rest.to_owned(),
    };
    format!("{scheme}://{}", redact_parameters(&rest))
}

/// Hides `name=value` wherever it stands: the cut above may have taken the `?` before it.
fn redact_parameters(rest: &str) -> String {
    rest.split_inclusive(['?', '&'])
        .map(|part| {
            let (parameter, end) = match part.strip_suffix(['?', '&']) {
                Some(parameter) => (parameter, &part[parameter.len()..]),
                None => (part, ""),
            };
            match parameter.split_once('=') {
                Some((name, _)) if is_secret(name) => format!("{name}=***{end}"),
                _ => part.to_owned(),
            }
        })
        .collect()
}

fn is_secret(name: &str) -> bool {
    let name = percent_decoded(name).to_ascii_lowercase();
    ["pass", "pwd", "secret", "token", "key"].iter().any(|part| name.contains(part))
}

pub(super) fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(escaped.unwrap_or(bytes[at]));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_hidden_and_the_rest_stays() {
        assert_eq!(
            redact_url("postgres://ada:hunter2@db:5433/app?sslmode=require"),
            "postgres://ada:***@db:5433/app?sslmode=require"
        );
        assert_eq!(redact_url("postgres://ada@db/app"), "postgres://ada@db/app");
        assert_eq!(redact_url("postgres://db:5432/app"), "postgres://db:5432/app");
    }

    #[test]
    fn no_spelling_of_a_password_gets_through() {
        for url in [
            "postgres://u:hunter2@h/d",
            "postgres://u:x@hunter2@h/d",
            "postgres://u:x/hunter2@h/d",
            "postgres://u:x?hunter2@h/d",
            "postgres://u:x#hunter2@h/d",
            "postgres://u:a@b/c?hunter2@h/d",
            "postgres://h/d?password=hunter2",
            "postgres://h/d?sslmode=require&PASSWORD=hunter2&host=/s",
            "postgres://h/d?p%61ssword=hunter2",
            "postgres://h/d?password=hunter2@x",
            "postgres://h/d?password=x@hunter2",
            "postgres://h:5432/d?user=a@b&password=hunter2",
            "postgres://:hunter2@h/d",
            "host=h password=hunter2",
            "u:hunter2@h",
        ] {
            assert!(!redact_url(url).contains("hunter2"), "{url} -> {}", redact_url(url));
        }
    }
}
