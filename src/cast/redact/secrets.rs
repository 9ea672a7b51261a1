//! Where the secrets of a text are.

use std::ops::Range;

use memchr::{memchr, memchr_iter, memrchr};

use super::MASK;

const SECRET_PARAMETERS: &[&[u8]] = &[
    b"password",
    b"passwd",
    b"pwd",
    b"sslpassword",
    b"api_key",
    b"apikey",
    b"access_token",
    b"token",
];

const SECRET_KEYWORDS: &[&[u8]] = &[b"password", b"passwd", b"pwd", b"sslpassword"];

/// What a text must also have for `password=` to be part of a connection string.
const COMPANION_KEYWORDS: &[&[u8]] = &[b"host", b"dbname", b"user"];

/// Byte ranges of the secrets in `text`, in order, none touching another.
pub(super) fn spans(text: &[u8]) -> Vec<Range<usize>> {
    let mut secrets = Vec::new();
    let urls = search_urls(text, &mut secrets);
    search_connection_strings(text, &urls, &mut secrets);
    secrets.sort_unstable_by_key(|span| span.start);
    secrets.dedup_by(|later, earlier| {
        let touches = later.start <= earlier.end;
        if touches {
            earlier.end = earlier.end.max(later.end);
        }
        touches
    });
    secrets
}

fn is_secret(value: &[u8]) -> bool {
    !value.is_empty() && value != MASK
}

