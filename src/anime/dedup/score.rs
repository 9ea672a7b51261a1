//! How likely two characters are one, with the reasons.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::anime::dedup::names::{is_latin, likeness, reduced};

/// What speaks for a merge, or against it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// In words.
    pub what: String,
    /// Added to the score.
    pub weight: f64,
}

/// A score from 0 to 1 and what it is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// From 0 to 1.
    pub score: f64,
    /// Strongest first.
    pub reasons: Vec<Reason>,
}

/// What is compared of a character.
#[derive(Debug, Clone, Default)]
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) native: Option<String>,
    pub(super) aliases: Vec<String>,
    pub(super) gender: Option<String>,
    pub(super) age: Option<String>,
    /// Anime it appears in, with its role.
    pub(super) roles: BTreeMap<String, Option<String>>,
    /// Anime that those are related to.
    pub(super) related: BTreeSet<String>,
    /// Its page on each platform.
    pub(super) pages: BTreeMap<String, String>,
}

/// Scores two characters.
pub(super) fn score(one: &Subject, other: &Subject, nearness: Option<f64>) -> Scored {
    let mut reasons = Vec::new();
    let mut add = |what: String, weight: f64| reasons.push(Reason { what, weight });
    names(one, other, &mut add);
    native(one, other, &mut add);
    places(one, other, &mut add);
    traits(one, other, &mut add);
    if let Some(nearness) = nearness {
        add(format!("their vectors are {nearness:.2} alike"), 0.2 * nearness);
    }
    let score = reasons.iter().map(|reason| reason.weight).sum::<f64>().clamp(0.0, 1.0);
    reasons.sort_by(|a, b| b.weight.abs().total_cmp(&a.weight.abs()));
    Scored { score, reasons }
}

fn names(one: &Subject, other: &Subject, add: &mut impl FnMut(String, f64)) {
    let (a, b) = (reduced(&one.name), reduced(&other.name));
    let spellings = |subject: &Subject| -> BTreeSet<String> {
        subject.aliases.iter().map(|alias| reduced(alias)).filter(|name| name.len() > 1).collect()
    };
    let (of_one, of_other) = (spellings(one), spellings(other));
    if one.name == other.name {
        add(format!("the same name: {}", one.name), 0.4);
    } else if a == b {
        add(format!("the same name in other spellings: {} / {}", one.name, other.name), 0.38);
    } else if of_one.contains(&b) || of_other.contains(&a) {
        add(
            format!("the name of one is an alias of the other: {} / {}", one.name, other.name),
            0.3,
        );
    } else if is_latin(&one.name) != is_latin(&other.name) {
        add("their names are in different scripts".to_owned(), 0.0);
    } else {
        let alike = likeness(&a, &b);
        let weight = if alike >= 0.7 { 0.3 * alike } else { -0.2 };
        let (one, other) = (&one.name, &other.name);
        add(format!("their names are {alike:.2} alike: {one} / {other}"), weight);
    }
    if let Some(shared) = of_one.intersection(&of_other).next() {
        add(format!("a common alias: {shared}"), 0.1);
    }
}

fn native(one: &Subject, other: &Subject, add: &mut impl FnMut(String, f64)) {
    let native = |subject: &Subject| subject.native.as_deref().map(reduced);
    let (Some(a), Some(b)) = (native(one), native(other)) else { return };
    if a.is_empty() || b.is_empty() {
        return;
    }
    if a == b {
        add(format!("the same native name: {}", one.native.clone().unwrap_or_default()), 0.35);
    } else if likeness(&a, &b) < 0.5 {
        let shown = |subject: &Subject| subject.native.clone().unwrap_or_default();
        add(format!("different native names: {} / {}", shown(one), shown(other)), -0.4);
    }
}

fn places(one: &Subject, other: &Subject, add: &mut impl FnMut(String, f64)) {
    let shared: Vec<&String> =
        one.roles.keys().filter(|anime| other.roles.contains_key(*anime)).collect();
    let is_related = || {
        one.roles.keys().any(|anime| other.related.contains(anime))
            || other.roles.keys().any(|anime| one.related.contains(anime))
    };
    if !shared.is_empty() {
        add(format!("{} anime in common", shared.len()), 0.15);
        let role =
            |subject: &Subject| shared.iter().find_map(|anime| subject.roles[*anime].clone());
        match (role(one), role(other)) {
            (Some(a), Some(b)) if a == b => add(format!("the same role there: {a}"), 0.05),
            (Some(a), Some(b)) => add(format!("other roles there: {a} / {b}"), -0.05),
            _ => {}
        }
    } else if is_related() {
        add("they appear in related anime".to_owned(), 0.15);
    }
    let mut platforms = one.pages.iter().filter_map(|(platform, page)| {
        other.pages.get(platform).map(|theirs| (platform, page == theirs))
    });
    let (mut same, mut differ) = (None, None);
    for (platform, is_same) in &mut platforms {
        if is_same {
            same.get_or_insert(platform);
        } else {
            differ.get_or_insert(platform);
        }
    }
    if let Some(platform) = same {
        add(format!("one page on {platform}"), 0.5);
    } else if let Some(platform) = differ {
        add(format!("two pages on {platform}"), -0.3);
    }
}

fn traits(one: &Subject, other: &Subject, add: &mut impl FnMut(String, f64)) {
    let pairs = [("gender", &one.gender, &other.gender, -0.4), ("age", &one.age, &other.age, -0.1)];
    for (what, a, b, weight) in pairs {
        if let (Some(a), Some(b)) = (a, b) {
            if a.eq_ignore_ascii_case(b) {
                add(format!("the same {what}: {a}"), 0.03);
            } else {
                add(format!("another {what}: {a} / {b}"), weight);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(name: &str, native: &str, anime: &str) -> Subject {
        Subject {
            name: name.to_owned(),
            native: (!native.is_empty()).then(|| native.to_owned()),
            roles: [(anime.to_owned(), Some("Main".to_owned()))].into(),
            ..Subject::default()
        }
    }

    #[test]
    fn what_agrees_speaks_for_one_and_what_contradicts_against() {
        let yuko = subject("Yūko Satou", "佐藤優子", "a");
        let other = subject("Sato Yuko", "佐藤 優子", "a");
        let same = score(&yuko, &other, None);
        assert!(same.score > 0.85, "{same:?}");
        let mut he = other.clone();
        he.gender = Some("Male".to_owned());
        let mut she = yuko.clone();
        she.gender = Some("Female".to_owned());
        assert!(score(&she, &he, None).score < same.score - 0.3);
        // A common name in another anime, with another native name, is another person.
        let stranger = subject("Yuko Sato", "左藤夕子", "b");
        assert!(score(&yuko, &stranger, None).score < 0.5);
        let one = Subject { pages: [("mal".into(), "1".into())].into(), ..yuko.clone() };
        let two = Subject { pages: [("mal".into(), "2".into())].into(), ..other };
        assert!(score(&one, &two, None).score < same.score);
    }

    #[test]
    fn scripts_that_cannot_be_compared_say_nothing() {
        let latin = subject("Aoi", "", "a");
        let native = subject("葵", "", "a");
        let scored = score(&latin, &native, None);
        assert!(scored.reasons.iter().any(|reason| reason.what.contains("scripts")));
        assert!(scored.score < 0.5);
    }
}
