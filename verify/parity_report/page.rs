//! The page: verdict first, every difference with its characters marked, nothing from outside.

use super::{report, tampered, untouched};
use crate::support::markup::{Element, elements};
use crate::support::stdout;

fn of_class<'e>(all: &'e [Element], class: &str) -> Vec<&'e Element> {
    all.iter().filter(|element| element.has_class(class)).collect()
}

fn by_id<'e>(all: &'e [Element], id: &str) -> &'e Element {
    all.iter().find(|element| element.attribute("id") == id).unwrap_or_else(|| panic!("no #{id}"))
}

#[tokio::test]
async fn the_page_says_the_verdict_first_and_shows_every_difference() {
    let world = tampered().await;
    let html = report(&world, 1, "out.html", &[]);
    let all = elements(&html);
    let order = ["verdict", "next", "tables", "streams", "differences", "history", "not-checked"];
    let places: Vec<usize> = order.iter().map(|id| by_id(&all, id).at).collect();
    assert!(places.is_sorted(), "{order:?} at {places:?}");
    let headline = all.iter().find(|element| element.name == "h1").unwrap();
    assert!(headline.text.ends_with("10 rows differ in 1 table"), "{}", headline.text);
    let first_table = all.iter().find(|element| element.name == "table").unwrap();
    assert!(headline.at < first_table.at);

    let rows = of_class(&all, "row");
    assert_eq!(rows.len(), 10);
    let keys = ["a", "b", "c", "d", "lines", "long", "html", "<script>top.pwned=1</script>"];
    for key in keys {
        let key = format!("id {key} app.sqlite, rowid");
        let named = rows.iter().filter(|row| row.text.starts_with(&key));
        assert_eq!(named.count(), 1, "{key}: {rows:#?}");
    }
    assert_eq!(of_class(&all, "missing").iter().filter(|e| e.name == "ul").count(), 1);
    assert!(rows.iter().any(|row| row.text.starts_with("id extra' onclick='x")), "{rows:#?}");
    for marked in [
        "Gr\u{fc}<mark>\u{df}</mark>e",
        "Gr\u{fc}<mark>ss</mark>e",
        "two words<mark><i title=\"space\">\u{b7}</i></mark>",
        "2.<mark>2</mark>5",
        "caf<mark>e<i class=\"code\">\u{25cc}\u{301} U+0301</i></mark>",
        "<span class=\"none\">NULL, no value</span>",
        "<span class=\"none\">empty text</span>",
        "a<mark><i class=\"code\" title=\"U+000D\">CR</i></mark>",
        ">RLO</i>",
        ">ZWSP</i>",
        "<mark>XY</mark>",
    ] {
        assert!(html.contains(marked), "no {marked}");
    }
    assert!(html.contains("The source has: U+00E9"));
    assert!(html.contains("Postgres holds: U+0065 U+0301"));
    assert!(by_id(&all, "next").text.contains("toolkit repair plan --run "));
}

#[tokio::test]
async fn the_page_fetches_nothing_and_no_value_becomes_markup() {
    let world = tampered().await;
    let html = report(&world, 1, "out.html", &[]);
    for outside in ["http://", "https://", "//", "url(", "@import", "srcset"] {
        let found = html.replace("// Finding one", "").contains(outside);
        assert!(!found, "{outside}");
    }
    assert!(!html.contains(['\u{202e}', '\u{200b}']), "what cannot be seen is written out");
    assert!(html.len() < 200_000, "values of 2 MB are shortened: {} bytes", html.len());
    let all = elements(&html);
    let known = "html head meta title style body main section p b h1 h2 h3 h4 span ul li a ol code \
                 div table thead tbody tfoot tr th td small form label input output article header \
                 mark i svg line g rect circle text details summary dl dt dd script";
    for element in &all {
        assert!(known.split_whitespace().any(|name| name == element.name), "{}", element.name);
        for (name, value) in &element.attributes {
            assert!(!name.starts_with("on") && name != "src" && name != "style", "{name}={value}");
            assert!(name != "href" || value.starts_with('#'), "{value}");
        }
    }
    assert_eq!(all.iter().filter(|element| element.name == "script").count(), 1);
    let policy = all.iter().find(|e| e.attribute("http-equiv") == "Content-Security-Policy");
    let policy = policy.expect("a content security policy").attribute("content");
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
}

