//! Drift in whole rows, in the source and in what backfill recorded; and changes that are none.

use std::collections::BTreeMap;

use crate::parity::Kind;
use crate::parity::self_test::case::{Case, Finding};
use crate::parity::self_test::fixture::{Column, Family, PLAIN, ROWS};
use crate::parity::self_test::weakened::Weak;

/// A table and how its rows are named.
struct Rows {
    table: &'static str,
    /// Condition that picks row 15.
    one: &'static str,
    /// Its key.
    key: &'static str,
    /// Assignment that gives it another key, and that key.
    other: (&'static str, &'static str),
    is_unique: bool,
}

const TABLES: [Rows; 4] = [
    Rows {
        table: "everything",
        one: "id = 15",
        key: "id=15",
        other: ("id = 99", "id=99"),
        is_unique: true,
    },
    Rows {
        table: "orders",
        one: "order_no = 15",
        key: "order_no=15",
        other: ("order_no = -15", "order_no=-15"),
        is_unique: true,
    },
    Rows {
        table: "archive",
        one: "order_no = 1015",
        key: "order_no=1015",
        other: ("order_no = 2020", "order_no=2020"),
        is_unique: true,
    },
    Rows {
        table: "log",
        one: "line = 'line 15'",
        key: "at=2026-07-01 12:00:15+00,line=line 15",
        other: ("line = 'line 15 '", "at=2026-07-01 12:00:15+00,line=line 15 "),
        is_unique: false,
    },
];

fn surplus(table: &str, rows: i64) -> BTreeMap<String, i64> {
    [(format!("public.{table}"), rows)].into()
}

/// Statements around a plant that the primary key would refuse.
fn without_key(table: &str, is_unique: bool) -> (String, String) {
    if !is_unique {
        return (String::new(), String::new());
    }
    let column = if table == "everything" { "id" } else { "order_no" };
    (
        format!("ALTER TABLE {table} DROP CONSTRAINT {table}_pkey; "),
        format!("ALTER TABLE {table} ADD PRIMARY KEY ({column})"),
    )
}

/// Rows lost, added, doubled, under another key.
pub(super) fn cases() -> Vec<Case> {
    TABLES.iter().flat_map(of_table).chain(between_tables()).collect()
}

fn of_table(rows: &Rows) -> Vec<Case> {
    let Rows { table, one, key, other, is_unique } = rows;
    let case = |class, plant: String, kinds: &[(Kind, &str)], more: i64| Case {
        class,
        place: (*table).to_owned(),
        plant,
        expected: kinds.iter().map(|(kind, key)| Finding::row(*kind, table, *key)).collect(),
        surplus: if more == 0 { BTreeMap::new() } else { surplus(table, more) },
        ..Case::default()
    };
    let (set, other_key) = other;
    let copy = |condition: &str| {
        format!("INSERT INTO {table} SELECT * FROM pristine.{table} WHERE {condition}")
    };
    let moved = format!("UPDATE {table} SET {set} WHERE {one}");
    let (unlock, lock) = without_key(table, *is_unique);
    let with_undo = |case: Case| Case { undo: lock.clone(), ..case };
    let (lost, extra) = ((Kind::Missing, *key), (Kind::Extra, *other_key));
    let double = (Kind::Duplicate, *key);
    vec![
        case("row dropped", format!("DELETE FROM {table} WHERE {one}"), &[lost], -1),
        case("key changed", moved.clone(), &[lost, extra], 0),
        Case {
            stands_alone: true,
            ..case("row added", format!("{moved}; {}", copy(one)), &[extra], 1)
        },
        with_undo(case("row duplicated", format!("{unlock}{}", copy(one)), &[double], 1)),
        with_undo(case(
            "row duplicated",
            format!("{unlock}{0}; {0}; {0}", copy(one)),
            &[double],
            3,
        )),
    ]
}

