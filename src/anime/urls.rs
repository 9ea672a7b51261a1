//! Urls of platforms, and the ids they stand for.

use std::fmt::Write as _;

/// Platforms, best first: of several references of one thing the first of these is its own.
pub const PRIORITY: &[&str] = &[
    "mal",
    "anilist",
    "anidb",
    "kitsu",
    "anime-planet",
    "anisearch",
    "ann",
    "livechart",
    "notify.moe",
    "simkl",
    "animeschedule",
    "animecountdown",
    "url",
];

/// What a url leads to, as far as it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Medium {
    /// An anime.
    Anime,
    /// A manga; platforms file novels there too.
    Manga,
    /// The url does not say.
    Unsaid,
}

/// One thing on one platform.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    /// One of [`PRIORITY`].
    pub source: &'static str,
    /// The platform's id, or the canonical url where no platform is known.
    pub external_id: String,
    /// What it is.
    pub medium: Medium,
}

impl Reference {
    /// Its place in [`PRIORITY`].
    #[must_use]
    pub fn rank(&self) -> usize {
        PRIORITY.iter().position(|name| *name == self.source).unwrap_or(PRIORITY.len())
    }
}

struct Parts<'a> {
    scheme: String,
    host: String,
    path: &'a str,
    query: &'a str,
}

fn parts(url: &str) -> Parts<'_> {
    let url = url.trim();
    let url = url.split('#').next().unwrap_or(url);
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (host, path) = place.split_once('/').unwrap_or((place, ""));
    let host = host.to_ascii_lowercase();
    let host = host.strip_prefix("www.").map(str::to_owned).unwrap_or(host);
    Parts { scheme: scheme.to_ascii_lowercase(), host, path: path.trim_end_matches('/'), query }
}

/// The url in its one spelling: https, no `www.`, host in lower case, no trailing slash, no
/// fragment. The query stays: it may be what names the thing.
#[must_use]
pub fn canonical(url: &str) -> String {
    let Parts { scheme, host, path, query } = parts(url);
    let scheme = if scheme == "http" { "https" } else { scheme.as_str() };
    let mut text = format!("{scheme}://{host}");
    if !path.is_empty() {
        let _ = write!(text, "/{path}");
    }
    if !query.is_empty() {
        let _ = write!(text, "?{query}");
    }
    text
}

/// What a url stands for. Source `url` with the canonical url where no platform is known.
#[must_use]
pub fn parse(url: &str) -> Reference {
    let split = parts(url);
    let known = platform(&split).filter(|(_, id, _)| !id.is_empty() && id.len() <= 200);
    match known {
        Some((source, id, medium)) => Reference { source, external_id: id, medium },
        None => {
            Reference { source: "url", external_id: key_of(canonical(url)), medium: Medium::Unsaid }
        }
    }
}

/// A reference is part of a key, and a B-tree takes no more than about 2.7 KB.
fn key_of(canonical: String) -> String {
    const BYTES_MAX: usize = 2000;
    if canonical.len() <= BYTES_MAX {
        return canonical;
    }
    format!("sha256:{}", hex::encode(crate::canonical::sha256(canonical.as_bytes())))
}

fn platform(url: &Parts<'_>) -> Option<(&'static str, String, Medium)> {
    let mut steps = url.path.split('/');
    let (first, second) = (steps.next().unwrap_or_default(), steps.next().unwrap_or_default());
    let medium = match first {
        "anime" => Medium::Anime,
        "manga" => Medium::Manga,
        _ => Medium::Unsaid,
    };
    let is_titled = medium != Medium::Unsaid;
    let number = |text: &str| -> String { text.chars().take_while(char::is_ascii_digit).collect() };
    let numbered = |source| is_titled.then(|| (source, number(second), medium));
    let named = |source| is_titled.then(|| (source, second.to_owned(), medium));
    match url.host.as_str() {
        "myanimelist.net" => numbered("mal"),
        "anilist.co" => numbered("anilist"),
        "anidb.net" => anidb(url, first, second),
        "kitsu.app" | "kitsu.io" if first == "api" => {
            let mut rest = url.path.split('/').skip(2);
            let medium = match rest.next()? {
                "anime" => Medium::Anime,
                "manga" => Medium::Manga,
                _ => return None,
            };
            Some(("kitsu", number(rest.next()?), medium))
        }
        // Kitsu knows anime by number and by name.
        "kitsu.app" | "kitsu.io" => named("kitsu"),
        "anime-planet.com" => named("anime-planet"),
        "animenewsnetwork.com" => {
            let medium = match url.path {
                "encyclopedia/anime.php" => Medium::Anime,
                "encyclopedia/manga.php" => Medium::Manga,
                _ => return None,
            };
            Some(("ann", number(parameter(url.query, "id")?), medium))
        }
        "livechart.me" if medium == Medium::Anime => numbered("livechart"),
        "notify.moe" if medium == Medium::Anime => named("notify.moe"),
        "simkl.com" if medium == Medium::Anime => numbered("simkl"),
        "animeschedule.net" if medium == Medium::Anime => named("animeschedule"),
        "animecountdown.com" => Some(("animecountdown", number(first), Medium::Anime)),
        host if host.starts_with("anisearch.") => {
            // The slug after the comma changes with the title.
            is_titled.then(|| ("anisearch", number(second), medium))
        }
        _ => None,
    }
}

