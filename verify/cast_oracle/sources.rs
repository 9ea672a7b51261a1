//! Generated sources of each cast: the text the oracle reads, and the value the cast is given.

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use super::one_of;

/// Makes one source.
pub(super) type Generate = fn(&mut ChaCha8Rng) -> Item;

/// A source as both sides read it.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) source: String,
    pub(super) given: Given,
}

/// What the cast is given.
#[derive(Debug)]
pub(super) enum Given {
    Text(Vec<u8>),
    Integer(i64),
    Real(f64),
    Blob(Vec<u8>),
    /// The source, parsed.
    Json,
}

fn text_item(source: String) -> Item {
    let given = Given::Text(source.clone().into_bytes());
    Item { source, given }
}

fn digits(random: &mut ChaCha8Rng, most: usize) -> String {
    let count = random.random_range(1..=most);
    (0..count).map(|_| char::from(random.random_range(b'0'..=b'9'))).collect()
}

pub(super) fn integer(random: &mut ChaCha8Rng) -> Item {
    let bound = *[0, 1 << 15, 1 << 31, i64::MAX, 1 << 53]
        .get(random.random_range(0..5_usize))
        .unwrap_or(&0);
    let near = i128::from(bound) * if random.random() { 1 } else { -1 };
    let number = near + random.random_range(-3..=3);
    let narrow = i64::try_from(number).ok();
    match (random.random_range(0..5), narrow) {
        (0, Some(n)) => Item { source: n.to_string(), given: Given::Integer(n) },
        (1, Some(n)) if n.unsigned_abs() < 1 << 53 => {
            Item { source: n.to_string(), given: Given::Real(n as f64) }
        }
        (2, _) => Item { source: number.to_string(), given: Given::Json },
        (3, _) => text_item(
            one_of(random, &["", "1.0", "12.3", "toto", "+1", "01", " 1", "-0", "0x1"]).to_owned(),
        ),
        _ => text_item(number.to_string()),
    }
}

pub(super) fn boolean(random: &mut ChaCha8Rng) -> Item {
    if random.random_range(0..4) == 0 {
        let n: i64 = random.random_range(0..=1);
        return Item { source: n.to_string(), given: Given::Integer(n) };
    }
    let words = [
        "1", "0", "t", "f", "T", "true", "False", "TRUE", "yes", "no", "on", "OFF", "y", "N", "",
        "2", "tr", "o", " t", "null",
    ];
    text_item(one_of(random, &words).to_owned())
}

pub(super) fn float8(random: &mut ChaCha8Rng) -> Item {
    let x = f64::from_bits(random.random());
    match random.random_range(0..7) {
        0 if x.is_finite() => Item { source: format!("{x:e}"), given: Given::Real(x) },
        1 => Item { source: digits(random, 17), given: Given::Json },
        2 => text_item(format!("{}.{}", digits(random, 17), digits(random, 20))),
        3 => text_item(format!("-{}e{}", digits(random, 18), random.random_range(-400..400))),
        4 => text_item(
            one_of(
                random,
                &[
                    "NaN",
                    "Infinity",
                    "-Infinity",
                    "inf",
                    "-0",
                    "1e400",
                    "-1e400",
                    "1e-400",
                    "5e-324",
                    "2.4703282292062327e-324",
                    "1.7976931348623157e308",
                    "1.7976931348623159e308",
                    "nan",
                    "",
                    "1e",
                    ".",
                    ".5",
                    "5.",
                    "+1",
                    "1,5",
                ],
            )
            .to_owned(),
        ),
        5 => {
            let n: i64 = random.random();
            let n = n >> random.random_range(0..60);
            Item { source: n.to_string(), given: Given::Integer(n) }
        }
        _ if x.is_finite() => text_item(format!("{x:e}")),
        _ => text_item("NaN".to_owned()),
    }
}

pub(super) fn float4(random: &mut ChaCha8Rng) -> Item {
    let x = f32::from_bits(random.random());
    match random.random_range(0..5) {
        0 if x.is_finite() => Item { source: format!("{x:e}"), given: Given::Real(f64::from(x)) },
        1 => text_item(format!("{}.{}", digits(random, 3), digits(random, 3))),
        2 => text_item(format!("{}e{}", digits(random, 9), random.random_range(-60..50))),
        3 => text_item(
            one_of(
                random,
                &[
                    "NaN",
                    "inf",
                    "-0",
                    "3.4028235e38",
                    "3.4028236e38",
                    "1e-45",
                    "1e-46",
                    "16777217",
                    "16777216",
                ],
            )
            .to_owned(),
        ),
        _ if x.is_finite() => text_item(format!("{x:e}")),
        _ => text_item("0.1".to_owned()),
    }
}

