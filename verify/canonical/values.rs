//! Source values of every type: what is special first, the rest drawn.

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

/// A source value.
pub(super) enum Given {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
}

/// Draws a value.
pub(super) type Make = fn(&mut ChaCha8Rng) -> Given;

fn pick(random: &mut ChaCha8Rng, specials: &[&str]) -> Option<Given> {
    let at = random.random_range(0..specials.len() * 2 + 1);
    if at == 0 {
        return Some(Given::Null);
    }
    specials.get(at - 1).map(|text| Given::Text((*text).to_owned()))
}

pub(super) fn boolean(random: &mut ChaCha8Rng) -> Given {
    Given::Integer(i64::from(random.random::<bool>()))
}

fn integer(random: &mut ChaCha8Rng, specials: &[i64], most: i64) -> Given {
    match random.random_range(0..4) {
        0 => Given::Integer(specials[random.random_range(0..specials.len())]),
        1 => Given::Null,
        _ => Given::Integer(random.random_range(-most..=most)),
    }
}

pub(super) fn int2(random: &mut ChaCha8Rng) -> Given {
    integer(random, &[i16::MIN.into(), i16::MAX.into(), 0, -1], 30_000)
}

pub(super) fn int4(random: &mut ChaCha8Rng) -> Given {
    integer(random, &[i32::MIN.into(), i32::MAX.into(), 0, -1], 2_000_000_000)
}

pub(super) fn int8(random: &mut ChaCha8Rng) -> Given {
    integer(random, &[i64::MIN, i64::MAX, 0, -1], i64::MAX)
}

const REALS: &[f64] = &[
    0.0,
    -0.0,
    1.5,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::MAX,
    f64::MIN_POSITIVE,
    5e-324,
    f64::MIN,
    f64::EPSILON,
    0.1,
    1e22,
    9_007_199_254_740_993.0,
];

/// NaN as hardware and languages have it: with either sign, quiet and with a payload.
const NANS: [u64; 4] =
    [0x7ff8_0000_0000_0000, 0xfff8_0000_0000_0000, 0x7ff8_0000_dead_beef, 0x7ff0_0000_0000_0001];

pub(super) fn float8(random: &mut ChaCha8Rng) -> Given {
    match random.random_range(0..5) {
        0 => Given::Real(REALS[random.random_range(0..REALS.len())]),
        1 => Given::Text("NaN".to_owned()),
        2 => Given::Null,
        3 => Given::Real(f64::from_bits(NANS[random.random_range(0..NANS.len())])),
        _ => Given::Real(f64::from_bits(random.random())),
    }
}

pub(super) fn float4(random: &mut ChaCha8Rng) -> Given {
    match random.random_range(0..8) {
        0 => Given::Text("NaN".to_owned()),
        1 => Given::Real(-0.0),
        2 => Given::Real(f64::INFINITY),
        3 => Given::Real(f64::NEG_INFINITY),
        4 => Given::Real(f64::from_bits(NANS[random.random_range(0..NANS.len())])),
        _ => Given::Real(f64::from(f32::from_bits(random.random()))),
    }
}

fn digits(random: &mut ChaCha8Rng, most: usize) -> String {
    let count = random.random_range(1..=most);
    (0..count).map(|_| char::from(b'0' + random.random_range(0..10_u8))).collect()
}

pub(super) fn numeric(random: &mut ChaCha8Rng) -> Given {
    let specials =
        ["0", "-0.000", "1.500", "NaN", "Infinity", "-Infinity", "1e5", "100000000", "-12.3400"];
    if let Some(given) = pick(random, &specials) {
        return given;
    }
    let zeros = "0".repeat(random.random_range(0..9));
    let most = if random.random_range(0..8) == 0 { 1000 } else { 30 };
    let sign = if random.random() { "-" } else { "" };
    Given::Text(match random.random_range(0..4) {
        // A thousand digits, the point anywhere among them.
        3 => {
            let mut all: String =
                (0..1000).map(|_| char::from(b'0' + random.random_range(0..10_u8))).collect();
            all.insert(random.random_range(1..1000), '.');
            format!("{sign}{all}")
        }
        0 => format!("{sign}{}{zeros}", digits(random, most)),
        1 => format!("{sign}0.{zeros}{}{zeros}", digits(random, most)),
        _ => format!("{sign}{}.{}{zeros}", digits(random, most), digits(random, most)),
    })
}

