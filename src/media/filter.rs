//! Definitions of smart lists: read, checked, and written as SQL whose values are all bound.
//!
//! `{"all": [...]}` or `{"any": [...]}` of conditions `{"field", "op", "value"}` and of such groups.
//! The function `interaction.filter_fault` of the schema refuses the same definitions.

use crate::json::Json;

/// Groups inside groups.
pub const DEPTH_MAX: usize = 16;

/// Conditions of one definition.
pub const CONDITIONS_MAX: usize = 256;

/// A checked definition.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    root: Node,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Condition(Condition),
}

#[derive(Debug, Clone, PartialEq)]
struct Condition {
    field: Field,
    op: Op,
    value: Json,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Field {
    /// A text column of `media.media`.
    Text(&'static str),
    Class,
    Creators,
    ReleaseDate,
    Attribute(String),
    /// What the list's owner says of it.
    Status,
    Rating,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Eq,
    Ne,
    In,
    Lt,
    Le,
    Gt,
    Ge,
    Contains,
    DescendantOf,
}

/// Reads a definition; the error is one sentence about the first thing that is wrong.
pub fn parse(definition: &Json) -> Result<Filter, String> {
    let mut conditions = 0;
    let root = node(definition, 0, &mut conditions)?;
    if matches!(root, Node::Condition(_)) {
        return Err("a definition is {\"all\": [...]} or {\"any\": [...]}".to_owned());
    }
    Ok(Filter { root })
}

fn node(json: &Json, depth: usize, conditions: &mut usize) -> Result<Node, String> {
    let Json::Object(members) = json else {
        return Err("a group or a condition is an object".to_owned());
    };
    if depth > DEPTH_MAX {
        return Err(format!("groups are nested more than {DEPTH_MAX} deep"));
    }
    if let [(name, Json::Array(inner))] = members.as_slice() {
        if inner.is_empty() {
            return Err("a group has at least one condition".to_owned());
        }
        let nodes = inner.iter().map(|inner| node(inner, depth + 1, conditions));
        let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
        return match &**name {
            b"all" => Ok(Node::All(nodes)),
            b"any" => Ok(Node::Any(nodes)),
            _ => Err("a group is `all` or `any`".to_owned()),
        };
    }
    *conditions += 1;
    if *conditions > CONDITIONS_MAX {
        return Err(format!("there are more than {CONDITIONS_MAX} conditions"));
    }
    let mut names: Vec<&[u8]> = members.iter().map(|(name, _)| &**name).collect();
    names.sort_unstable();
    if names != [&b"field"[..], b"op", b"value"] {
        return Err("a condition has `field`, `op` and `value`, a group `all` or `any`".to_owned());
    }
    condition(json).map(Node::Condition)
}

fn condition(json: &Json) -> Result<Condition, String> {
    let text = |name: &str| json.get(name).and_then(Json::as_str);
    let name = text("field").ok_or("a field's name is text")?;
    let field = field(name).ok_or_else(|| {
        format!("there is no field `{}`; there are {FIELDS}", name.escape_debug())
    })?;
    let op_name = text("op").ok_or("an op is text")?;
    let op = op(op_name)
        .ok_or_else(|| format!("there is no op `{}`; there are {OPS}", op_name.escape_debug()))?;
    if !field.allows(op) {
        return Err(format!("`{op_name}` cannot be asked of `{name}`"));
    }
    let value = json.get("value").cloned().unwrap_or(Json::Null);
    let fits = match (op, &value) {
        (Op::In, Json::Array(values)) => {
            !values.is_empty() && values.iter().all(|value| field.takes(op, value))
        }
        (Op::In, _) => false,
        (_, value) => field.takes(op, value),
    };
    if !fits {
        return Err(format!("`{name}` `{op_name}` takes another value: {}", field.wants(op)));
    }
    Ok(Condition { field, op, value })
}

const FIELDS: &str = "title, media_type, media_class, country_of_origin, creators, release_date, \
                      attributes.KEY, status, rating";
const OPS: &str = "eq, ne, in, lt, le, gt, ge, contains, descendant_of";

fn field(name: &str) -> Option<Field> {
    Some(match name {
        "title" => Field::Text("title"),
        "media_type" => Field::Text("media_type"),
        "country_of_origin" => Field::Text("country_of_origin"),
        "media_class" => Field::Class,
        "creators" => Field::Creators,
        "release_date" => Field::ReleaseDate,
        "status" => Field::Status,
        "rating" => Field::Rating,
        _ => match name.strip_prefix("attributes.") {
            Some(key) if !key.is_empty() && !key.contains('\0') => Field::Attribute(key.to_owned()),
            _ => return None,
        },
    })
}

fn op(name: &str) -> Option<Op> {
    Some(match name {
        "eq" => Op::Eq,
        "ne" => Op::Ne,
        "in" => Op::In,
        "lt" => Op::Lt,
        "le" => Op::Le,
        "gt" => Op::Gt,
        "ge" => Op::Ge,
        "contains" => Op::Contains,
        "descendant_of" => Op::DescendantOf,
        _ => return None,
    })
}

impl Field {
    fn allows(&self, op: Op) -> bool {
        match self {
            Self::Text(_) | Self::Attribute(_) => op != Op::DescendantOf,
            Self::Class => matches!(op, Op::Eq | Op::Ne | Op::In | Op::DescendantOf),
            Self::Creators => matches!(op, Op::Contains | Op::In),
            Self::Status => matches!(op, Op::Eq | Op::Ne | Op::In),
            Self::ReleaseDate | Self::Rating => !matches!(op, Op::Contains | Op::DescendantOf),
        }
    }

    /// Whether a value, of `in` each of them, is one to compare with.
    fn takes(&self, op: Op, value: &Json) -> bool {
        let is_text = value.as_str().is_some_and(|text| !text.contains('\0'));
        match self {
            Self::Text(_) | Self::Creators | Self::Status => is_text,
            Self::Class => value.as_str().is_some_and(is_class),
            Self::ReleaseDate => value.as_str().is_some_and(is_date),
            Self::Rating => is_number(value),
            Self::Attribute(_) => match op {
                Op::Lt | Op::Le | Op::Gt | Op::Ge => is_number(value) || is_text,
                _ => is_number(value) || is_text || value.as_bool().is_some(),
            },
        }
    }

    fn wants(&self, op: Op) -> &'static str {
        match (self, op) {
            (_, Op::In) => "a list of one or more",
            (Self::Class, _) => "labels of letters, digits and _ joined by dots",
            (Self::ReleaseDate, _) => "a date YYYY-MM-DD",
            (Self::Rating, _) => "a number",
            (Self::Attribute(_), _) => "a text, a number, true or false",
            _ => "a text",
        }
    }
}

/// Numbers as JSON has them, of a size that any server reads at once.
fn is_number(value: &Json) -> bool {
    let is_plain = |text: &str| {
        text.len() <= 40 && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'.'))
    };
    value.as_number().is_some_and(is_plain)
}

