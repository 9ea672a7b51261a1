//! The files: formats by name, refused before the work or written whole after it.

use std::process::{Command, Stdio};

use super::{report, tampered, untouched};
use crate::support::markup::{Element, elements};
use crate::support::{stderr, stdout};

fn attribute<'e>(all: &'e [Element], name: &str, attribute: &str) -> Vec<&'e str> {
    all.iter().filter(|e| e.name == name).map(|e| e.attribute(attribute)).collect()
}

#[tokio::test]
async fn a_file_of_json_is_what_is_printed_beside_it() {
    let world = tampered().await;
    let folder = world.database.folder();
    let (one, two) = (folder.join("out.json"), folder.join("out.junit.xml"));
    std::fs::write(&one, "an older report").unwrap();
    let before = std::fs::read_dir(folder).unwrap().count();
    let done = world.verify_parity(&[
        "--report",
        one.to_str().unwrap(),
        "--report",
        two.to_str().unwrap(),
    ]);
    assert_eq!(done.status.code(), Some(1), "{}", stderr(&done));
    assert_eq!(std::fs::read_to_string(&one).unwrap(), stdout(&done));
    let report: serde_json::Value = serde_json::from_str(&stdout(&done)).unwrap();
    assert_eq!(report["differing_rows"], 10);
    let after = std::fs::read_dir(folder).unwrap().count();
    assert!(after <= before + 2, "the second report, the state folder, and nothing else");
}

#[tokio::test]
async fn junit_has_a_case_per_table_and_stream_and_failures_carry_the_differences() {
    let world = tampered().await;
    let xml = report(&world, 1, "out.junit.xml", &[]);
    let all = elements(&xml);
    assert_eq!(attribute(&all, "testsuite", "name"), ["parity of mine"]);
    let suite = all.iter().find(|e| e.name == "testsuite").unwrap();
    let counts = ["tests", "failures", "errors", "skipped"].map(|name| suite.attribute(name));
    assert_eq!(counts, ["6", "1", "0", "1"]);
    assert_eq!(
        attribute(&all, "testcase", "name"),
        [
            "table public.notes holds what the source holds",
            "table public.logs[kind=mine] holds what the source holds",
            "stream notes is accounted for",
            "stream logs is accounted for",
            "casts read as a second, independent way does",
            "stream extras is accounted for",
        ]
    );
    let failure = all.iter().find(|e| e.name == "failure").unwrap();
    assert_eq!(
        failure.attribute("message"),
        "10 of 9 rows differ: 1 missing, 1 extra, 8 changed, 0 duplicate"
    );
    for part in ["changed id=a, column body: source 'Grüße', postgres 'Grüsse'", "missing id=e"]
    {
        assert!(failure.text.contains(part), "no {part:?} in {}", failure.text);
    }
    assert!(failure.text.contains("<script>top.pwned=1</script>"));
    assert!(xml.contains("2 rows of public.logs are in no slice"), "limits are said");
    // A second reader, where the machine has one.
    let python = Command::new("python3")
        .args(["-c", "import sys, xml.etree.ElementTree as e; e.parse(sys.stdin)"])
        .stdin(Stdio::piped())
        .spawn();
    let Ok(mut python) = python else {
        println!("SKIPPED: no python3 to read the XML with");
        return;
    };
    std::io::Write::write_all(&mut python.stdin.take().unwrap(), xml.as_bytes()).unwrap();
    assert!(python.wait().unwrap().success());
}

#[tokio::test]
async fn what_cannot_be_written_is_refused_before_anything_runs() {
    let world = untouched().await;
    let folder = world.database.folder().to_str().unwrap().to_owned();
    let good = format!("{folder}/good.html");
    for (arguments, part) in [
        (vec!["--report", "out.pdf"], "the name says the format"),
        (vec!["--report", "out"], "the name says the format"),
        (vec!["--report", "no/such/folder/out.html"], "no/such/folder/out.html cannot be written"),
        (vec!["--report", &good, "--report", "no/such.json"], "no/such.json cannot be written"),
        (vec!["--report", &good, "--report", &good], "is named twice"),
        (vec!["--certificate", "no/such.json"], "no/such.json cannot be written"),
        (vec!["--report", &good, "--certificate", &good], "is named twice"),
        (vec!["--certificate", "c.json", "--level", "sample"], "needs --level full"),
        (vec!["--certificate", "c.json", "--stream", "logs"], "cannot be used with"),
    ] {
        let done = world.verify_parity(&arguments);
        assert_eq!(done.status.code(), Some(2), "{arguments:?}: {}", stderr(&done));
        assert!(stderr(&done).contains(part), "{arguments:?}: {}", stderr(&done));
        assert_eq!(stdout(&done), "", "{arguments:?}");
    }
    assert_eq!(world.text("SELECT count(*)::text FROM toolkit.parity_run").await, "0");
    assert!(!std::path::Path::new(&good).exists());
}