fn between_tables() -> Vec<Case> {
    let row = |kind, table, key: &str| Finding::row(kind, table, key);
    let whole = |table: &str, key: &dyn Fn(i64) -> String| -> Vec<Finding> {
        (1..=ROWS).map(|n| Finding::row(Kind::Missing, table, key(n))).collect()
    };
    let mut cases = Vec::new();
    for (from, into, key) in [("orders", "archive", 9), ("archive", "orders", 1003)] {
        let finding = |kind, table| row(kind, table, &format!("order_no={key}"));
        cases.push(Case {
            class: "row moved to another table",
            place: format!("{from} to {into}"),
            plant: format!(
                "WITH gone AS (DELETE FROM {from} WHERE order_no = {key} RETURNING *) \
                 INSERT INTO {into} SELECT * FROM gone"
            ),
            expected: [finding(Kind::Missing, from), finding(Kind::Extra, into)].into(),
            surplus: surplus(from, -1).into_iter().chain(surplus(into, 1)).collect(),
            ..Case::default()
        });
    }
    for (order, customer) in [(6, "c1"), (7, "c16"), (8, "c9")] {
        cases.push(Case {
            class: "foreign key re-pointed",
            place: "orders.customer".to_owned(),
            plant: format!("UPDATE orders SET customer = '{customer}' WHERE order_no = {order}"),
            expected: [Finding::changed("orders", format!("order_no={order}"), "customer")].into(),
            ..Case::default()
        });
    }
    cases.push(Case {
        class: "row dropped",
        place: "archive, all rows".to_owned(),
        plant: "DELETE FROM archive".to_owned(),
        expected: whole("archive", &|n| format!("order_no={}", n + 1000)).into_iter().collect(),
        surplus: surplus("archive", -ROWS),
        stands_alone: true,
        ..Case::default()
    });
    cases.push(Case {
        class: "row lost, another doubled",
        place: "log".to_owned(),
        plant: "DELETE FROM log WHERE line = 'line 3'; INSERT INTO log SELECT * FROM pristine.log \
                WHERE line = 'line 4'"
            .to_owned(),
        expected: [
            row(Kind::Missing, "log", "at=2026-07-01 12:00:03+00,line=line 3"),
            row(Kind::Duplicate, "log", "at=2026-07-01 12:00:04+00,line=line 4"),
        ]
        .into(),
        ..Case::default()
    });
    cases.push(Case {
        class: "key changed",
        place: "orders, keys of two rows swapped".to_owned(),
        plant: "UPDATE orders SET order_no = -1 WHERE order_no = 4; \
                UPDATE orders SET order_no = 4 WHERE order_no = 5; \
                UPDATE orders SET order_no = 5 WHERE order_no = -1"
            .to_owned(),
        expected: ["order_no=4", "order_no=5"]
            .into_iter()
            .flat_map(|key| {
                ["customer", "total", "note"].map(|name| Finding::changed("orders", key, name))
            })
            .collect(),
        ..Case::default()
    });
    cases
}

/// Changes of the source after the backfill, and lost records of what became of its records.
pub(super) fn elsewhere() -> Vec<Case> {
    let source = |place: &str, statement: &str, finding: Finding, more: i64| Case {
        class: "source changed after the backfill",
        place: place.to_owned(),
        in_source: statement.to_owned(),
        surplus: if more == 0 { BTreeMap::new() } else { surplus("orders", more) },
        expected: [finding].into(),
        ..Case::default()
    };
    let record = |table: &str, place: &str| Case {
        class: "record of a reject or change lost",
        place: place.to_owned(),
        plant: format!("UPDATE toolkit.{table} SET pack = pack || '-'"),
        undo: format!("UPDATE toolkit.{table} SET pack = rtrim(pack, '-')"),
        expected: [Finding::row(Kind::Unaccounted, "log", "")].into(),
        ..Case::default()
    };
    let extra = Finding::row(Kind::Extra, "orders", "order_no=5");
    let missing = Finding::row(Kind::Missing, "orders", "order_no=77");
    let changed = |id: i64, column| Finding::changed("everything", format!("id={id}"), column);
    vec![
        source("orders", "DELETE FROM orders WHERE order_no = 5", extra, 1),
        source("orders", "INSERT INTO orders VALUES (77, 'c1', '1', 'new')", missing, -1),
        source(
            "everything.t",
            "UPDATE everything SET t = t || ' ' WHERE id = 13",
            changed(13, "t"),
            0,
        ),
        source("everything.t", "UPDATE everything SET t = NULL WHERE id = 2", changed(2, "t"), 0),
        source(
            "everything.i8",
            "UPDATE everything SET i8 = i8 + 1 WHERE id = 7",
            changed(7, "i8"),
            0,
        ),
        record("reject", "toolkit.reject"),
        record("ledger", "toolkit.ledger"),
    ]
}

/// Pairs of changes that a weaker way of comparing would not see.
pub(super) fn cancelling() -> Vec<Case> {
    let case = |weak, table: &str, plant: &str, expected: Vec<Finding>| Case {
        class: "cancels out under a weak hash",
        place: format!("{table}, {}", weak_name(weak)),
        plant: plant.to_owned(),
        expected: expected.into_iter().collect(),
        weak: Some((weak, format!("public.{table}"))),
        ..Case::default()
    };
    let (unlock, lock) = without_key("archive", true);
    let customer = |key: &str, column| Finding::changed("customers", key, column);
    let twice = Case {
        surplus: surplus("archive", 2),
        undo: lock,
        ..case(
            Weak::Xor,
            "archive",
            &format!(
                "{unlock}INSERT INTO archive SELECT 3000, 'c1', 1, 'twice' FROM \
                 generate_series(1, 2)"
            ),
            vec![Finding::row(Kind::Extra, "archive", "order_no=3000")],
        )
    };
    let swap = "UPDATE customers c SET name = o.name FROM pristine.customers o \
                WHERE (c.id, o.id) IN (('c3', 'c4'), ('c4', 'c3'))";
    vec![
        twice,
        case(
            Weak::ColumnSums,
            "customers",
            swap,
            vec![customer("id=c3", "name"), customer("id=c4", "name")],
        ),
        case(
            Weak::NoLengths,
            "customers",
            "UPDATE customers SET name = name || left(city, 1), city = substr(city, 2) \
             WHERE id = 'c9'",
            vec![customer("id=c9", "name"), customer("id=c9", "city")],
        ),
        case(
            Weak::NullAsEmpty,
            "everything",
            "UPDATE everything SET t = NULL WHERE id = 2",
            vec![Finding::changed("everything", "id=2", "t")],
        ),
        // The plant is put together when the rows' digests are known.
        case(Weak::EightBits, "customers", "", vec![customer("id=c9", "name")]),
    ]
}