fn anidb(url: &Parts<'_>, first: &str, second: &str) -> Option<(&'static str, String, Medium)> {
    let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let id = match first {
        "anime" => second.to_owned(),
        "perl-bin" if parameter(url.query, "show") == Some("anime") => {
            parameter(url.query, "aid")?.to_owned()
        }
        short => short.strip_prefix('a')?.to_owned(),
    };
    all_digits(&id).then_some(("anidb", id, Medium::Anime))
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))
        .map(|(_, value)| value)
}

/// The best of several urls: the first of the highest platform.
#[must_use]
pub fn primary<'a>(urls: impl IntoIterator<Item = &'a str>) -> Option<Reference> {
    urls.into_iter().map(parse).min_by_key(Reference::rank)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_all_platforms_are_read_and_nothing_of_their_spelling_matters() {
        let cases = [
            ("https://myanimelist.net/anime/37869", "mal", "37869", Medium::Anime),
            (
                "http://www.MyAnimeList.net/anime/37869/BanG_Dream/?q=1#x",
                "mal",
                "37869",
                Medium::Anime,
            ),
            ("https://myanimelist.net/manga/11776/Bungaku", "mal", "11776", Medium::Manga),
            ("https://anilist.co/anime/142051/", "anilist", "142051", Medium::Anime),
            ("https://anilist.co/manga/1/x", "anilist", "1", Medium::Manga),
            ("https://anidb.net/anime/10143", "anidb", "10143", Medium::Anime),
            ("https://anidb.net/a10143", "anidb", "10143", Medium::Anime),
            (
                "https://anidb.net/perl-bin/animedb.pl?show=anime&aid=10143",
                "anidb",
                "10143",
                Medium::Anime,
            ),
            ("https://kitsu.app/anime/47450", "kitsu", "47450", Medium::Anime),
            ("https://kitsu.io/api/edge/anime/47450", "kitsu", "47450", Medium::Anime),
            ("https://kitsu.io/manga/9", "kitsu", "9", Medium::Manga),
            ("https://www.anime-planet.com/anime/eiji", "anime-planet", "eiji", Medium::Anime),
            ("https://anisearch.com/anime/91400,the-share", "anisearch", "91400", Medium::Anime),
            ("https://www.anisearch.de/manga/91400,the-share", "anisearch", "91400", Medium::Manga),
            (
                "https://animenewsnetwork.com/encyclopedia/anime.php?id=77",
                "ann",
                "77",
                Medium::Anime,
            ),
            (
                "https://animenewsnetwork.com/encyclopedia/manga.php?id=77",
                "ann",
                "77",
                Medium::Manga,
            ),
            ("https://livechart.me/anime/3", "livechart", "3", Medium::Anime),
            ("https://notify.moe/anime/Gsn2Ofmig", "notify.moe", "Gsn2Ofmig", Medium::Anime),
            ("https://simkl.com/anime/41243", "simkl", "41243", Medium::Anime),
            (
                "https://animeschedule.net/anime/nvade-show",
                "animeschedule",
                "nvade-show",
                Medium::Anime,
            ),
            ("https://animecountdown.com/48858", "animecountdown", "48858", Medium::Anime),
        ];
        for (url, source, id, medium) in cases {
            let read = parse(url);
            assert_eq!(
                (read.source, read.external_id.as_str(), read.medium),
                (source, id, medium),
                "{url}"
            );
        }
    }

    #[test]
    fn what_no_platform_knows_stands_for_itself_in_one_spelling() {
        for url in ["http://WWW.Example.org/Some/Path/", "https://example.org/Some/Path#part"] {
            let read = parse(url);
            assert_eq!(read.source, "url");
            assert_eq!(read.external_id, "https://example.org/Some/Path");
        }
        // A platform's page that names no anime.
        assert_eq!(parse("https://myanimelist.net/people/3").source, "url");
        assert_eq!(parse("https://myanimelist.net/anime/").source, "url");
        assert_eq!(parse("").source, "url");
    }

    #[test]
    fn the_best_platform_is_the_primary_reference() {
        let urls =
            ["https://example.org/x", "https://kitsu.app/anime/1", "https://anilist.co/anime/2"];
        assert_eq!(primary(urls).unwrap().source, "anilist");
        assert_eq!(primary([]), None);
    }
}
