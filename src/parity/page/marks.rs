//! Two values side by side: the characters in which they differ marked, and characters that
//! nobody would see made visible.

use crate::parity::difference::{CUT, SHOWN_MAX};

/// Most cells of the table by which common characters are found; beyond it everything between
/// common beginning and end is marked.
const CELLS_MAX: usize = 250_000;

/// Marked characters named by code point at most.
const NAMED_MAX: usize = 8;

/// Equal letters at two cut ends that mean something.
const CHANCE_MAX: usize = 8;

/// A stretch of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// In both values.
    Same(Vec<char>),
    /// In this one only; empty: the other one has something here.
    Only(Vec<char>),
}

/// Both values as HTML, the differing characters in `<mark>`, and, where the difference could not
/// be seen, the code points of the differing characters.
#[derive(Debug, Default)]
pub(super) struct Pair {
    pub(super) source: String,
    pub(super) target: String,
    pub(super) codes: Option<(String, String)>,
}

/// Marks two values; None is NULL.
pub(super) fn pair(source: Option<&str>, target: Option<&str>) -> Pair {
    let (Some(left), Some(right)) = (source, target) else {
        return Pair { source: whole(source), target: whole(target), codes: None };
    };
    let (left, right) = (Shown::of(left), Shown::of(right));
    // "..." of both is a cut only where both have it: windows begin at the same character.
    let starts_cut = left.starts_cut && right.starts_cut;
    let (left_letters, right_letters) = (left.letters(starts_cut), right.letters(starts_cut));
    let both_cut = left.ends_cut && right.ends_cut;
    let (mut left_pieces, mut right_pieces) = differing(&left_letters, &right_letters, both_cut);
    if both_cut {
        // What is left over at the end is only what the other window has no room for.
        unmark_end(&mut left_pieces, &mut right_pieces);
    }
    let codes = codes(&left_pieces, &right_pieces);
    Pair {
        source: html(&left_pieces, starts_cut, left.ends_cut),
        target: html(&right_pieces, starts_cut, right.ends_cut),
        codes,
    }
}

/// One value without another to compare it with.
fn whole(value: Option<&str>) -> String {
    match value {
        None => "<span class=\"none\">NULL, no value</span>".to_owned(),
        Some(text) => {
            let shown = Shown::of(text);
            let letters = shown.letters(false);
            html(&[Piece::Same(letters)], false, shown.ends_cut)
        }
    }
}

struct Shown<'t> {
    text: &'t str,
    starts_cut: bool,
    ends_cut: bool,
}

impl<'t> Shown<'t> {
    fn of(text: &'t str) -> Self {
        Self {
            text,
            starts_cut: text.starts_with(CUT),
            ends_cut: text.ends_with(CUT) && text.chars().count() > SHOWN_MAX,
        }
    }

    fn letters(&self, starts_cut: bool) -> Vec<char> {
        let text = if starts_cut { &self.text[CUT.len()..] } else { self.text };
        let text = if self.ends_cut { text.strip_suffix(CUT).unwrap_or(text) } else { text };
        text.chars().collect()
    }
}

/// Splits both values into common and differing stretches. Where both were cut, their ends are not
/// those of the values, and a few equal letters there are chance.
fn differing(left: &[char], right: &[char], are_cut: bool) -> (Vec<Piece>, Vec<Piece>) {
    let head = left.iter().zip(right).take_while(|(a, b)| a == b).count();
    let (left_rest, right_rest) = (&left[head..], &right[head..]);
    let from_end = left_rest.iter().rev().zip(right_rest.iter().rev());
    let tail = from_end.take_while(|(a, b)| a == b).count();
    let tail = if are_cut && tail < CHANCE_MAX { 0 } else { tail };
    let left_middle = &left_rest[..left_rest.len() - tail];
    let right_middle = &right_rest[..right_rest.len() - tail];
    let mut pieces = (Vec::new(), Vec::new());
    push_same(&mut pieces, &left[..head]);
    middle(&mut pieces, left_middle, right_middle);
    push_same(&mut pieces, &left[left.len() - tail..]);
    pieces
}

fn push_same(pieces: &mut (Vec<Piece>, Vec<Piece>), letters: &[char]) {
    if !letters.is_empty() {
        pieces.0.push(Piece::Same(letters.to_vec()));
        pieces.1.push(Piece::Same(letters.to_vec()));
    }
}

