//! Documents read piece by piece.

use std::fs;
use std::path::Path;

use toolkit::ErrorKind;
use toolkit::cast::Value;
use toolkit::source::discover::hash_file;
use toolkit::source::documents::{DocumentKind, DocumentSource};
use toolkit::source::{Content, Flow, Position, SourceFile};

fn found(path: &Path) -> SourceFile {
    let (sha256, size_bytes) = hash_file(path).unwrap();
    let relative = path.file_name().unwrap().to_str().unwrap().to_owned();
    SourceFile { path: path.to_path_buf(), relative, sha256, size_bytes }
}

fn source(path: &Path, kind: &DocumentKind) -> DocumentSource {
    DocumentSource::new(vec![found(path)], kind.clone())
}

fn records(pointer: &str, beside: &[&str]) -> DocumentKind {
    let beside = beside.iter().map(|pointer| (*pointer).to_owned()).collect();
    DocumentKind::Json { records: Some(pointer.to_owned()), beside }
}

/// A record as text: where it stands, and what it holds.
fn shown(content: &Content<'_>, locator: &dyn std::fmt::Display) -> String {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    match content {
        Content::Json { element, .. } => format!("{locator}: {}", text(&element.to_source_text())),
        Content::Columns { values, .. } => {
            let values = values.iter().map(|value| match value {
                Value::Text(value) => text(value),
                other => format!("{other:?}"),
            });
            format!("{locator}: {}", values.collect::<Vec<_>>().join("|"))
        }
        Content::Broken { refusal, .. } => {
            format!("{locator}: {} {}", refusal.reason, refusal.detail)
        }
        Content::Duplicate { of, .. } => format!("{locator}: as {of}"),
    }
}

/// Reads everything, pausing after every `pace` records. `anew`: each time by another reader that
/// knows the stored position alone.
fn read_paced(path: &Path, kind: &DocumentKind, pace: usize, anew: bool) -> Vec<String> {
    let mut reader = source(path, kind);
    let (mut lines, mut from) = (Vec::new(), None);
    loop {
        let mut count = 0;
        let next = reader.read(from.as_ref(), &mut |record| {
            lines.push(shown(&record.content, &record.locator));
            count += 1;
            Ok(if count == pace { Flow::Pause } else { Flow::Continue })
        });
        let Some(next) = next.unwrap() else { return lines };
        let stored = serde_json::to_string(&next).unwrap();
        from = Some(serde_json::from_str(&stored).unwrap());
        if anew {
            reader = source(path, kind);
        }
    }
}

#[track_caller]
fn read(text: &[u8], kind: &DocumentKind) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("document");
    fs::write(&path, text).unwrap();
    let whole = read_paced(&path, kind, usize::MAX, false);
    for pace in [1, 3] {
        assert_eq!(read_paced(&path, kind, pace, false), whole, "paused every {pace}");
        assert_eq!(read_paced(&path, kind, pace, true), whole, "resumed every {pace}");
    }
    whole
}

/// Elements of every size, some larger than what is read at once.
fn elements() -> Vec<String> {
    let mut elements: Vec<String> = (0..30)
        .map(|n| format!("{{\"id\": {n}, \"text\": \"a\\\"]}}\\\\ {}\"}}", "é".repeat(n * n)))
        .collect();
    elements.push(format!("{{\"id\": 30, \"text\": \"{}\"}}", "x".repeat(300_000)));
    elements.extend(["17".to_owned(), "null".to_owned(), "[[], {}]".to_owned(), "\"\"".to_owned()]);
    elements
}

#[test]
fn elements_are_the_same_in_one_go_and_resumed_at_each_of_them() {
    let elements = elements();
    let array = format!("[ {} \n]\r\n", elements.join(" ,\n"));
    let of_root = read(array.as_bytes(), &records("", &[]));
    assert_eq!(of_root.len(), elements.len());
    assert!(of_root[31].ends_with("record 31: 17"));
    for (text, pointer) in [
        (format!("\u{feff}{array}"), ""),
        (format!("{{\"a\": [1, \"[\"], \"items\": {array}, \"z\": {{\"items\": [0]}}}}"), "/items"),
        (format!("{{\"a/b\": {{\"x\": {{}}, \"~\": {array}}}, \"~\": [9]}}"), "/a~1b/~0"),
    ] {
        assert_eq!(read(text.as_bytes(), &records(pointer, &[])), of_root, "{pointer}");
    }
    // By way of an array, and with a column that looks into the records: held as a whole.
    let nested = format!("[0, {{\"items\": {array}}}]");
    assert_eq!(read(nested.as_bytes(), &records("/1/items", &[])), of_root);
    let object = format!("{{\"items\": {array}}}");
    assert_eq!(read(object.as_bytes(), &records("/items", &["/items/0"])), of_root);
    assert_eq!(read(b"[]", &records("", &[])), Vec::<String>::new());
    assert_eq!(read(b"{\"items\": [ ]}", &records("/items", &[])), Vec::<String>::new());
}