fn is_class(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=255).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    text.len() <= 4096 && text.split('.').all(is_label)
}

fn is_date(text: &str) -> bool {
    text.len() == 10
        && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with("0000")
        && text.parse::<jiff::civil::Date>().is_ok()
}

/// A WHERE clause over `media.media` as `m` and the owner's row of it as `tracked`, and its values,
/// bound as text from `$first` on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// SQL of the type boolean; NULL is false.
    pub sql: String,
    /// What `$first`, `$first + 1`, ... are.
    pub values: Vec<String>,
}

impl Filter {
    /// Its clause, with values from `$first` on.
    #[must_use]
    pub fn clause(&self, first: usize) -> Clause {
        let mut writer = Writer { first, values: Vec::new() };
        let sql = writer.node(&self.root);
        Clause { sql, values: writer.values }
    }
}

struct Writer {
    first: usize,
    values: Vec<String>,
}

impl Writer {
    fn bind(&mut self, value: &str) -> String {
        self.values.push(value.to_owned());
        format!("${}::text", self.first + self.values.len() - 1)
    }

    /// A text's characters, anything else as JSON.
    fn bind_json(&mut self, value: &Json) -> String {
        let text = match value.as_str() {
            Some(text) => text.to_owned(),
            None => String::from_utf8_lossy(&value.to_source_text()).into_owned(),
        };
        self.bind(&text)
    }