fn small(random: &mut ChaCha8Rng, decimals: usize) -> String {
    let sign = if random.random() { "-" } else { "" };
    format!("{sign}{}.{}", digits(random, 5), digits(random, decimals))
}

pub(super) fn small_numeric(random: &mut ChaCha8Rng) -> Given {
    pick(random, &["0", "-0.0", "1.5", "7.000"]).unwrap_or_else(|| Given::Text(small(random, 3)))
}

/// Letters of every plane, without surrogates and NUL.
fn letters(random: &mut ChaCha8Rng, most: usize) -> String {
    let count = random.random_range(0..=most);
    (0..count)
        .map(|_| {
            let plane = random.random_range(0..17_u32);
            let any = (plane << 16) | random.random_range(1..0x1_0000_u32);
            if random.random() { 'a' } else { char::from_u32(any).unwrap_or('\u{fffd}') }
        })
        .collect()
}

/// Every control character, and whatever some language escapes.
fn escapes() -> String {
    let controls = (1..0x20_u8).chain([0x7f]).map(char::from);
    controls
        .chain("\u{80}\u{85}\u{9f}\u{2028}\u{2029}\\\"'`/${}%_,;&<>\u{10ffff}".chars())
        .collect()
}

pub(super) fn text(random: &mut ChaCha8Rng) -> Given {
    let specials =
        ["", "NULL", " padded ", "e\u{301}", "\u{e9}", "a\r\nb\t\u{1}", "\\N", "\u{feff}x"];
    if random.random_range(0..8) == 0 {
        return Given::Text(escapes());
    }
    pick(random, &specials).unwrap_or_else(|| Given::Text(letters(random, 40)))
}

pub(super) fn short_text(random: &mut ChaCha8Rng) -> Given {
    pick(random, &["", "123456789", "trail   "]).unwrap_or_else(|| Given::Text(letters(random, 9)))
}

pub(super) fn blob(random: &mut ChaCha8Rng) -> Given {
    let length = random.random_range(0..50);
    if random.random_range(0..8) == 0 {
        return Given::Blob((0..=255).collect());
    }
    Given::Blob((0..length).map(|_| random.random()).collect())
}

fn uuid_text(random: &mut ChaCha8Rng) -> String {
    uuid::Uuid::from_u128(random.random()).to_string()
}

pub(super) fn uuid(random: &mut ChaCha8Rng) -> Given {
    let extremes = ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"];
    pick(random, &extremes).unwrap_or_else(|| Given::Text(uuid_text(random)))
}

fn moment(random: &mut ChaCha8Rng) -> String {
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}.{:06}",
        random.random_range(1..9999),
        random.random_range(1..13),
        random.random_range(1..29),
        random.random_range(0..24),
        random.random_range(0..60),
        random.random_range(0..60),
        random.random_range(0..1_000_000)
    )
}

pub(super) fn timestamptz(random: &mut ChaCha8Rng) -> Given {
    let specials = [
        "infinity",
        "-infinity",
        "294276-12-31 23:59:59.999999+00",
        "4714-11-24 00:00:00+00 BC",
        "0044-03-15 12:00:00+00 BC",
        "2000-01-01 00:00:00+14",
    ];
    pick(random, &specials).unwrap_or_else(|| Given::Text(format!("{}+02:30", moment(random))))
}

