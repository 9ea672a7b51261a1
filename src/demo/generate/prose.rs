//! Words: papers, questions and paragraphs, with the scripts and punctuation real ones have.

use super::dice::Dice;
use std::fmt::Write as _;

const TOPICS: [&str; 12] = [
    "Calorie Labels and Demand",
    "Förderung und Löhne",
    "L’épargne des ménages",
    "“Sticky” Prices Revisited",
    "学校教育と賃金",
    "Налоги и занятость",
    "Grocery Access & Nutrition",
    "Naïve Savers, Sophisticated Banks",
    "الهجرة والأجور",
    "Incidence of Tariffs — a Survey",
    "Search Frictions in Søgning",
    "O’Brien’s Paradox",
];
const PLACES: [&str; 10] = [
    "Norway",
    "São Paulo",
    "Zürich",
    "Kraków",
    "日本",
    "Québec",
    "Türkiye",
    "Ghana",
    "New South Wales",
    "Åland",
];
const AUTHORS: [&str; 10] = [
    "Aino Mäkelä",
    "José Núñez",
    "王小明",
    "Siobhán O’Neill",
    "Łukasz Wójcik",
    "Ngô Thị Lan",
    "Emma Clarke",
    "Юлия Орлова",
    "Ada Example",
    "Göran Åkesson",
];
const SUBJECTS: [&str; 8] = [
    "The estimated elasticity",
    "Household spending",
    "The treatment effect on wages",
    "Attrition between waves",
    "The placebo coefficient",
    "Firm entry",
    "The reduced form",
    "Average take-up",
];
const VERBS: [&str; 8] = [
    "falls by",
    "rises by about",
    "is bounded below by",
    "differs from the baseline by",
    "is stable within ±",
    "converges after",
    "exceeds the survey’s figure by",
    "halves when weighted by",
];
const OBJECTS: [&str; 8] = [
    "percent in the bottom quintile",
    "log points once county fixed effects enter",
    "standard deviations (clustered by market)",
    "units relative to never-takers",
    "per 1,000 residents",
    "percentage points in the event window",
    "weeks after the reform’s announcement",
    "basis points, α = 0.05",
];
const ASPECTS: [&str; 8] = [
    "main outcome",
    "identifying assumption",
    "unit of observation",
    "sample restriction",
    "source of variation",
    "robustness check",
    "external validity claim",
    "welfare implication",
];
const CATEGORIES: [&str; 11] = [
    "Question and contribution",
    "Setting",
    "Data and measurement",
    "Identification",
    "Specification",
    "Main results",
    "Heterogeneity",
    "Mechanisms",
    "Robustness",
    "Limits",
    "Policy",
];

/// Questions per category; with eleven categories a whole set has 88.
const PER_CATEGORY: usize = 8;
/// Questions of a whole set, `A01` to `K08`.
pub(super) const QUESTIONS_MAX: usize = CATEGORIES.len() * PER_CATEGORY;

/// Every script and invisible character that loaders were seen to damage: astral, combining,
/// right to left with marks, zero width, a no-break space, both normal forms of one letter.
pub(super) const HARD_UNICODE: &str = "𝔘𝔫𝔦 😀👩\u{200d}🔬 e\u{301}é שָׁלוֹם \u{202b}مرحبا\u{202c} zero\u{200b}width\u{feff} nbsp\u{a0}end \u{10ffff}";

/// A paper: what a manifest says of it is a function of the paper, so that one digest never
/// stands for two files.
#[derive(Debug, Clone)]
pub(super) struct Paper {
    pub(super) path: String,
    pub(super) size_bytes: i64,
    pub(super) mtime: f64,
    pub(super) pages: i64,
    pub(super) sha256: String,
}

/// Paper `ordinal`; titles differ by their ordinal.
pub(super) fn paper(dice: &mut Dice, ordinal: usize) -> Paper {
    let title = title(dice, ordinal);
    let folder = dice.pick(&[
        "papers/",
        "papers\\",
        "\\papers\\",
        "/srv/app/papers/",
        "\\\\ARCHIVE\\Share\\papers\\",
    ]);
    Paper {
        path: format!("{folder}{title}.pdf"),
        size_bytes: dice.between(40_000, 9_000_000),
        mtime: 1_700_000_000.0 + dice.unit() * 50_000_000.0,
        pages: dice.between(4, 90),
        sha256: dice.digest_hex(),
    }
}

pub(super) fn title(dice: &mut Dice, ordinal: usize) -> String {
    let (topic, place, author) = (dice.pick(&TOPICS), dice.pick(&PLACES), dice.pick(&AUTHORS));
    format!("{topic} in {place} {ordinal} - {author} ({})", dice.between(1988, 2025))
}

pub(super) fn author(dice: &mut Dice) -> &'static str {
    dice.pick(&AUTHORS)
}

/// Identifier of question `ordinal` of a set: `A01`, `A02`, ... `B01`, ...
pub(super) fn question_id(ordinal: usize) -> String {
    let letter = char::from(b"ABCDEFGHIJK"[ordinal / PER_CATEGORY % CATEGORIES.len()]);
    format!("{letter}{:02}", ordinal % PER_CATEGORY + 1)
}

/// Category of question `ordinal`, with its letter.
pub(super) fn category(ordinal: usize) -> String {
    let position = ordinal / PER_CATEGORY % CATEGORIES.len();
    format!("{}) {}", char::from(b"ABCDEFGHIJK"[position]), CATEGORIES[position])
}

/// Text of question `ordinal` about its category's matter.
pub(super) fn question(ordinal: usize) -> String {
    let matter = CATEGORIES[ordinal / PER_CATEGORY % CATEGORIES.len()].to_lowercase();
    format!("What is the {} as regards {matter}?", ASPECTS[ordinal % ASPECTS.len()])
}

pub(super) fn sentence(dice: &mut Dice) -> String {
    let mut text = String::with_capacity(128);
    push_sentence(dice, &mut text);
    text
}

/// Sentences up to at least `bytes` bytes.
pub(super) fn paragraph(dice: &mut Dice, bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 128);
    loop {
        push_sentence(dice, &mut text);
        if text.len() >= bytes {
            return text;
        }
        text.push_str(if dice.chance(12) { "\n- " } else { " " });
    }
}

fn push_sentence(dice: &mut Dice, text: &mut String) {
    let draw = dice.below(1 << 30);
    let word = |words: &[&'static str; 8], shift: u32| {
        words[usize::try_from(draw >> shift & 7).unwrap_or(0)]
    };
    let (whole, hundredths) = (draw >> 9 & 63, draw >> 15 & 63);
    let _ = write!(
        text,
        "{} {} {whole}.{hundredths:02} {}.",
        word(&SUBJECTS, 0),
        word(&VERBS, 3),
        word(&OBJECTS, 6)
    );
}