#[test]
fn a_position_stored_without_an_offset_is_still_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("document");
    for (text, kind) in [
        ("[{\"id\": 0}, {\"id\": 1}, {\"id\": 2}]", records("", &[])),
        ("0\n1\n2\n", DocumentKind::Jsonl),
        ("id\n0\n1\n2\n", DocumentKind::Csv),
    ] {
        fs::write(&path, text).unwrap();
        let stored = r#"{"document": {"path": "document", "record": 1}}"#;
        let from: Position = serde_json::from_str(stored).unwrap();
        let mut lines = Vec::new();
        let mut reader = source(&path, &kind);
        let next = reader.read(Some(&from), &mut |record| {
            lines.push(shown(&record.content, &record.locator));
            Ok(Flow::Continue)
        });
        assert_eq!(next.unwrap(), None);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains('2'), "{lines:?}");
    }
}

#[test]
fn what_stands_beside_the_array_is_there_for_its_elements() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("document");
    let text = br#"{"before": 1, "items": [{"id": 1}, {"id": 2}], "meta": {"run": "r"}}"#;
    fs::write(&path, text).unwrap();
    let mut roots = Vec::new();
    let mut reader = source(&path, &records("/items", &["/meta/run"]));
    let read = reader.read(None, &mut |record| {
        let Content::Json { root, bytes, .. } = &record.content else { panic!("an element") };
        roots.push((
            String::from_utf8(root.to_source_text()).unwrap(),
            bytes.get().unwrap().to_vec(),
        ));
        Ok(Flow::Continue)
    });
    read.unwrap();
    let beside = r#"{"before":1,"items":[],"meta":{"run":"r"}}"#.to_owned();
    assert_eq!(
        roots,
        [(beside.clone(), b"{\"id\": 1}".to_vec()), (beside, b"{\"id\": 2}".to_vec())]
    );
}

#[test]
fn a_fault_in_an_array_is_one_reject_with_its_place_and_keeps_what_is_before_it() {
    let items = records("/items", &[]);
    let one = |text: &str, kind: &DocumentKind, before: usize| {
        let lines = read(text.as_bytes(), kind);
        assert_eq!(lines.len(), before + 1, "{lines:?}");
        lines.into_iter().next_back().unwrap()
    };
    let long = "{\"id\": 7}, ".repeat(30_000);
    let text = format!("{{\"items\": [\n{{\"id\": 1}},\n{{\"id\": \"é\", \"x\" 2}}, {long} 0]}}");
    let said = one(&text, &items, 1);
    assert!(said.starts_with("record 1: invalid_json expected a colon, found a number"), "{said}");
    assert!(said.contains("at line 3, column 17 (byte 40)"), "{said}");
    let rest = format!("the {} bytes from byte 23 to the end", text.len() - 23);
    assert!(said.contains("the 1 records before it were read") && said.contains(&rest), "{said}");

    for (text, before, what) in [
        ("{\"items\": [1, 2", 2, "the document ends inside its array"),
        ("{\"items\": [1, 2, \"abc", 2, "a string that never ends"),
        ("{\"items\": [1 2]}", 1, "expected a comma or ]"),
        ("{\"items\": [1, ]}", 1, "expected a value, found ]"),
        ("{\"items\": [1, 2]} x", 2, "after the array of records"),
        ("{\"items\": [1, 2], \"z\": }", 2, "expected a value, found } (byte 23)"),
    ] {
        let said = one(text, &items, before);
        assert!(said.contains(what), "{text}: {said}");
    }
    // Before the array nothing can be told apart: the document is refused as a whole.
    for text in ["{\"a\" 1, \"items\": [1]}", "{\"items\": 1}", "[1]", ""] {
        assert!(one(text, &items, 0).starts_with("document: "), "{text}");
    }
}