pub(super) fn decimal(random: &mut ChaCha8Rng) -> Item {
    let sign = one_of(random, &["", "-", "+"]);
    match random.random_range(0..9) {
        0 => {
            let x: f64 = random.random_range(-1e6..1e6);
            Item { source: format!("{x}"), given: Given::Real(x) }
        }
        1 => {
            let n: i64 = random.random();
            Item { source: n.to_string(), given: Given::Integer(n) }
        }
        2 => Item {
            source: format!(
                "{}.{}e-{}",
                random.random_range(0..10),
                digits(random, 9),
                digits(random, 2)
            ),
            given: Given::Json,
        },
        3 => text_item(format!("{sign}{}e{}", digits(random, 9), random.random_range(-30..30))),
        4 => text_item(
            one_of(
                random,
                &[
                    "NaN",
                    "Infinity",
                    "-Infinity",
                    "inf",
                    "",
                    ".",
                    "0",
                    "-0.00",
                    "000",
                    "0e5",
                    "1e131071",
                    "1e-16383",
                    "99999999.995",
                    "99999999.994",
                    "-99950",
                    "99949.99",
                ],
            )
            .to_owned(),
        ),
        5 => text_item(format!("{sign}{}", digits(random, 40))),
        6 => text_item(format!("{sign}{}.{}00", digits(random, 5), random.random_range(0..100))),
        _ => text_item(format!("{sign}{}.{}", digits(random, 30), digits(random, 30))),
    }
}

pub(super) fn any_decimal(random: &mut ChaCha8Rng) -> Item {
    if random.random_range(0..30) == 0 {
        return text_item(one_of(random, &["1e131072", "-1e-16384", "1e999999999999"]).to_owned());
    }
    decimal(random)
}

fn calendar(random: &mut ChaCha8Rng) -> (String, bool) {
    let year = match random.random_range(0..12) {
        0 => random.random_range(1..1000),
        1 => random.random_range(10_000..=294_276),
        2 => random.random_range(1..=4714),
        3 => 0,
        _ => random.random_range(1890..2100),
    };
    let before_christ = random.random_range(0..12) == 0 && year <= 4714;
    let months = if random.random_range(0..20) == 0 { 0..=13 } else { 1..=12 };
    let month = random.random_range(months);
    let day = if random.random_range(0..8) == 0 {
        random.random_range(28..=32)
    } else {
        random.random_range(1..=28)
    };
    (format!("{year:04}-{month:02}-{day:02}"), before_christ)
}

fn clock_text(random: &mut ChaCha8Rng) -> String {
    let rare = |random: &mut ChaCha8Rng| random.random_range(0..15) == 0;
    if rare(random) {
        let odd = [
            "24:00:00",
            "23:59:60",
            "12:00:60.5",
            "24:00:00.1",
            "25:00",
            "23:60",
            "23:59:60.5",
            "12:00:61",
            "24:00",
        ];
        return one_of(random, &odd).to_owned();
    }
    let (hour, minute, second) =
        (random.random_range(0..24), random.random_range(0..60), random.random_range(0..60));
    match random.random_range(0..6) {
        0 => format!("{hour:02}:{minute:02}"),
        1 => format!("{hour:02}:{minute:02}:{second:02}"),
        2 => format!("{hour:02}:{minute:02}:{second:02}.{}", digits(random, 9)),
        3 => format!("{hour:02}:{minute:02}:{second:02}.{}000", digits(random, 6)),
        _ => format!("{hour:02}:{minute:02}:{second:02}.{}", digits(random, 6)),
    }
}

/// ISO text of every documented shape; the oracle reads a comma as the point it means.
pub(super) fn moment(random: &mut ChaCha8Rng) -> Item {
    if random.random_range(0..50) == 0 {
        let odd = [
            "infinity",
            "-infinity",
            "Infinity",
            "294276-12-31 23:59:59.999999",
            "4714-11-24 00:00:00 BC",
            "4714-11-24 00:00:00+00:00:01 BC",
            "294277-01-01",
        ];
        return text_item(one_of(random, &odd).to_owned());
    }
    let (mut text, before_christ) = calendar(random);
    if random.random_range(0..10) > 0 {
        text.push_str(one_of(random, &["T", " "]));
        text.push_str(&clock_text(random));
        let hours = random.random_range(0..=16);
        let minutes = random.random_range(0..60);
        let sign = one_of(random, &["+", "-"]);
        let seconds = random.random_range(0..60);
        let offset = match random.random_range(0..7) {
            0 => "Z".to_owned(),
            1 => format!("{sign}{hours:02}"),
            2 => format!("{sign}{hours:02}{minutes:02}"),
            3 => format!("{sign}{hours:02}:{minutes:02}"),
            4 => format!("{sign}{hours:02}:{minutes:02}:{seconds:02}"),
            5 => "+00:00".to_owned(),
            _ => String::new(),
        };
        text.push_str(&offset);
    }
    if before_christ {
        text.push_str(" BC");
    }
    let given = if random.random_range(0..5) == 0 { text.replace('.', ",") } else { text.clone() };
    Item { source: text, given: Given::Text(given.into_bytes()) }
}