fn push_only(pieces: &mut (Vec<Piece>, Vec<Piece>), left: &[char], right: &[char]) {
    if !left.is_empty() || !right.is_empty() {
        pieces.0.push(Piece::Only(left.to_vec()));
        pieces.1.push(Piece::Only(right.to_vec()));
    }
}

/// Marks what differs between common beginning and end. Two texts that have little in common are
/// marked as a whole: scattered equal letters say nothing.
fn middle(pieces: &mut (Vec<Piece>, Vec<Piece>), left: &[char], right: &[char]) {
    let common =
        if left.len() * right.len() > CELLS_MAX { Vec::new() } else { longest_common(left, right) };
    if common.len() * 2 < left.len().max(right.len()) {
        push_only(pieces, left, right);
        return;
    }
    let (mut l, mut r, mut at) = (0, 0, 0);
    while at < common.len() {
        let (i, j) = common[at];
        push_only(pieces, &left[l..i], &right[r..j]);
        let run = common[at..]
            .iter()
            .enumerate()
            .take_while(|(n, next)| **next == (i + n, j + n))
            .count();
        push_same(pieces, &left[i..i + run]);
        (l, r, at) = (i + run, j + run, at + run);
    }
    push_only(pieces, &left[l..], &right[r..]);
}

/// Positions of a longest common subsequence (dynamic programming from the end).
fn longest_common(left: &[char], right: &[char]) -> Vec<(usize, usize)> {
    let width = right.len() + 1;
    let mut length = vec![0_u32; (left.len() + 1) * width];
    for i in (0..left.len()).rev() {
        for j in (0..right.len()).rev() {
            length[i * width + j] = if left[i] == right[j] {
                length[(i + 1) * width + j + 1] + 1
            } else {
                length[(i + 1) * width + j].max(length[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j, mut found) = (0, 0, Vec::new());
    while i < left.len() && j < right.len() {
        if left[i] == right[j] {
            found.push((i, j));
            (i, j) = (i + 1, j + 1);
        } else if length[(i + 1) * width + j] >= length[i * width + j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    found
}

fn unmark_end(left: &mut [Piece], right: &mut [Piece]) {
    let is_first = left.len() <= 2;
    if let (Some(Piece::Only(l)), Some(Piece::Only(r))) = (left.last(), right.last())
        && !is_first
        && (l.is_empty() || r.is_empty())
    {
        for pieces in [left, right] {
            if let Some(last) = pieces.last_mut()
                && let Piece::Only(letters) = last
            {
                *last = Piece::Same(std::mem::take(letters));
            }
        }
    }
}

/// Code points of what differs, where looking at it may not tell: few characters, not all ASCII.
fn codes(left: &[Piece], right: &[Piece]) -> Option<(String, String)> {
    let only = |pieces: &[Piece]| -> Vec<char> {
        pieces
            .iter()
            .flat_map(|piece| match piece {
                Piece::Only(letters) => letters.clone(),
                Piece::Same(_) => Vec::new(),
            })
            .collect()
    };
    let (left, right) = (only(left), only(right));
    let is_plain = |letter: &char| letter.is_ascii_graphic();
    let few = left.len() <= NAMED_MAX && right.len() <= NAMED_MAX;
    if !few || left.iter().chain(&right).all(is_plain) {
        return None;
    }
    let names = |letters: &[char]| {
        let names: Vec<String> = letters.iter().map(|letter| code(*letter)).collect();
        if names.is_empty() { "nothing".to_owned() } else { names.join(" ") }
    };
    Some((names(&left), names(&right)))
}

fn code(letter: char) -> String {
    let code = format!("U+{:04X}", u32::from(letter));
    if letter == ' ' { format!("{code} space") } else { code }
}

fn html(pieces: &[Piece], starts_cut: bool, ends_cut: bool) -> String {
    const CUT_MARK: &str = "<span class=\"cut\" title=\"shortened\">\u{2026}</span>";
    let mut html = String::new();
    if starts_cut {
        html.push_str(CUT_MARK);
    }
    let is_empty = pieces.iter().all(
        |piece| matches!(piece, Piece::Same(letters) | Piece::Only(letters) if letters.is_empty()),
    );
    if is_empty {
        html.push_str("<span class=\"none\">empty text</span>");
    }
    let last = pieces.len().saturating_sub(1);
    for (at, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::Same(letters) => {
                // Spaces at the ends of a value are easily overlooked.
                let lead = if at == 0 && !starts_cut { spaces(letters.iter()) } else { 0 };
                let trail = if at == last && !ends_cut { spaces(letters.iter().rev()) } else { 0 };
                for (n, letter) in letters.iter().enumerate() {
                    let at_end = n < lead || n + trail >= letters.len();
                    push_visible(&mut html, *letter, at_end, false);
                }
            }
            Piece::Only(letters) if letters.is_empty() => {
                if !is_empty {
                    html.push_str("<mark class=\"gap\" title=\"nothing here\"></mark>");
                }
            }
            Piece::Only(letters) => {
                html.push_str("<mark>");
                for letter in letters {
                    push_visible(&mut html, *letter, true, true);
                }
                html.push_str("</mark>");
            }
        }
    }
    if ends_cut {
        html.push_str(CUT_MARK);
    }
    html
}

fn spaces<'l>(letters: impl Iterator<Item = &'l char>) -> usize {
    letters.take_while(|letter| **letter == ' ').count()
}

/// Text as HTML in which no character is invisible, reorders others, or is markup.
pub(super) fn visible(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for letter in text.chars() {
        push_visible(&mut html, letter, false, false);
    }
    html
}

fn push_visible(html: &mut String, letter: char, show_space: bool, is_marked: bool) {
    match letter {
        '&' => html.push_str("&amp;"),
        '<' => html.push_str("&lt;"),
        '>' => html.push_str("&gt;"),
        '"' => html.push_str("&quot;"),
        '\'' => html.push_str("&#39;"),
        ' ' if show_space => html.push_str("<i title=\"space\">\u{b7}</i>"),
        _ => match hidden_name(letter) {
            Some(name) => {
                html.push_str(&format!("<i class=\"code\" title=\"{}\">{name}</i>", code(letter)));
                if letter == '\n' {
                    html.push('\n');
                }
            }
            None if is_marked && is_combining(letter) => {
                html.push_str(&format!("<i class=\"code\">\u{25cc}{letter} {}</i>", code(letter)));
            }
            None => html.push(letter),
        },
    }
}

/// Names of U+0000 to U+001F (ISO/IEC 6429).
const CONTROLS: [&str; 32] = [
    "NUL", "SOH", "STX", "ETX", "EOT", "ENQ", "ACK", "BEL", "BS", "TAB", "LF", "VT", "FF", "CR",
    "SO", "SI", "DLE", "DC1", "DC2", "DC3", "DC4", "NAK", "SYN", "ETB", "CAN", "EM", "SUB", "ESC",
    "FS", "GS", "RS", "US",
];

/// What stands for a character that has no picture of its own, looks like a space, or moves
/// others about (general categories Cc, Cf, Zs, Zl, Zp, Co and fillers).
fn hidden_name(letter: char) -> Option<String> {
    let named = match letter {
        '\0'..='\u{1f}' => CONTROLS[letter as usize],
        '\u{7f}' => "DEL",
        '\u{a0}' => "NBSP",
        '\u{ad}' => "SHY",
        '\u{200b}' => "ZWSP",
        '\u{200c}' => "ZWNJ",
        '\u{200d}' => "ZWJ",
        '\u{200e}' => "LRM",
        '\u{200f}' => "RLM",
        '\u{202a}' => "LRE",
        '\u{202b}' => "RLE",
        '\u{202c}' => "PDF",
        '\u{202d}' => "LRO",
        '\u{202e}' => "RLO",
        '\u{2066}' => "LRI",
        '\u{2067}' => "RLI",
        '\u{2068}' => "FSI",
        '\u{2069}' => "PDI",
        '\u{202f}' => "NNBSP",
        '\u{2060}' => "WJ",
        '\u{feff}' => "BOM",
        '\u{80}'..='\u{9f}'
        | '\u{34f}'
        | '\u{61c}'
        | '\u{115f}'..='\u{1160}'
        | '\u{1680}'
        | '\u{180b}'..='\u{180f}'
        | '\u{2000}'..='\u{200a}'
        | '\u{2028}'..='\u{2029}'
        | '\u{205f}'
        | '\u{2061}'..='\u{206f}'
        | '\u{3000}'
        | '\u{3164}'
        | '\u{e000}'..='\u{f8ff}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}'
        | '\u{fffe}'..='\u{ffff}'
        | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{10ffff}' => return Some(code(letter)),
        _ => return None,
    };
    Some(named.to_owned())
}

/// Blocks of combining marks of the scripts in common use; a marked one stands on its own.
fn is_combining(letter: char) -> bool {
    matches!(letter,
        '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{591}'..='\u{5bd}'
        | '\u{610}'..='\u{61a}' | '\u{64b}'..='\u{65f}' | '\u{1ab0}'..='\u{1aff}'
        | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}' | '\u{302a}'..='\u{302f}'
        | '\u{3099}'..='\u{309a}' | '\u{fe20}'..='\u{fe2f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(left: &str, right: &str) -> (String, String) {
        let pair = pair(Some(left), Some(right));
        (pair.source, pair.target)
    }

    #[test]
    fn only_the_characters_that_differ_are_marked() {
        let (left, right) = marked("2024-03-31 01:30", "2024-03-31 02:30");
        assert_eq!(left, "2024-03-31 0<mark>1</mark>:30");
        assert_eq!(right, "2024-03-31 0<mark>2</mark>:30");
        let (left, right) = marked("colour", "color");
        assert_eq!(left, "colo<mark>u</mark>r");
        assert_eq!(right, "colo<mark class=\"gap\" title=\"nothing here\"></mark>r");
    }

    #[test]
    fn texts_with_little_in_common_are_marked_whole() {
        let (left, right) = marked("apple pie", "zebra crossing");
        let letters = |html: &str| html.matches("<mark").count();
        assert_eq!((letters(&left), letters(&right)), (1, 1), "{left} / {right}");
    }

    #[test]
    fn what_cannot_be_seen_is_shown() {
        let (left, right) = marked("end", "end ");
        assert!(right.contains("<mark><i title=\"space\">\u{b7}</i></mark>"), "{right}");
        assert!(left.contains("gap"), "{left}");
        let (left, right) = marked("a\r\nb", "a\nb");
        assert!(left.contains("<mark><i class=\"code\" title=\"U+000D\">CR</i></mark>"), "{left}");
        assert!(right.contains(">LF</i>"), "{right}");
        assert!(marked("ab", "a\u{200b}b").1.contains(">ZWSP</i>"));
        assert!(marked("ab", "a\u{202e}b").1.contains(">RLO</i>"));
        assert!(marked("ab", "a\0b").1.contains(">NUL</i>"));
        let composed = pair(Some("\u{e9}"), Some("e\u{301}"));
        assert_eq!(composed.codes, Some(("U+00E9".to_owned(), "U+0065 U+0301".to_owned())));
        assert!(composed.target.contains("\u{25cc}\u{301} U+0301"), "{}", composed.target);
    }

    #[test]
    fn null_empty_text_and_the_text_null_look_different() {
        let shown = |value| pair(value, None).source;
        assert_eq!(shown(None), "<span class=\"none\">NULL, no value</span>");
        assert_eq!(shown(Some("")), "<span class=\"none\">empty text</span>");
        assert_eq!(shown(Some("NULL")), "NULL");
        let (left, right) = marked("", "x");
        assert_eq!(left, "<span class=\"none\">empty text</span>");
        assert_eq!(right, "<mark>x</mark>");
    }

    #[test]
    fn a_cut_end_is_not_taken_for_a_difference() {
        let rest: String = ('a'..='z').cycle().take(200).collect();
        let left = format!("{}...", &format!("xx{rest}")[..SHOWN_MAX]);
        let right = format!("{}...", &format!("xxYY{rest}")[..SHOWN_MAX]);
        let (left, right) = marked(&left, &right);
        assert_eq!(right.matches("<mark").count(), 1, "{right}");
        assert!(right.contains("<mark>YY</mark>"), "{right}");
        assert_eq!(left.matches("<mark").count(), 1, "{left}");
        assert!(left.ends_with("\u{2026}</span>"), "{left}");
        let left = "A hierarchical model for assigning posts to addresses; all of what follows \
                    is plain and without a mark";
        let right = left.replace('e', "e\u{301}");
        let cut = |text: &str| format!("{}...", text.chars().take(SHOWN_MAX).collect::<String>());
        let (left, _) = marked(&cut(left), &cut(&right));
        assert!(!left.contains("<mark>"), "nothing of the source's text is missing: {left}");
    }

    #[test]
    fn markup_in_a_value_is_text() {
        let (left, right) = marked("<script>alert(1)</script>", "<b onclick='x' id=\"y\">&");
        for html in [left, right] {
            let without = ["<mark>", "</mark>", "<i title=\"space\">", "</i>"]
                .iter()
                .fold(html.clone(), |html, own| html.replace(own, ""));
            assert!(!without.contains(['<', '>', '\'', '"']), "{html}");
        }
    }
}
