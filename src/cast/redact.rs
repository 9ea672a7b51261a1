//! Secrets out of texts before anything is stored; a keyed hash remains.

mod key_file;
mod secrets;

use std::path::Path;

use hmac::{Hmac, KeyInit as _, Mac as _};
use memchr::memchr2;
use sha2::Sha256;

use crate::error::Result;

/// What stands where a secret stood.
const MASK: &[u8] = b"***";

/// Finds secrets and replaces them by `***`.
#[derive(Clone)]
pub struct Redactor {
    key: [u8; 32],
    members: Vec<String>,
    urls: bool,
}

/// A text without its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redacted {
    /// The text with `***` in place of each secret; all other bytes as they were.
    pub text: Vec<u8>,
    /// HMAC-SHA256 over the secrets alone, each preceded by its length as eight big-endian
    /// bytes: equal secrets can be recognised, and no secret can be guessed without the key.
    pub secret_hash: [u8; 32],
    /// How many secrets there were.
    pub count: usize,
}

impl Redactor {
    /// A redactor that looks for secrets in URLs and connection strings.
    pub fn new(key: [u8; 32]) -> Self {
        Self { key, members: Vec::new(), urls: true }
    }

    /// A redactor with the key kept in `path`: 32 random bytes, created with mode 0600 when there
    /// is no such file. When several processes create it at once, all get the same key.
    pub fn load_or_create(path: &Path) -> Result<Self> {
        key_file::load_or_create(path).map(Self::new)
    }

    /// Also treats the string values of object members with these names (ASCII case ignored) as
    /// secrets as a whole.
    #[must_use]
    pub fn with_members(mut self, names: Vec<String>) -> Self {
        self.members = names;
        self
    }

    /// Whether URLs and connection strings inside texts are searched.
    #[must_use]
    pub fn with_urls(mut self, urls: bool) -> Self {
        self.urls = urls;
        self
    }

    /// Replaces the secrets in a text; None when there is none. Secrets are:
    ///
    /// - the password of every `scheme://user:password@host`, up to the last `@` before the next
    ///   `/`, `?`, `#`, white space or quote;
    /// - URL query and fragment parameters named `password`, `passwd`, `pwd`, `sslpassword`,
    ///   `api_key`, `apikey`, `access_token` or `token`;
    /// - `password=...` of libpq's keyword/value strings, quoted or not, where the text also has
    ///   `host=`, `dbname=` or `user=`.
    ///
    /// What is `***` already is no secret, so redacting twice changes nothing.
    pub fn redact_text(&self, text: &[u8]) -> Option<Redacted> {
        /// A replacement can only join what two rules saw; the second round settles that.
        const ROUNDS_MAX: usize = 4;
        if !self.urls || memchr2(b':', b'=', text).is_none() {
            return None;
        }
        let mut hash = None;
        let mut count = 0;
        let mut current: Option<Vec<u8>> = None;
        for _ in 0..ROUNDS_MAX {
            let before = current.as_deref().unwrap_or(text);
            let spans = secrets::spans(before);
            if spans.is_empty() {
                break;
            }
            count += spans.len();
            let hash = hash.get_or_insert_with(|| self.keyed());
            let mut after = Vec::with_capacity(before.len());
            let mut copied = 0;
            for span in spans {
                add(hash, &before[span.clone()]);
                after.extend_from_slice(&before[copied..span.start]);
                after.extend_from_slice(MASK);
                copied = span.end;
            }
            after.extend_from_slice(&before[copied..]);
            current = Some(after);
        }
        let text = current?;
        Some(Redacted { text, secret_hash: hash?.finalize().into_bytes().into(), count })
    }

    /// Replaces a whole string value whose member name is configured as secret. An empty value
    /// and one that is `***` already are no secrets.
    pub fn redact_member(&self, key: &[u8], value: &[u8]) -> Option<Redacted> {
        let named = self.members.iter().any(|name| name.as_bytes().eq_ignore_ascii_case(key));
        if !named || value.is_empty() || value == MASK {
            return None;
        }
        let mut hash = self.keyed();
        add(&mut hash, value);
        let secret_hash = hash.finalize().into_bytes().into();
        Some(Redacted { text: MASK.to_vec(), secret_hash, count: 1 })
    }