#[test]
fn of_two_arrays_of_one_name_the_last_is_read_as_jsonb_would_keep_it() {
    let lines = read(b"{\"items\": [1, 2], \"items\": [3]}", &records("/items", &[]));
    assert_eq!(lines, ["record 0: 3"]);
}

#[test]
fn lines_are_read_whatever_writers_leave_between_them() {
    let text = b"\xef\xbb\xbf{\"a\": 1}\r\n\r\n  \n{\"a\": \"\xff\"}\n{oops\n{\"a\": 2}";
    let lines = read(text, &DocumentKind::Jsonl);
    assert_eq!(lines[0], "line 1: {\"a\":1}".replace('"', "\\\""));
    assert_eq!(lines[1], "line 4: {\\\"a\\\":\\\"\\xff\\\"}");
    assert!(lines[2].starts_with("line 5: invalid_json"), "{lines:?}");
    assert_eq!(lines[3], "line 6: {\\\"a\\\":2}");
    assert_eq!(lines.len(), 4);
    assert_eq!(read(b"", &DocumentKind::Jsonl), Vec::<String>::new());
}

#[test]
fn csv_is_read_whatever_its_fields_hold() {
    let big = "y".repeat(5 << 20);
    let text = format!(
        "\u{feff}id,text\r\n1,\"a \"\"b\"\",\r\nc\"\r\n\r\n2,{big}\r\n3\r\n4,it's \"so\"\r\n5,\"\""
    );
    let lines = read(text.as_bytes(), &DocumentKind::Csv);
    assert_eq!(lines[0], "line 2: 1|a \\\"b\\\",\\r\\nc");
    assert!(lines[1].starts_with("line 5: 2|yyy") && lines[1].len() > 5 << 20);
    assert_eq!(lines[2], "line 6: wrong_field_count 1 fields where the header has 2");
    assert_eq!(lines[3], "line 7: 4|it\\'s \\\"so\\\"");
    assert_eq!(lines[4], "line 8: 5|");
    assert_eq!(lines.len(), 5);
}

#[test]
fn a_quote_that_is_never_closed_is_one_reject_and_keeps_what_is_before_it() {
    let text = format!("id,text\n1,a\n2,\"b\n{}", "3,c\n".repeat(200_000));
    let lines = read(text.as_bytes(), &DocumentKind::Csv);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0], "line 2: 1|a");
    let said = &lines[1];
    assert!(
        said.starts_with("line 3: unclosed_quote the quote at byte 14 is not closed"),
        "{said}"
    );
    let rest = format!("the 1 records before it were read, the {} bytes from byte 12", 800_005);
    assert!(said.contains(&rest), "{said}");
}

#[test]
fn a_file_that_is_another_one_is_refused_before_and_while_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("document");
    let line = |n: usize| format!("{{\"id\": {n}, \"text\": \"{}\"}}", "z".repeat(500));
    let all: Vec<String> = (0..4000).map(line).collect();
    for (text, kind) in [
        (format!("[{}]", all.join(",\n")), records("", &[])),
        (all.join("\n"), DocumentKind::Jsonl),
        (format!("text\n{}", all.join("\n").replace(['"', ','], "")), DocumentKind::Csv),
    ] {
        fs::write(&path, &text).unwrap();
        let mut reader = source(&path, &kind);
        let from = reader.read(None, &mut |_| Ok(Flow::Pause)).unwrap();
        // In place, of the same size, far behind where the reader stands.
        fs::write(&path, text.replace("3999", "3998")).unwrap();
        let error = reader.read(from.as_ref(), &mut |_| Ok(Flow::Continue)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SourceChanged, "{error}");

        fs::write(&path, &text).unwrap();
        let mut reader = source(&path, &kind);
        fs::write(&path, text.replace("3999", "3998")).unwrap();
        let mut records = 0;
        let read = reader.read(from.as_ref(), &mut |_| {
            records += 1;
            Ok(Flow::Continue)
        });
        assert_eq!(read.unwrap_err().kind(), ErrorKind::SourceChanged);
        assert_eq!(records, 0);
    }
}