#[tokio::test]
async fn what_was_not_checked_is_named() {
    let world = tampered().await;
    let html = report(&world, 1, "out.html", &[]);
    let all = elements(&html);
    let text = &by_id(&all, "not-checked").text;
    for part in [
        "Streams without a source",
        "extras",
        "2 rows of public.logs are in no slice",
        "public.notes: checked_by",
        "Never checked: triggers",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    assert!(by_id(&all, "verdict").text.contains("Not checked: columns the pack does not fill; "));
    assert!(by_id(&all, "streams").text.contains("extras? not checked: no source was found"));

    let html = report(&world, 1, "sample.html", &["--level", "sample", "--n", "20", "--seed", "1"]);
    let all = elements(&html);
    let text = &by_id(&all, "not-checked").text;
    assert!(text.contains("0 of 20 sampled rows differ: fewer than 13.91 % of all"), "{text}");
    let again = &by_id(&all, "provenance").text;
    assert!(again.contains("--level sample --n 20 --seed 1"), "{again}");

    let html = report(&world, 0, "some.html", &["--stream", "logs"]);
    let all = elements(&html);
    let text = &by_id(&all, "not-checked").text;
    assert!(text.contains("Only these streams"), "{text}");
}

#[tokio::test]
async fn verdicts_are_words_a_newcomer_understands() {
    let world = untouched().await;
    let headline = |html: &str| {
        let all = elements(html);
        all.iter().find(|element| element.name == "h1").unwrap().text.clone()
    };
    let counts = ["--level", "counts"];
    assert_eq!(headline(&report(&world, 0, "o.html", &[])), "\u{2713} All 509 rows are equal");
    assert_eq!(
        headline(&report(&world, 0, "o.html", &counts)),
        "\u{2713} Row counts agree: 509 rows on both sides"
    );
    let sample = report(&world, 0, "o.html", &["--level", "sample", "--n", "5"]);
    assert_eq!(headline(&sample), "\u{2713} No difference in 10 rows that were sampled");
    world.sql("DELETE FROM notes WHERE id = 'a'").await;
    let one = report(&world, 1, "o.html", &[]);
    assert_eq!(headline(&one), "\u{2717} 1 row differs in 1 table");
    assert_eq!(
        headline(&report(&world, 1, "o.html", &counts)),
        "\u{2717} Row counts of 1 table do not agree"
    );
    world.sql("DELETE FROM notes; DELETE FROM logs").await;
    let none = report(&world, 1, "o.html", &["--max-differences", "3"]);
    assert_eq!(headline(&none), "\u{2717} 509 rows differ in 2 tables");
    assert!(none.contains("509 rows differ; 6 of them are named."), "what is not named is said");
}

#[tokio::test]
async fn the_history_shows_every_verification_of_the_pack() {
    let world = untouched().await;
    report(&world, 0, "1.html", &[]);
    world.sql("DELETE FROM logs WHERE id <= 100").await;
    report(&world, 1, "2.html", &[]);
    world.backfill().await;
    let html = report(&world, 0, "3.html", &[]);
    let all = elements(&html);
    let history = by_id(&all, "history");
    assert!(history.text.contains("3 verifications of this pack: 2 clean, 1 with differences"));
    let marks: Vec<&str> = all
        .iter()
        .filter(|element| matches!(element.name.as_str(), "circle" | "rect"))
        .map(|element| element.name.as_str())
        .collect();
    assert_eq!(marks, ["circle", "rect", "circle"]);
    let titles: Vec<&str> = all
        .iter()
        .filter(|element| element.name == "title" && element.at > history.at)
        .map(|element| element.text.as_str())
        .collect();
    assert!(titles[1].ends_with("100 rows differing, level full"), "{titles:?}");
    assert!(history.text.contains("this run"));
}

#[tokio::test]
async fn a_stored_verification_gives_the_same_page_later() {
    let world = tampered().await;
    let then = report(&world, 1, "then.html", &[]);
    world.sql("DELETE FROM notes").await;
    let later = world.database.folder().join("later.html");
    let done = world.run(&[
        "--format",
        "json",
        "parity",
        "report",
        "--run",
        "latest",
        "--report",
        later.to_str().unwrap(),
    ]);
    assert_eq!(done.status.code(), Some(1));
    assert!(std::fs::read_to_string(later).unwrap() == then);
    let json: serde_json::Value = serde_json::from_str(&stdout(&done)).unwrap();
    assert_eq!(json["differing_rows"], 10);
    let none = world.run(&["parity", "report", "--run", "nothing"]);
    assert_eq!(none.status.code(), Some(2));
}