pub(super) fn naive_moment(random: &mut ChaCha8Rng) -> Item {
    text_item(format!(
        "{}-{:02}-{:02} {:02}:{:02}:{:02}.{:06}",
        random.random_range(1900..2037),
        random.random_range(1..=12),
        random.random_range(1..=28),
        random.random_range(0..24),
        random.random_range(0..60),
        random.random_range(0..60),
        random.random_range(0..1_000_000)
    ))
}

pub(super) fn epoch_seconds(random: &mut ChaCha8Rng) -> Item {
    let seconds: i64 = random.random_range(-10_000_000_000..10_000_000_000);
    match random.random_range(0..4) {
        0 => Item { source: seconds.to_string(), given: Given::Integer(seconds) },
        1 => {
            let small = seconds % (1 << 32);
            let source = format!("{small}.{:06}", random.random_range(0..1_000_000));
            let x = source.parse().expect("a number");
            Item { source, given: Given::Real(x) }
        }
        2 => Item { source: format!("{seconds}.{}", digits(random, 6)), given: Given::Json },
        _ => text_item(format!("{seconds}.{}", digits(random, 6))),
    }
}

pub(super) fn epoch_millis(random: &mut ChaCha8Rng) -> Item {
    let millis: i64 = random.random_range(-8_000_000_000_000..8_000_000_000_000);
    match random.random_range(0..3) {
        0 => Item { source: millis.to_string(), given: Given::Integer(millis) },
        1 => {
            let source = format!("{millis}.{:03}", random.random_range(0..1000));
            let x = source.parse().expect("a number");
            Item { source, given: Given::Real(x) }
        }
        _ => text_item(millis.to_string()),
    }
}

pub(super) fn date(random: &mut ChaCha8Rng) -> Item {
    let (mut text, before_christ) = calendar(random);
    if random.random_range(0..6) == 0 {
        text.push_str(one_of(random, &["T00:00:00", " 00:00:00.000", " 12:00:00"]));
    }
    if before_christ {
        text.push_str(" BC");
    }
    if random.random_range(0..30) == 0 {
        let odd = [
            "infinity",
            "-infinity",
            "5874897-12-31",
            "5874898-01-01",
            "4714-11-24 BC",
            "4714-11-23 BC",
            "today2",
            "",
        ];
        return text_item(one_of(random, &odd).to_owned());
    }
    text_item(text)
}

pub(super) fn clock(random: &mut ChaCha8Rng) -> Item {
    text_item(clock_text(random))
}

pub(super) fn interval(random: &mut ChaCha8Rng) -> Item {
    let mut parts = Vec::new();
    for unit in ["year", "years", "mon", "mons", "day", "days"] {
        if random.random_range(0..4) == 0 {
            parts.push(format!("{} {unit}", random.random_range(-500..500)));
        }
    }
    if parts.is_empty() || random.random() {
        let sign = one_of(random, &["", "-", "+"]);
        parts.push(format!(
            "{sign}{:02}:{:02}:{:02}.{}",
            random.random_range(0..10_000),
            random.random_range(0..60),
            random.random_range(0..60),
            digits(random, 6)
        ));
    }
    text_item(parts.join(" "))
}

pub(super) fn seconds(random: &mut ChaCha8Rng) -> Item {
    let whole: i64 = random.random_range(-1_000_000_000..1_000_000_000);
    let source = format!("{whole}.{:06}", random.random_range(0..1_000_000));
    match random.random_range(0..3) {
        0 => Item { source: whole.to_string(), given: Given::Integer(whole) },
        1 => {
            let x = source.parse().expect("a number");
            Item { source, given: Given::Real(x) }
        }
        _ => text_item(source),
    }
}

pub(super) fn text(random: &mut ChaCha8Rng) -> Item {
    let length = random.random_range(0..12);
    let text: String = (0..length)
        .map(|_| match random.random_range(0..6) {
            0 => random.random_range('\u{1}'..'\u{20}'),
            1 => random.random_range('\u{80}'..'\u{800}'),
            2 => random.random_range('\u{10000}'..='\u{10ffff}'),
            3 => random.random_range('\u{e000}'..='\u{ffff}'),
            _ => random.random_range(' '..'\u{7f}'),
        })
        .collect();
    text_item(text)
}

