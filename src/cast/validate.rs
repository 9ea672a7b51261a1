//! A column's cast, checked before the first value.

use std::sync::Arc;

use super::array::element_oid;
use super::column::ColumnCast;
use super::field::put_bytes;
use super::note::{MixedUnits, Policy};
use super::options::{CastName, CastOptions, EmptyText, JsonNull};
use super::redact::Redactor;
use super::timestamp::{Reading, Zone};
use super::value::{PgType, Value};
use crate::error::{Error, ErrorKind, Result};

/// Checks the combination and compiles zone, unit, element and default.
pub(super) fn compile(
    column: &str,
    ty: PgType,
    nullable: bool,
    options: CastOptions,
    redactor: Option<Arc<Redactor>>,
) -> Result<ColumnCast> {
    let refuse = |what: String| {
        Err(Error::new(ErrorKind::Pack, format!("column {column} ({}): {what}", ty.name())))
    };
    if let Some(what) = fault_of(&ty, nullable, &options) {
        return refuse(what);
    }
    let zone = match options.zone.as_deref() {
        None => None,
        Some(name) => match Zone::named(name) {
            Some(zone) => Some(zone),
            None => return refuse(format!("there is no time zone {name:?}")),
        },
    };
    let epoch = options.cast.and_then(CastName::epoch_unit);
    let reading = Reading {
        zone,
        unit: epoch.or(options.unit),
        only_epoch: epoch.is_some(),
        keeps_mixed: options.on.mixed_units == MixedUnits::Keep,
    };
    let element = match &ty {
        PgType::Array(element) => {
            let inner = CastOptions { default: None, empty: None, ..options.clone() };
            let inner = compile(column, (**element).clone(), true, inner, redactor.clone())?;
            Some(Box::new(inner))
        }
        _ => None,
    };
    let default = options.default.clone();
    let namespace = options.namespace.as_deref().and_then(|text| uuid::Uuid::try_parse(text).ok());
    let mut cast = ColumnCast {
        column: column.to_owned(),
        ty,
        nullable,
        options,
        redactor,
        spelling: None,
        reading,
        element,
        default_field: None,
        namespace,
        planted: None,
    };
    if let Some(text) = default {
        cast.default_field = Some(default_field(&cast, &text)?);
    }
    Ok(cast)
}

/// The first thing that cannot work.
fn fault_of(ty: &PgType, nullable: bool, options: &CastOptions) -> Option<String> {
    let scalar = match ty {
        PgType::Array(element) => element,
        _ => ty,
    };
    if options.infer_unit && matches!(ty, PgType::Array(_)) {
        return Some("the unit of an array's elements must be declared".to_owned());
    }
    type_fault(ty)
        .or_else(|| cast_fault(scalar, options))
        .or_else(|| policy_fault(scalar, options))
        .or_else(|| null_fault(ty, nullable, options))
}

fn type_fault(ty: &PgType) -> Option<String> {
    match ty {
        PgType::Array(element) if element_oid(element).is_none() => Some(
            "arrays are supported of one dimension and of built-in element types; use a \
             transform, or a text column that SQL casts"
                .to_owned(),
        ),
        PgType::Enum { labels, .. } if labels.is_empty() => {
            Some("the enum has no labels".to_owned())
        }
        PgType::Numeric(Some((precision, _))) if !(1..=1000).contains(precision) => {
            Some("numeric's precision is 1 to 1000".to_owned())
        }
        _ => None,
    }
}