    fn keyed(&self) -> Hmac<Sha256> {
        // HMAC takes keys of any length; this one has 32 bytes.
        Hmac::new_from_slice(&self.key).unwrap_or_else(|_| unreachable!())
    }
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redactor")
            .field("key", &"***")
            .field("members", &self.members)
            .field("urls", &self.urls)
            .finish()
    }
}

fn add(hash: &mut Hmac<Sha256>, secret: &[u8]) {
    hash.update(&(secret.len() as u64).to_be_bytes());
    hash.update(secret);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn redactor() -> Redactor {
        Redactor::new([1; 32]).with_members(vec!["api_key".into(), "Password".into()])
    }

    fn redact(text: &str) -> Option<String> {
        redactor().redact_text(text.as_bytes()).map(|found| String::from_utf8(found.text).unwrap())
    }

    #[track_caller]
    fn becomes(text: &str, expected: &str) {
        assert_eq!(redact(text).as_deref(), Some(expected));
        assert_eq!(redact(expected), None, "redacting twice changes nothing");
    }

    #[test]
    fn passwords_in_urls_are_replaced_wherever_they_stand() {
        becomes("postgres://u:p@h:5432/db", "postgres://u:***@h:5432/db");
        becomes("redis://:pw@host", "redis://:***@host");
        becomes("a://u:p%40s%2Fs@h", "a://u:***@h");
        becomes("a://u:p:q@r@h/x@y", "a://u:***@h/x@y");
        becomes("a://u@corp:p@h?x#y", "a://u@corp:***@h?x#y");
        becomes(
            "run \"a://u:p@h\", then b+c://v:q@[::1]:80/ ok",
            "run \"a://u:***@h\", then b+c://v:***@[::1]:80/ ok",
        );
        becomes("postgres://u:p@h1,h2/d", "postgres://u:***@h1,h2/d");
        becomes("jdbc:postgresql://u:é@h", "jdbc:postgresql://u:***@h");
        becomes("a://b://u:p@h", "a://b://u:***@h");
        becomes("a://u:\0@h", "a://u:***@h");
        becomes(r#"{"a":"x:\/\/u:p@h\/d?token=t"}"#, r#"{"a":"x:\/\/u:***@h\/d?token=***"}"#);
    }

    #[test]
    fn secret_parameters_of_urls_are_replaced() {
        becomes("https://h/p?a=1&TOKEN=x%20y&b=2", "https://h/p?a=1&TOKEN=***&b=2");
        becomes(
            "https://h?api_key=k;apikey=l#access_token=m",
            "https://h?api_key=***;apikey=***#access_token=***",
        );
        becomes("jdbc:pg://h/d?user=u&password=p 'x'", "jdbc:pg://h/d?user=u&password=*** 'x'");
        becomes("{\\\"u\\\": \\\"https://h/?pwd=p\\\"}", "{\\\"u\\\": \\\"https://h/?pwd=***\\\"}");
        becomes("a://h/?u=b://v:q@h/?sslpassword=s", "a://h/?u=b://v:***@h/?sslpassword=***");
        becomes("a://h/?token=b://v:q@h", "a://h/?token=***");
    }

    #[test]
    fn passwords_of_connection_strings_are_replaced() {
        becomes("host=h password=p dbname=d", "host=h password=*** dbname=d");
        becomes("password = 'a \\'b' user=u", "password = '***' user=u");
        becomes("user=u sslpassword=s password=a\\ b", "user=u sslpassword=*** password=***");
        becomes("dsn=\"host=h password=p\" x", "dsn=\"host=h password=***\" x");
        becomes("dsn='host=h password=p' x", "dsn='host=h password=***' x");
        becomes("Host=h;Password=a b;Database=d", "Host=h;Password=*** b;Database=d");
        becomes("host=h password=\"a b\"", "host=h password=\"***\"");
        becomes("host=h password='open", "host=h password='***");
        becomes("/login?user=u&password=p&x=1", "/login?user=u&password=***&x=1");
    }

    #[test]
    fn texts_without_secrets_are_left_alone() {
        for text in [
            "",
            "12:30 @home",
            "mailto:a@b",
            "https://host/path@x:y",
            "https://user@host",
            "https://host:443/?q=a@b",
            "://u:p@h",
            "a://u:@h",
            "a://u:***@h",
            "a:// u:p@h",
            "password=p",
            "the password=secret of nobody",
            "host= password=***",
            "x=1 host=h",
            "host=h my_password=p",
            "host=h password=''",
            "\"host=h password=\" x",
            "https://h/?token=&a=token",
            "https://h/?my_token=x",
            "token=abc",
            "a://h:80 b@c",
            "http://[::1]:80/",
            "\u{fffd}\0:///",
        ] {
            assert_eq!(redact(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_hash_is_of_the_secrets_alone() {
        let hash = |text: &str| redactor().redact_text(text.as_bytes()).unwrap().secret_hash;
        assert_eq!(hash("a://u:p@h"), hash("see b://other:p@place for more"));
        assert_ne!(hash("a://u:p@h"), hash("a://u:q@h"));
        assert_ne!(hash("a://u:pq@h b://u:r@h"), hash("a://u:p@h b://u:qr@h"));
        let other = Redactor::new([2; 32]).redact_text(b"a://u:p@h").unwrap();
        assert_ne!(hash("a://u:p@h"), other.secret_hash);
        let member = redactor().redact_member(b"API_KEY", b"p").unwrap();
        assert_eq!(member.secret_hash, hash("a://u:p@h"));
    }

    #[test]
    fn configured_members_are_secret_as_a_whole() {
        let redactor = redactor();
        assert_eq!(redactor.redact_member(b"PASSWORD", b"x").unwrap().text, b"***");
        for (key, value) in [("password", ""), ("password", "***"), ("passwords", "x"), ("", "x")] {
            assert_eq!(redactor.redact_member(key.as_bytes(), value.as_bytes()), None);
        }
    }

    #[test]
    fn texts_are_not_searched_when_told_so() {
        assert_eq!(redactor().with_urls(false).redact_text(b"a://u:p@h"), None);
    }

    #[test]
    fn the_key_is_not_shown() {
        assert!(!format!("{:?}", Redactor::new([77; 32])).contains("77"));
    }

    #[test]
    fn long_hostile_texts_take_linear_time() {
        for piece in [
            "a://",
            "a://u:p@h",
            "://",
            "password='",
            "password=",
            "host=\"password=x\"",
            "a://?token=",
            "=",
            ":/",
        ] {
            redactor().redact_text(piece.repeat(200_000).as_bytes());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn no_password_of_a_url_survives(
            before in "([ \"'(,=]|text |[a-z]+=)?",
            scheme in "[a-z][a-z0-9+.-]{0,8}",
            user in "[^\\s/?#\"'`:@]{0,8}",
            password in "[^\\s/?#\"'`]{1,20}",
            host in "[a-z0-9.-]{1,9}(:[0-9]{1,5})?",
            after in "(/[a-z@:]*|[ \"'][^=]{0,12}|\\?[a-s]=1)?",
        ) {
            prop_assume!(password != "***");
            let text = format!("{before}{scheme}://{user}:{password}@{host}{after}");
            let expected = format!("{before}{scheme}://{user}:***@{host}{after}");
            prop_assert_eq!(redact(&text).map(|found| found.contains(&expected)), Some(true));
        }

        #[test]
        fn no_password_of_a_connection_string_survives(
            password in "[^\0]{1,20}",
            bare in "[^\\s\\\\'\";&\0]{1,20}",
            space in "[ \t]{0,2}",
        ) {
            prop_assume!(password != "***" && bare != "***");
            let quoted = password.replace('\\', "\\\\").replace('\'', "\\'");
            let text = format!("host=h password{space}={space}'{quoted}' sslpassword={bare} user=u");
            let expected = format!("host=h password{space}={space}'***' sslpassword=*** user=u");
            prop_assert_eq!(redact(&text), Some(expected));
        }

        #[test]
        fn redacting_twice_changes_nothing(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "a", "://", "u:", "p", "@", "h", "/", "?", "#", "&", ";", " ", "'", "\"", "\\",
                    "password=", "Password", "=", "token=", "host=", "user=", "***", "é", "\0", "`",
                    "x://u:p@h", "pwd", " password = '", "access_token=q",
                ]),
                0..24,
            ),
        ) {
            let text = pieces.concat();
            if let Some(once) = redact(&text) {
                prop_assert_ne!(&once, &text);
                prop_assert_eq!(redact(&once), None);
            }
        }

        #[test]
        fn any_bytes_are_safe(text in prop::collection::vec(any::<u8>(), 0..200)) {
            redactor().redact_text(&text);
        }

        #[test]
        fn texts_without_colon_slash_slash_and_equals_are_left_alone(text in "[^=/]*") {
            prop_assert_eq!(redact(&text), None);
        }
    }
}