pub(super) fn blob(random: &mut ChaCha8Rng) -> Item {
    let length = random.random_range(0..40);
    let bytes: Vec<u8> = (0..length).map(|_| random.random()).collect();
    Item { source: hex::encode(&bytes), given: Given::Blob(bytes) }
}

pub(super) fn uuid(random: &mut ChaCha8Rng) -> Item {
    let id = uuid::Uuid::from_u128(random.random());
    let mut text = match random.random_range(0..5) {
        0 => id.simple().to_string(),
        1 => id.braced().to_string(),
        2 => id.urn().to_string(),
        3 => format!("{{{}}}", id.simple()),
        _ => id.hyphenated().to_string(),
    };
    if !text.starts_with("urn") && random.random() {
        text = text.to_uppercase();
    }
    if random.random_range(0..8) == 0 {
        let at = random.random_range(0..text.len());
        let with = one_of(random, &["g", "", "-", "0", "}", " "]);
        text.replace_range(at..=at, with);
    }
    text_item(text)
}

pub(super) fn label(random: &mut ChaCha8Rng) -> Item {
    text_item(one_of(random, &["sad", "ok", "happy", "happy", "Ok", "", "okay"]).to_owned())
}

pub(super) fn address(random: &mut ChaCha8Rng) -> Item {
    let bits = |random: &mut ChaCha8Rng, most: u8| {
        if random.random() { format!("/{}", random.random_range(0..=most)) } else { String::new() }
    };
    if random.random() {
        let address = std::net::Ipv4Addr::from_bits(random.random());
        return text_item(format!("{address}{}", bits(random, 33)));
    }
    let mask: u128 = random.random::<u128>() & random.random::<u128>();
    let zeros = if random.random() { u128::from(u64::MAX) << 32 } else { 0 };
    let address = std::net::Ipv6Addr::from_bits(mask & !zeros);
    text_item(format!("{address}{}", bits(random, 129)))
}

pub(super) fn document(random: &mut ChaCha8Rng) -> Item {
    let text = one_of(
        random,
        &[
            "{}",
            "[]",
            "null",
            " [1, 2.50,\n 1e3]",
            "{\"b\":1,\"aa\":[],\"a\":null}",
            "\"text\"",
            "1",
            "-0.0",
            "{\"k\":\"\u{e9}\u{1f600}\\n\\u00e9\"}",
            "[[[]]]",
            "{\"a\":",
            "",
            "nul",
            "[1,]",
            "{'a':1}",
            "true",
        ],
    );
    text_item(text.to_owned())
}

fn list(random: &mut ChaCha8Rng, element: fn(&mut ChaCha8Rng) -> String) -> Item {
    let length = random.random_range(0..6);
    let elements: Vec<String> = (0..length)
        .map(|_| if random.random_range(0..6) == 0 { "null".to_owned() } else { element(random) })
        .collect();
    let source = format!("[{}]", elements.join(", "));
    if random.random() { Item { source, given: Given::Json } } else { text_item(source) }
}

pub(super) fn integers(random: &mut ChaCha8Rng) -> Item {
    list(random, |random| random.random::<i64>().to_string())
}

pub(super) fn words(random: &mut ChaCha8Rng) -> Item {
    list(random, |random| {
        format!(
            "\"{}\"",
            one_of(random, &["", "a", "{}", "NULL", "\\\"q\\\"", "ten chars.", "é\\u00e9"])
        )
    })
}

pub(super) fn real(random: &mut ChaCha8Rng) -> Item {
    let x = match random.random_range(0..4) {
        0 => f64::from_bits(random.random()),
        1 => f64::from(random.random_range(-1_000_000..1_000_000)) / 1000.0,
        2 => f64::from(random.random::<i32>()) * 1e7,
        _ => f64::from(random.random::<i32>()) * 1e-14,
    };
    // Postgres prints a digit more where the shortest decimal lies halfway between two floats,
    // which happens only here.
    let halfway_possible = (9e15..1e24).contains(&x.abs());
    let x = if x.is_nan() || halfway_possible { 0.5 } else { x };
    Item { source: format!("{x:e}"), given: Given::Real(x) }
}

pub(super) fn path(random: &mut ChaCha8Rng) -> Item {
    let labels: Vec<&str> = (0..random.random_range(0..5))
        .map(|_| one_of(random, &["Top", "a_1", "9", "Science", "b"]))
        .collect();
    let odd = ["a..b", ".", "a b", "a.", "a/b"];
    let odd_one = one_of(random, &odd);
    let text = if random.random_range(0..8) == 0 { odd_one.to_owned() } else { labels.join(".") };
    text_item(text)
}