fn cast_fault(ty: &PgType, options: &CastOptions) -> Option<String> {
    let instant = matches!(ty, PgType::Timestamptz | PgType::Timestamp);
    let counted = instant || *ty == PgType::Date;
    let fits = match options.cast {
        None => true,
        Some(CastName::Text | CastName::JsonText) => {
            matches!(ty, PgType::Text(_) | PgType::Other(_))
        }
        Some(CastName::UuidBytes | CastName::UuidV5) => *ty == PgType::Uuid,
        Some(CastName::EpochS | CastName::EpochMs | CastName::EpochUs) => instant,
        Some(CastName::IntervalSeconds) => *ty == PgType::Interval,
        Some(CastName::ByteaHex | CastName::ByteaText) => *ty == PgType::Bytea,
    };
    if !fits {
        return options.cast.map(|cast| format!("the cast {cast:?} is for another type"));
    }
    let is_named = options.cast == Some(CastName::UuidV5);
    match &options.namespace {
        None if is_named => return Some("the cast uuid_v5 needs a `namespace`, a uuid".to_owned()),
        Some(_) if !is_named => return Some("a namespace is for the cast uuid_v5".to_owned()),
        Some(text) if uuid::Uuid::try_parse(text).is_err() => {
            return Some(format!("the namespace {text:?} is no uuid"));
        }
        _ => {}
    }
    if options.zone.is_some() && *ty != PgType::Timestamptz {
        return Some("a zone is for timestamptz only".to_owned());
    }
    if (options.unit.is_some() || options.infer_unit) && !counted {
        return Some("a unit is for timestamptz, timestamp and date only".to_owned());
    }
    let epoch = options.cast.and_then(CastName::epoch_unit);
    if epoch.is_some() && options.infer_unit {
        return Some("the cast names a unit: there is nothing to infer".to_owned());
    }
    if epoch.is_some() && options.unit.is_some() && epoch != options.unit {
        return Some("the cast and the unit name different units".to_owned());
    }
    if options.json_null == JsonNull::SqlNull && !matches!(ty, PgType::Json | PgType::Jsonb) {
        return Some("json_null is for json and jsonb only".to_owned());
    }
    let labels = match ty {
        PgType::Enum { labels, .. } => labels.as_slice(),
        _ if options.aliases.is_empty() => return None,
        _ => return Some("aliases are for enums only".to_owned()),
    };
    options.aliases.iter().find_map(|(alias, label)| {
        if labels.contains(alias) {
            Some(format!("the alias {alias:?} is itself a label"))
        } else if labels.contains(label) {
            None
        } else {
            Some(format!("the alias {alias:?} names {label:?}, which is not a label"))
        }
    })
}

fn policy_fault(ty: &PgType, options: &CastOptions) -> Option<String> {
    let holds_text =
        matches!(ty, PgType::Text(_) | PgType::Json | PgType::Jsonb | PgType::Other(_));
    if !options.redact && !holds_text {
        return Some(
            "redact = false is for text, json and jsonb: nothing else is redacted".to_owned(),
        );
    }
    if options.on.unreadable == Policy::Replace {
        return Some("unreadable allows reject and null only".to_owned());
    }
    if options.on.orphan == Policy::Replace {
        return Some("orphan allows reject and null only: nothing can replace a row".to_owned());
    }
    let integer = matches!(ty, PgType::Int2 | PgType::Int4 | PgType::Int8);
    if integer && options.on.nan == Policy::Replace {
        return Some("an integer has no replacement for NaN".to_owned());
    }
    None
}

/// Policies that would store SQL NULL in a column without NULL. Inside documents `null` is JSON
/// null, so there only `unreadable` counts.
fn null_fault(ty: &PgType, nullable: bool, options: &CastOptions) -> Option<String> {
    if nullable {
        return None;
    }
    let on = &options.on;
    let document = matches!(ty, PgType::Json | PgType::Jsonb);
    let policies = [
        ("nul", on.nul, document),
        ("nan", on.nan, document),
        ("invalid_utf8", on.invalid_utf8, document),
        ("overflow", on.overflow, document),
        ("too_long", on.too_long, document),
        ("unreadable", on.unreadable, false),
        ("orphan", on.orphan, false),
    ];
    let found = policies.iter().find(|(_, policy, inner)| *policy == Policy::Null && !inner);
    if let Some((name, ..)) = found {
        return Some(format!("the policy {name} = \"null\" needs a nullable column"));
    }
    (options.empty == Some(EmptyText::Null))
        .then(|| "empty = \"null\" needs a nullable column".to_owned())
}

/// The field of a default, read as Postgres reads a literal of the type: by the natural cast, with
/// every policy `reject`.
fn default_field(cast: &ColumnCast, text: &str) -> Result<Vec<u8>> {
    let mut natural = cast.clone();
    let zone = natural.options.zone.take();
    natural.options = CastOptions { zone, redact: false, ..CastOptions::default() };
    natural.namespace = None;
    natural.reading.unit = None;
    natural.reading.only_epoch = false;
    if natural.ty == PgType::Bytea && text.starts_with("\\x") {
        natural.options.cast = Some(CastName::ByteaHex);
    } else if natural.ty == PgType::Bytea {
        natural.options.cast = Some(CastName::ByteaText);
    }
    let literal = if text == "{}" && cast.element.is_some() { "[]" } else { text };
    let mut field = Vec::new();
    let bad = |detail: &str| {
        let place = format!("column {} ({})", cast.column(), cast.ty().name());
        Error::new(
            ErrorKind::Pack,
            format!("{place}: the default is not a value of the type: {detail}"),
        )
    };
    if matches!(natural.ty, PgType::Text(None) | PgType::Other(_)) {
        put_bytes(&mut field, text.as_bytes()).map_err(|fault| bad(&fault.what))?;
        return Ok(field);
    }
    let mut notes = Vec::new();
    natural
        .encode(Value::Text(literal.as_bytes()), &mut field, &mut notes)
        .map_err(|refusal| bad(&refusal.detail))?;
    Ok(field)
}
