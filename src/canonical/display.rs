//! Encoded fields as text for people: keys in rejects, values in differences.

use crate::canonical::{fields_of, literal};
use crate::cast::PgType;
use crate::pack::plan::OutputPlan;

/// The key of a row: `run_id=abc, step=prep`.
#[must_use]
pub fn display_key(output: &OutputPlan, tuple: &[u8]) -> String {
    let fields = fields_of(tuple);
    let parts: Vec<String> = output
        .key
        .iter()
        .map(|position| {
            let field = fields[*position].clone().map(|range| &tuple[range]);
            let column = &output.columns[*position];
            let shown = field
                .map_or_else(|| "NULL".to_owned(), |bytes| display_field(column.cast.ty(), bytes));
            format!("{}={shown}", column.name)
        })
        .collect();
    parts.join(", ")
}

/// All columns of a row by name.
#[must_use]
pub fn display_row(
    output: &OutputPlan,
    tuple: &[u8],
) -> serde_json::Map<String, serde_json::Value> {
    let fields = fields_of(tuple);
    output
        .columns
        .iter()
        .zip(fields)
        .map(|(column, range)| {
            let shown = range.map_or(serde_json::Value::Null, |range| {
                display_field(column.cast.ty(), &tuple[range]).into()
            });
            (column.name.clone(), shown)
        })
        .collect()
}

/// A binary field as text that Postgres reads back as the same value; what cannot be read as its
/// type is shown in hexadecimal.
#[must_use]
pub fn display_field(ty: &PgType, bytes: &[u8]) -> String {
    let hex = || format!("\\x{}", hex::encode(bytes));
    let shown = match ty {
        PgType::Bool => bytes.first().map(|byte| if *byte == 0 { "f" } else { "t" }.to_owned()),
        PgType::Int2 => fixed(bytes).map(|b| i16::from_be_bytes(b).to_string()),
        PgType::Int4 => fixed(bytes).map(|b| i32::from_be_bytes(b).to_string()),
        PgType::Int8 => fixed(bytes).map(|b| i64::from_be_bytes(b).to_string()),
        PgType::Float4 => fixed(bytes).map(|b| float(format!("{:?}", f32::from_be_bytes(b)))),
        PgType::Float8 => fixed(bytes).map(|b| float(format!("{:?}", f64::from_be_bytes(b)))),
        PgType::Text(_) | PgType::Enum { .. } | PgType::Json | PgType::Other(_) => {
            Some(String::from_utf8_lossy(bytes).into_owned())
        }
        PgType::Jsonb | PgType::Ltree => {
            bytes.get(1..).map(|text| String::from_utf8_lossy(text).into_owned())
        }
        PgType::Uuid => uuid::Uuid::from_slice(bytes).ok().map(|id| id.to_string()),
        PgType::Timestamptz => fixed(bytes).map(|b| instant(i64::from_be_bytes(b), "+00")),
        PgType::Timestamp => fixed(bytes).map(|b| instant(i64::from_be_bytes(b), "")),
        PgType::Date => fixed(bytes).map(|b| date(i32::from_be_bytes(b))),
        PgType::Numeric(_) => Some(numeric(bytes)),
        PgType::Time => fixed(bytes).map(|b| literal::clock(i64::from_be_bytes(b))),
        PgType::Interval => literal::interval(bytes),
        PgType::Inet => literal::inet(bytes),
        PgType::Array(element) => literal::array(element, bytes),
        PgType::Bytea => None,
    };
    shown.unwrap_or_else(hex)
}

fn fixed<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

/// The shortest digits that read back as the same number, large and small ones with an exponent.
fn float(debug: String) -> String {
    match debug.as_str() {
        "inf" => "Infinity".to_owned(),
        "-inf" => "-Infinity".to_owned(),
        _ => match debug.strip_suffix(".0") {
            Some(whole) => whole.to_owned(),
            None => debug,
        },
    }
}

const DAY_MICROS: i64 = 86_400_000_000;

fn instant(micros: i64, zone: &str) -> String {
    match micros {
        i64::MAX => return "infinity".to_owned(),
        i64::MIN => return "-infinity".to_owned(),
        _ => {}
    }
    let (days, rest) = (micros.div_euclid(DAY_MICROS), micros.rem_euclid(DAY_MICROS));
    let (day, era) = day(days);
    format!("{day} {}{zone}{era}", literal::clock(rest))
}

fn date(days: i32) -> String {
    match days {
        i32::MAX => "infinity".to_owned(),
        i32::MIN => "-infinity".to_owned(),
        _ => {
            let (day, era) = day(days.into());
            format!("{day}{era}")
        }
    }
}

/// Civil date of days since 2000-01-01, proleptic Gregorian
/// (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`).
/// The era stands at the very end, after a time of day.
fn day(days: i64) -> (String, &'static str) {
    let shifted = days + 10_957 + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    if year > 0 {
        (format!("{year:04}-{month:02}-{day:02}"), "")
    } else {
        (format!("{:04}-{month:02}-{day:02}", 1 - year), " BC")
    }
}

fn numeric(bytes: &[u8]) -> String {
    if bytes.len() < 8 {
        return format!("\\x{}", hex::encode(bytes));
    }
    let weight = i64::from(i16::from_be_bytes([bytes[2], bytes[3]]));
    let sign = u16::from_be_bytes([bytes[4], bytes[5]]);
    let scale = usize::from(u16::from_be_bytes([bytes[6], bytes[7]]));
    match sign {
        0xC000 => return "NaN".to_owned(),
        0xD000 => return "Infinity".to_owned(),
        0xF000 => return "-Infinity".to_owned(),
        _ => {}
    }
    let group = |index: i64| -> u16 {
        let at = usize::try_from(index).ok().map(|index| 8 + index * 2);
        at.and_then(|at| bytes.get(at..at + 2)).map_or(0, |b| u16::from_be_bytes([b[0], b[1]]))
    };
    let mut whole = String::new();
    for index in 0..=weight {
        whole.push_str(&format!("{:04}", group(index)));
    }
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let mut fraction = String::new();
    let mut index = weight + 1;
    while fraction.len() < scale {
        fraction.push_str(&if index < 0 {
            "0000".to_owned()
        } else {
            format!("{:04}", group(index))
        });
        index += 1;
    }
    fraction.truncate(scale);
    let minus = if sign == 0x4000 { "-" } else { "" };
    if scale == 0 { format!("{minus}{whole}") } else { format!("{minus}{whole}.{fraction}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_read_as_postgres_prints_them() {
        assert_eq!(instant(0, "+00"), "2000-01-01 00:00:00+00");
        assert_eq!(instant(-1, "+00"), "1999-12-31 23:59:59.999999+00");
        assert_eq!(instant(-730_120 * DAY_MICROS, "+00"), "0001-12-31 00:00:00+00 BC");
        assert_eq!(date(8_401), "2023-01-01");
        assert_eq!(date(-730_119), "0001-01-01");
        assert_eq!(date(-730_120), "0001-12-31 BC");
        assert_eq!(date(i32::MAX), "infinity");
    }

    #[test]
    fn numbers_read_with_their_scale() {
        // 12345.670: groups 1, 2345, 6700; weight 1; scale 3.
        let bytes = [0, 3, 0, 1, 0, 0, 0, 3, 0, 1, 9, 41, 26, 44];
        assert_eq!(numeric(&bytes), "12345.670");
        let zero = [0, 0, 0, 0, 0, 0, 0, 2];
        assert_eq!(numeric(&zero), "0.00");
    }
}