pub(super) fn timestamp(random: &mut ChaCha8Rng) -> Given {
    let specials = [
        "infinity",
        "-infinity",
        "294276-12-31 23:59:59.999999",
        "0001-01-01 00:00:00 BC",
        "4714-11-24 00:00:00 BC",
        "1999-12-31 23:59:59.999999",
    ];
    pick(random, &specials).unwrap_or_else(|| Given::Text(moment(random)))
}

pub(super) fn date(random: &mut ChaCha8Rng) -> Given {
    let specials = ["infinity", "-infinity", "5874897-12-31", "4714-11-24 BC", "2024-02-29"];
    pick(random, &specials).unwrap_or_else(|| Given::Text(moment(random)[..10].to_owned()))
}

pub(super) fn time(random: &mut ChaCha8Rng) -> Given {
    pick(random, &["00:00:00", "24:00:00", "23:59:59.999999"])
        .unwrap_or_else(|| Given::Text(moment(random)[11..].to_owned()))
}

pub(super) fn interval(random: &mut ChaCha8Rng) -> Given {
    let specials = [
        "00:00:00",
        "-1 days +02:03:00",
        "1 year 2 mons",
        "-00:00:00.000001",
        "1 day",
        "24:00:00",
        "178000000 years",
        "-178000000 years",
        "2147483647 days",
        "-2147483648 days",
        "1 mon -30 days",
    ];
    pick(random, &specials).unwrap_or_else(|| {
        let (days, seconds) = (random.random_range(-9..9), random.random_range(0..60));
        Given::Text(format!("{} mons {days} days 01:02:{seconds:02}.5", random.random_range(-9..9)))
    })
}

pub(super) fn document(random: &mut ChaCha8Rng) -> Given {
    let specials = [
        "null",
        "{}",
        "[]",
        "\"\"",
        "1.0",
        "1E400",
        "-0.00",
        r#"{"b":1,"a":{"c":[1,{"d":null}],"c":2},"b":3}"#,
        "[[[[[[]]]]]]",
        r#""\ud83d\ude00\u00e9\/\"""#,
        r#"{"aa":1,"b":2,"a":3}"#,
        r#""\b\f\n\r\t\"\\\/\u001f\u007f\u2028\ud83d\ude00""#,
        r#"{"":{"":[{"":null}]},"\u0000x":1}"#,
        r#"[1e-400,123456789012345678901234567890.5,true,false,{"k":[[],{}]}]"#,
    ];
    pick(random, &specials).unwrap_or_else(|| {
        let member =
            serde_json::json!({ letters(random, 5): [letters(random, 9), random.random::<i64>()] });
        Given::Text(member.to_string())
    })
}

pub(super) fn mood(random: &mut ChaCha8Rng) -> Given {
    pick(random, &["sad", "ok", "happy"]).unwrap_or(Given::Null)
}

pub(super) fn inet(random: &mut ChaCha8Rng) -> Given {
    let specials = ["::1", "2001:db8::/32", "192.0.2.1/0", "10.1.2.3/8", "::ffff:1.2.3.4"];
    pick(random, &specials).unwrap_or_else(|| {
        Given::Text(std::net::Ipv4Addr::from(random.random::<u32>()).to_string())
    })
}