fn is_one_of(name: &[u8], names: &[&[u8]]) -> bool {
    names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// A URL in running text ends here at the latest.
fn ends_url(byte: u8) -> bool {
    is_space(byte) || matches!(byte, b'"' | b'\'' | b'`')
}

fn find_from(text: &[u8], start: usize, matches: impl Fn(u8) -> bool) -> usize {
    let tail = text.get(start..).unwrap_or_default();
    start + tail.iter().position(|&byte| matches(byte)).unwrap_or(tail.len())
}

/// Adds passwords and secret parameters of URLs; returns what each outermost URL covers.
fn search_urls(text: &[u8], secrets: &mut Vec<Range<usize>>) -> Vec<Range<usize>> {
    let mut urls: Vec<Range<usize>> = Vec::new();
    for colon in memchr_iter(b':', text) {
        let scheme_ends = colon.checked_sub(1).is_some_and(|last| {
            text[last].is_ascii_alphanumeric() || matches!(text[last], b'+' | b'-' | b'.')
        });
        let start = match &text[colon + 1..] {
            [b'/', b'/', ..] => colon + 3,
            // Slashes as some JSON writers escape them, in a document kept as a string.
            [b'\\', b'/', b'\\', b'/', ..] => colon + 5,
            _ => continue,
        };
        if !scheme_ends {
            continue;
        }
        let authority_end =
            find_from(text, start, |byte| ends_url(byte) || matches!(byte, b'/' | b'?' | b'#'));
        let authority = &text[start..authority_end];
        if let Some(at) = memrchr(b'@', authority)
            && let Some(separator) = memchr(b':', &authority[..at])
            && is_secret(&authority[separator + 1..at])
        {
            secrets.push(start + separator + 1..start + at);
        }
        // A URL inside a URL shares its end and its parameters, which are searched once.
        if urls.last().is_none_or(|outer| outer.end <= start) {
            let mut end = find_from(text, authority_end, ends_url);
            if end < text.len() && !is_space(text[end]) {
                // The backslashes belong to an escaped quote, as in JSON inside a string.
                while end > authority_end && text[end - 1] == b'\\' {
                    end -= 1;
                }
            }
            search_parameters(text, authority_end..end, secrets);
            urls.push(start..end);
        }
    }
    urls
}

fn search_parameters(text: &[u8], range: Range<usize>, secrets: &mut Vec<Range<usize>>) {
    let separates = |byte| matches!(byte, b'?' | b'#' | b'&' | b';');
    let mut start = find_from(&text[..range.end], range.start, |byte| matches!(byte, b'?' | b'#'));
    while start < range.end {
        start += 1;
        let end = find_from(&text[..range.end], start, separates);
        if let Some(equals) = memchr(b'=', &text[start..end]) {
            let value = start + equals + 1..end;
            let named = is_one_of(&text[start..start + equals], SECRET_PARAMETERS);
            if named && is_secret(&text[value.clone()]) {
                secrets.push(value);
            }
        }
        start = end;
    }
}

/// Adds passwords of `keyword = value` strings outside of `urls`, if a companion keyword makes the
/// text a connection string.
fn search_connection_strings(text: &[u8], urls: &[Range<usize>], secrets: &mut Vec<Range<usize>>) {
    let mut candidates = Vec::new();
    let mut has_companion = false;
    let mut quotes = Quotes::default();
    let mut counted = 0;
    let mut value_end = 0;
    let mut urls = urls.iter().peekable();
    for equals in memchr_iter(b'=', text) {
        if equals < value_end {
            continue;
        }
        let keyword = keyword_before(&text[..equals]);
        let name = &text[keyword.clone()];
        has_companion |= is_one_of(name, COMPANION_KEYWORDS);
        if !is_one_of(name, SECRET_KEYWORDS) {
            continue;
        }
        while urls.next_if(|url| url.end <= equals).is_some() {}
        if urls.peek().is_some_and(|url| url.contains(&equals)) {
            continue;
        }
        quotes.count(&text[counted..equals]);
        let before = text[..keyword.start].iter().rev().find(|byte| !is_space(**byte)).copied();
        let value = value_after(text, equals + 1, quotes, before);
        // Quotes inside a secret say nothing about the text around it.
        counted = value.end;
        value_end = value.end;
        if is_secret(&text[value.clone()]) {
            candidates.push(value);
        }
    }
    if has_companion {
        secrets.append(&mut candidates);
    }
}

/// The word that ends `text`, white space behind it left out; empty when it is part of a longer
/// name.
fn keyword_before(text: &[u8]) -> Range<usize> {
    const LENGTH_MAX: usize = 16;
    let trailing = text.iter().rev().take_while(|byte| is_space(**byte)).take(LENGTH_MAX).count();
    let end = text.len() - trailing;
    let length = text[..end]
        .iter()
        .rev()
        .take(LENGTH_MAX)
        .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
        .count();
    end - length..end
}

/// Whether an odd number of each quote came before.
#[derive(Clone, Copy, Default)]
struct Quotes {
    single: bool,
    double: bool,
}

impl Quotes {
    fn count(&mut self, text: &[u8]) {
        for &byte in text {
            self.single ^= byte == b'\'';
            self.double ^= byte == b'"';
        }
    }

    fn inside(self, byte: u8) -> bool {
        (self.single && byte == b'\'') || (self.double && byte == b'"')
    }
}

/// The value behind an equals sign, without its quotes. `before` is what stands before the
/// keyword: it tells strings separated by `;` and queries separated by `&` from libpq's.
fn value_after(text: &[u8], start: usize, quotes: Quotes, before: Option<u8>) -> Range<usize> {
    let start = find_from(text, start, |byte| !matches!(byte, b' ' | b'\t'));
    let quote = text.get(start).copied().filter(|byte| matches!(byte, b'\'' | b'"'));
    let quote = quote.filter(|&quote| !quotes.inside(quote));
    let start = start + usize::from(quote.is_some());
    let ends = |byte: u8| match quote {
        Some(quote) => byte == quote,
        None => {
            is_space(byte)
                || quotes.inside(byte)
                || (byte == b';' && before == Some(b';'))
                || (byte == b'&' && matches!(before, Some(b'&' | b'?')))
        }
    };
    let mut end = start;
    while end < text.len() && !ends(text[end]) {
        end += if text[end] == b'\\' { 2 } else { 1 };
    }
    start..end.min(text.len())
}