fn weak_name(weak: Weak) -> &'static str {
    match weak {
        Weak::Xor => "digests folded by XOR",
        Weak::EightBits => "digests of eight bits",
        Weak::ColumnSums => "digests of values, not of rows",
        Weak::NoLengths => "values without their lengths",
        Weak::NullAsEmpty => "NULL as ''",
    }
}

/// Changes that are no difference.
pub(super) fn harmless(columns: &[Column]) -> Vec<Case> {
    harmless_values(columns).into_iter().chain(harmless_elsewhere()).collect()
}

fn no_drift(class: &'static str, place: &str, plant: &str) -> Case {
    Case { class, place: place.to_owned(), plant: plant.to_owned(), ..Case::default() }
}

fn harmless_values(columns: &[Column]) -> Vec<Case> {
    let case = no_drift;
    let mut cases = vec![case("nothing", "all tables", "")];
    for column in columns {
        let name = column.name;
        let plant = format!("UPDATE everything SET {name} = {name}");
        cases.push(case("same value written again", &format!("everything.{name}"), &plant));
        if column.family == Family::Numeric {
            let plant = format!("UPDATE everything SET {name} = {name}::numeric(30,10)");
            cases.push(case("numeric scale", &format!("everything.{name}"), &plant));
        }
    }
    for table in ["orders", "archive"] {
        let plant = format!("UPDATE {table} SET total = total * 1.000");
        cases.push(case("numeric scale", &format!("{table}.total"), &plant));
    }
    for spelling in [
        r#"{"s":"word 13","a":[1,2],"n":13}"#,
        r#"{ "a" : [ 1 , 2 ] , "n":13, "s" : "word 13" }"#,
        r#"{"n":12,"n":13,"s":"","s":"word 13","a":[1,2]}"#,
        r#"{"n":13,"s":"\u0077ord 13","a":[1,2]}"#,
        r#"{"n":1.3e1,"s":"word 13","a":[1,2]}"#,
    ] {
        let plant = format!("UPDATE everything SET jb = '{spelling}' WHERE id = {PLAIN}");
        cases.push(case("jsonb key order, spelling", "everything.jb", &plant));
    }
    for (column, value) in [
        ("tz", "(tz AT TIME ZONE 'Asia/Tokyo') AT TIME ZONE 'Asia/Tokyo'"),
        ("tz", "(replace(tz::text, '+00', 'Z'))::timestamptz"),
        ("u", "upper(u::text)::uuid"),
        ("raw", "encode(raw, 'escape')::bytea"),
        ("iv", "make_interval(days => extract(day FROM iv)::int, hours => 2, secs => 184.5)"),
    ] {
        let place = format!("everything.{column}");
        let plant = format!("UPDATE everything SET {column} = {value} WHERE id > 1");
        cases.push(case("same value spelt otherwise", &place, &plant));
    }
    cases
}

/// Of whole tables, and of the source.
fn harmless_elsewhere() -> Vec<Case> {
    let case = no_drift;
    let mut cases = Vec::new();
    let shuffled = "DELETE FROM log; INSERT INTO log SELECT * FROM pristine.log ORDER BY line DESC";
    cases.push(case("order of rows on disk", "log", shuffled));
    cases.push(case(
        "order of rows on disk",
        "everything",
        "CLUSTER everything USING everything_pkey",
    ));
    cases.push(case("order of rows on disk", "archive", "VACUUM FULL archive"));
    cases.push(Case {
        undo: "ALTER TABLE archive DROP COLUMN added".to_owned(),
        ..case(
            "column the pack does not map",
            "archive",
            "ALTER TABLE archive ADD added int DEFAULT 7",
        )
    });
    for (place, statement) in [
        ("all tables", "VACUUM"),
        ("everything.num", "UPDATE everything SET num = num || '00' WHERE id > 4"),
        ("everything.jb", "UPDATE everything SET jb = ' ' || jb || ' ' WHERE id > 4"),
        ("everything.u", "UPDATE everything SET u = upper(u)"),
    ] {
        let case = case("source rewritten, same values", place, "");
        cases.push(Case { in_source: statement.to_owned(), ..case });
    }
    cases
}