    fn node(&mut self, node: &Node) -> String {
        let (nodes, word) = match node {
            Node::Condition(condition) => return self.condition(condition),
            Node::All(nodes) => (nodes, " AND "),
            Node::Any(nodes) => (nodes, " OR "),
        };
        let parts: Vec<String> = nodes.iter().map(|node| self.node(node)).collect();
        format!("({})", parts.join(word))
    }

    fn condition(&mut self, condition: &Condition) -> String {
        let Condition { field, op, value } = condition;
        if *op == Op::In {
            let values: Vec<&Json> = value.iter().collect();
            let op = if *field == Field::Creators { Op::Contains } else { Op::Eq };
            let parts: Vec<String> =
                values.iter().map(|value| self.comparison(field, op, value)).collect();
            return format!("({})", parts.join(" OR "));
        }
        self.comparison(field, *op, value)
    }

    fn comparison(&mut self, field: &Field, op: Op, value: &Json) -> String {
        if let Field::Attribute(key) = field {
            return self.attribute(key, op, value);
        }
        let value = self.bind_json(value);
        let (column, value) = match field {
            Field::Text(column) => (format!("m.{column}"), value),
            Field::Class => ("m.media_class".to_owned(), format!("{value}::public.ltree")),
            Field::Creators => return format!("coalesce({value} = ANY (m.creators), false)"),
            Field::ReleaseDate => ("m.release_date".to_owned(), format!("{value}::date")),
            Field::Status => ("tracked.status".to_owned(), value),
            Field::Rating => ("tracked.rating".to_owned(), format!("{value}::numeric")),
            Field::Attribute(_) => return String::new(),
        };
        match op {
            Op::Contains => format!("coalesce(strpos(lower({column}), lower({value})) > 0, false)"),
            Op::DescendantOf => format!("coalesce({column} OPERATOR(public.<@) {value}, false)"),
            Op::Ne => format!("({column} IS DISTINCT FROM {value})"),
            _ => format!("coalesce({column} {} {value}, false)", op.sign()),
        }
    }

    /// A missing attribute is unequal to everything and in no order with anything; a text is
    /// compared by its characters, a number as a number.
    fn attribute(&mut self, key: &str, op: Op, value: &Json) -> String {
        let key = self.bind(key);
        let is_number = value.as_number().is_some();
        let json = self.bind(&String::from_utf8_lossy(&value.to_source_text()));
        let there = format!("(m.attributes -> {key})");
        match op {
            Op::Eq => format!("(m.attributes @> jsonb_build_object({key}, {json}::jsonb))"),
            Op::Ne => format!("NOT coalesce({there} = {json}::jsonb, false)"),
            Op::Contains => {
                let text = self.bind_json(value);
                format!(
                    "CASE jsonb_typeof({there}) WHEN 'array' THEN {there} @> {json}::jsonb \
                     WHEN 'string' THEN strpos(lower(m.attributes ->> {key}), lower({text})) > 0 \
                     ELSE false END"
                )
            }
            _ if is_number => format!(
                "CASE WHEN jsonb_typeof({there}) = 'number' \
                 THEN (m.attributes ->> {key})::numeric {} {json}::numeric ELSE false END",
                op.sign()
            ),
            _ => {
                let text = self.bind_json(value);
                format!(
                    "CASE WHEN jsonb_typeof({there}) = 'string' \
                     THEN (m.attributes ->> {key}) COLLATE \"C\" {} {text} ELSE false END",
                    op.sign()
                )
            }
        }
    }
}

impl Op {
    fn sign(self) -> &'static str {
        match self {
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
            _ => "=",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Filter, String> {
        parse(&crate::json::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn values_are_bound_never_written() {
        let evil = "x'); DROP TABLE media.media; --";
        for (field, op) in [
            ("title", "eq"),
            ("title", "contains"),
            ("creators", "contains"),
            ("attributes.k", "eq"),
            ("attributes.k", "lt"),
            ("attributes.x'); DROP TABLE media.media; --", "contains"),
            ("status", "ne"),
        ] {
            let text = format!(r#"{{"any":[{{"field":"{field}","op":"{op}","value":"{evil}"}}]}}"#);
            let clause = parsed(&text).unwrap().clause(2);
            assert!(!clause.sql.contains("DROP"), "{}", clause.sql);
            assert!(clause.values.iter().any(|value| value.contains(evil)));
            assert!(clause.sql.contains("$2::text"), "{}", clause.sql);
        }
    }
}