fn array(random: &mut ChaCha8Rng, mut element: impl FnMut(&mut ChaCha8Rng) -> String) -> Given {
    let count = random.random_range(0..5_usize);
    let parts: Vec<String> = (0..count)
        .map(|_| if random.random_range(0..4) == 0 { "null".to_owned() } else { element(random) })
        .collect();
    Given::Text(format!("[{}]", parts.join(",")))
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

pub(super) fn text_array(random: &mut ChaCha8Rng) -> Given {
    let specials = ["", "NULL", "null", "a,b", "{x}", "\\", "\"", " "];
    array(random, |random| match random.random_range(0..specials.len() * 2) {
        at if at < specials.len() => quoted(specials[at]),
        _ => quoted(&letters(random, 8)),
    })
}

pub(super) fn short_text_array(random: &mut ChaCha8Rng) -> Given {
    array(random, |random| quoted(&letters(random, 9)))
}

pub(super) fn int8_array(random: &mut ChaCha8Rng) -> Given {
    array(random, |random| random.random::<i64>().to_string())
}

pub(super) fn bool_array(random: &mut ChaCha8Rng) -> Given {
    array(random, |random| random.random::<bool>().to_string())
}

pub(super) fn float8_array(random: &mut ChaCha8Rng) -> Given {
    array(random, |random| match random.random_range(0..5) {
        4 => "Infinity".to_owned(),
        0 => "NaN".to_owned(),
        1 => "-0.0".to_owned(),
        2 => "-Infinity".to_owned(),
        _ => format!("{:e}", random.random::<f64>()),
    })
}

pub(super) fn numeric_array(random: &mut ChaCha8Rng) -> Given {
    array(random, |random| format!("1{}0", small(random, 3).replace('-', "")))
}

pub(super) fn small_numeric_array(random: &mut ChaCha8Rng) -> Given {
    array(random, |random| format!("1{}.{}", digits(random, 4), digits(random, 2)))
}

pub(super) fn uuid_array(random: &mut ChaCha8Rng) -> Given {
    array(random, |random| quoted(&uuid_text(random)))
}

pub(super) fn timestamptz_array(random: &mut ChaCha8Rng) -> Given {
    array_of(random, timestamptz)
}

pub(super) fn int2_array(random: &mut ChaCha8Rng) -> Given {
    array(random, |random| random.random::<i16>().to_string())
}

pub(super) fn int4_array(random: &mut ChaCha8Rng) -> Given {
    array(random, |random| random.random::<i32>().to_string())
}

pub(super) fn float4_array(random: &mut ChaCha8Rng) -> Given {
    array(random, |random| match random.random_range(0..4) {
        0 => "NaN".to_owned(),
        1 => "-0.0".to_owned(),
        _ => (f64::from(random.random::<i16>()) / 4.0).to_string(),
    })
}

/// Elements that are the texts another type's values are given as.
fn array_of(random: &mut ChaCha8Rng, make: Make) -> Given {
    array(random, |random| match make(random) {
        Given::Text(text) => quoted(&text),
        _ => "null".to_owned(),
    })
}

pub(super) fn timestamp_array(random: &mut ChaCha8Rng) -> Given {
    array_of(random, timestamp)
}

pub(super) fn date_array(random: &mut ChaCha8Rng) -> Given {
    array_of(random, date)
}

pub(super) fn time_array(random: &mut ChaCha8Rng) -> Given {
    array_of(random, time)
}

pub(super) fn interval_array(random: &mut ChaCha8Rng) -> Given {
    array_of(random, interval)
}

pub(super) fn inet_array(random: &mut ChaCha8Rng) -> Given {
    array_of(random, inet)
}

pub(super) fn jsonb_array(random: &mut ChaCha8Rng) -> Given {
    array(random, |random| format!("{{\"b\":{},\"a\":[]}}", random.random::<i32>()))
}

/// A type known only by its text: in the very form Postgres prints.
pub(super) fn macaddr(random: &mut ChaCha8Rng) -> Given {
    let bytes: [u8; 6] = random.random();
    Given::Text(bytes.map(|byte| format!("{byte:02x}")).join(":"))
}

pub(super) fn four_letters(random: &mut ChaCha8Rng) -> Given {
    Given::Text((0..4).map(|_| char::from(random.random_range(b'a'..=b'z'))).collect())
}

pub(super) fn four_bits(random: &mut ChaCha8Rng) -> Given {
    Given::Text(format!("{:04b}", random.random_range(0..16)))
}

pub(super) fn ltree(random: &mut ChaCha8Rng) -> Given {
    pick(random, &["", "a", "Top.Science.Astronomy"])
        .unwrap_or_else(|| Given::Text(format!("a.b{}", random.random::<u32>())))
}
