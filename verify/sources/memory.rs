//! Memory: bounded by the largest record, not by the file.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::process::{Command, Stdio};

use crate::support::backfill::Move;

const DDL: &str = "CREATE TABLE mine_item (id bigint PRIMARY KEY, body text, payload jsonb);";

fn pack(source: &str) -> String {
    format!(
        "[[stream]]\nname = \"items\"\nsource = {{ {source} }}\ntarget = \"public.mine_item\"\n\
         key = [\"id\"]\ncolumns = {{ id = \"/id\", body = \"/body\", payload = \"\" }}\n"
    )
}

fn record(n: usize) -> String {
    format!(
        "{{\"id\": {n}, \"body\": \"{}\", \"n\": [{n}, {{\"deep\": \"{}\"}}]}}",
        format!("item {n} ").repeat(50),
        "w".repeat(700)
    )
}

/// Runs a command; its exit code and the most memory of its own it held, in MiB: without the pages
/// of the program's file, of which a debug build has many. Sampled: Linux alone says.
fn peak_mib(command: &mut Command) -> (Option<i32>, u64) {
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak_kib = 0;
    let code = loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        peak_kib = peak_kib.max(kib.unwrap_or(0));
        if let Some(exited) = child.try_wait().unwrap() {
            break exited.code();
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    (code, peak_kib >> 10)
}

async fn assert_bounded(name: &str, source: &str, records: usize, frame: [&str; 3]) {
    let scene = Move::own(DDL, &pack(source), "").await;
    let mut file = BufWriter::new(File::create(scene.source.join(name)).unwrap());
    file.write_all(frame[0].as_bytes()).unwrap();
    for n in 0..records {
        let between = if n == 0 { "" } else { frame[1] };
        write!(file, "{between}{}", record(n)).unwrap();
    }
    file.write_all(frame[2].as_bytes()).unwrap();
    file.into_inner().unwrap();
    // What only reads is bounded closely: a file of 18 MB held whole takes 60 MiB. A backfill has
    // up to three chunks of 16 MiB beside it.
    for (arguments, most) in [(&["--preflight"][..], 30), (&[], 120)] {
        let (code, peak) = peak_mib(&mut scene.backfill_command(arguments));
        println!("{name} {arguments:?}: {peak} MiB");
        assert_eq!(code, Some(0), "{name} {arguments:?}");
        assert!(peak < most, "{name} {arguments:?}: {peak} MiB");
    }
    assert_eq!(scene.count("public.mine_item").await, i64::try_from(records).unwrap());
    let mut parity = scene.command(&["verify-parity", "--pack", &scene.pack, "--source"]);
    let (code, peak) = peak_mib(parity.arg(&scene.source));
    println!("{name} verify-parity: {peak} MiB");
    assert_eq!(code, Some(0), "{name} verify-parity");
    assert!(peak < 30, "{name} verify-parity: {peak} MiB");
}

#[tokio::test]
async fn a_large_array_of_records_is_moved_in_bounded_memory() {
    let frame = ["{\"made\": 1, \"items\": [", ",\n", "], \"end\": true}"];
    let source = "json = \"items.json\", records = \"/items\"";
    assert_bounded("items.json", source, 14_000, frame).await;
}

#[tokio::test]
async fn many_json_lines_are_moved_in_bounded_memory() {
    assert_bounded("items.jsonl", "jsonl = \"items.jsonl\"", 14_000, ["", "\n", "\n"]).await;
}
