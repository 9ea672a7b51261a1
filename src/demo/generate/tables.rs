//! The four tables without lineage: token usage and the three caches.

use super::dice::{Dice, HISTORY_START_MICROS, iso, whole_second};
use super::document::{Document, Escape, map};
use super::prose;
use super::quirk::{Outcome, Quirk};
use super::sqlite::{self, Plant, Writer, plant_at, planted, text};
use super::{Scene, stream};
use crate::Result;
use rusqlite::types::Value;
use sha2::{Digest, Sha256};

const MODELS: [&str; 4] = ["gpt-5-nano", "gpt-5-mini", "gpt-5", "gpt-4.1-mini"];

const TOKEN_USAGE_SCHEMA: &str = "CREATE TABLE token_usage (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            created_at TEXT,
            model TEXT,
            operation TEXT,
            input_tokens INTEGER,
            output_tokens INTEGER,
            total_tokens INTEGER,
            session_id TEXT,
            request_id TEXT,
            meta TEXT
        )";
const TOKEN_USAGE_INDEXES: &str = "
    CREATE INDEX idx_token_usage_created_at ON token_usage(created_at);
    CREATE INDEX idx_token_usage_session ON token_usage(session_id);
    CREATE INDEX idx_token_usage_request ON token_usage(request_id);";

/// Columns after `id`: `created_at`, `model`, `operation`, `input_tokens`, `output_tokens`,
/// `total_tokens`, `session_id`, `request_id`, `meta`.
const TOKEN_USAGE_PLANTS: [Plant<9>; 9] = [
    Plant {
        name: "tokens_above_int4",
        column: "input_tokens",
        outcome: Outcome::Stored,
        change: |row| {
            row[3] = Value::Integer(3_000_000_000);
            row[4] = Value::Integer(17);
            row[5] = Value::Integer(3_000_000_017);
        },
    },
    Plant {
        name: "text_in_integer",
        column: "input_tokens",
        outcome: Outcome::Rejected,
        change: |row| row[3] = text("n/a"),
    },
    Plant {
        name: "real_in_integer",
        column: "total_tokens",
        outcome: Outcome::Rejected,
        change: |row| row[5] = Value::Real(12.5),
    },
    Plant {
        name: "null_timestamp",
        column: "created_at",
        outcome: Outcome::Rejected,
        change: |row| row[0] = Value::Null,
    },
    Plant {
        name: "null_text",
        column: "session_id",
        outcome: Outcome::Stored,
        change: |row| row[6] = Value::Null,
    },
    Plant {
        name: "empty_text",
        column: "session_id",
        outcome: Outcome::Stored,
        change: |row| row[6] = text(""),
    },
    Plant {
        name: "word_null",
        column: "session_id",
        outcome: Outcome::Stored,
        change: |row| row[6] = text("NULL"),
    },
    Plant {
        name: "number_spellings",
        column: "meta",
        outcome: Outcome::Stored,
        change: |row| {
            row[8] = text(
                r#"{"big": 123456789012345678901234567890, "exponent": 1e22, "zero": -0.0, "one": 1.0}"#,
            );
        },
    },
    Plant {
        name: "invalid_json",
        column: "meta",
        outcome: Outcome::Rejected,
        change: |row| row[8] = text("{'cache_hit': False}"),
    },
];

pub(super) fn token_usage(scene: &mut Scene<'_>, rows: usize) -> Result<()> {
    let mut dice = Dice::new(scene.seed, stream::TOKEN_USAGE);
    let writer = Writer::create(scene.folder, sqlite::TOKEN_USAGE, scene.wal, TOKEN_USAGE_SCHEMA)?;
    let mut insert = writer.prepare(
        "INSERT INTO token_usage (created_at, model, operation, input_tokens, output_tokens, \
         total_tokens, session_id, request_id, meta) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    let mut session = dice.uuid_dashed();
    for ordinal in 0..rows {
        if dice.chance(8) {
            session = dice.uuid_dashed();
        }
        let mut row = usage(&mut dice, ordinal, rows, &session);
        if let Some(plant) =
            scene.quirky.then(|| plant_at(&TOKEN_USAGE_PLANTS, ordinal, rows)).flatten()
        {
            (plant.change)(&mut row);
            let id = Value::Integer(i64::try_from(ordinal + 1).unwrap_or(i64::MAX));
            let file = sqlite::TOKEN_USAGE;
            scene.quirks.push(planted(plant, file, "token_usage", ordinal, &id));
        }
        insert.row(&row)?;
    }
    drop(insert);
    scene.counts.token_usage = rows;
    writer.finish(TOKEN_USAGE_INDEXES)
}

fn usage(dice: &mut Dice, ordinal: usize, rows: usize, session: &str) -> [Value; 9] {
    let operation = dice.pick(&[
        "query_expansion",
        "rerank",
        "query_embedding",
        "agent_report_question",
        "embeddings",
        "answer",
    ]);
    // Embedding endpoints report a total only.
    let (model, input, output, total) = if operation.contains("embedding") {
        ("text-embedding-3-large", 0, 0, dice.between(8, 6000))
    } else {
        let (input, output) = (dice.between(20, 9000), dice.between(5, 2500));
        (dice.pick(&MODELS), input, output, input + output)
    };
    let interactive = dice.chance(35);
    [
        text(iso(dice.moment(ordinal, rows))),
        text(model),
        text(operation),
        Value::Integer(input),
        Value::Integer(output),
        Value::Integer(total),
        text(if interactive { session } else { "" }),
        text(if interactive { dice.uuid_dashed() } else { String::new() }),
        text(if dice.chance(4) { r#"{"cache_hit": false, "attempt": 2}"# } else { "{}" }),
    ]
}

const QUERY_CACHE_SCHEMA: &str = "CREATE TABLE query_cache (
            cache_key TEXT PRIMARY KEY,
            query TEXT,
            paper_path TEXT,
            model TEXT,
            context_hash TEXT,
            answer TEXT,
            created_at TEXT
        )";

/// Columns: `cache_key`, `query`, `paper_path`, `model`, `context_hash`, `answer`, `created_at`.
const QUERY_CACHE_PLANTS: [Plant<7>; 12] = [
    Plant {
        name: "missing_fraction",
        column: "created_at",
        outcome: Outcome::Stored,
        change: |row| row[6] = text(iso(HISTORY_START_MICROS)),
    },
    Plant {
        name: "null_text",
        column: "context_hash",
        outcome: Outcome::Stored,
        change: |row| row[4] = Value::Null,
    },
    Plant {
        name: "empty_text",
        column: "context_hash",
        outcome: Outcome::Stored,
        change: |row| row[4] = text(""),
    },
    Plant {
        name: "word_null",
        column: "context_hash",
        outcome: Outcome::Stored,
        change: |row| row[4] = text("NULL"),
    },
    Plant {
        name: "unicode",
        column: "query",
        outcome: Outcome::Stored,
        change: |row| row[1] = text(prose::HARD_UNICODE),
    },
    Plant {
        name: "copy_null_marker",
        column: "answer",
        outcome: Outcome::Stored,
        change: |row| row[5] = text(r"\N"),
    },
    Plant {
        name: "copy_end_marker",
        column: "answer",
        outcome: Outcome::Stored,
        change: |row| row[5] = text("before\n\\.\nafter"),
    },
    Plant {
        name: "control_characters",
        column: "answer",
        outcome: Outcome::Stored,
        change: |row| row[5] = text("tab\there, CR\rhere, CRLF\r\nhere, LF\nhere, bell\u{7} "),
    },
    Plant {
        name: "nul_in_text",
        column: "answer",
        outcome: Outcome::Rejected,
        change: |row| row[5] = text("before the NUL\0after it"),
    },
    Plant {
        name: "blob_in_text",
        column: "answer",
        outcome: Outcome::Rejected,
        change: |row| row[5] = Value::Blob(vec![0xff, 0xd8, 0xff, 0xe0, 0x00, 0x10]),
    },
    Plant {
        name: "null_primary_key",
        column: "cache_key",
        outcome: Outcome::Rejected,
        change: |row| row[0] = Value::Null,
    },
    Plant {
        name: "backslash_path",
        column: "paper_path",
        outcome: Outcome::Stored,
        change: |row| row[2] = text("\\\\?\\UNC\\archive\\new\\table\\0.pdf"),
    },
];

pub(super) fn query_cache(scene: &mut Scene<'_>, rows: usize) -> Result<()> {
    let mut dice = Dice::new(scene.seed, stream::QUERY_CACHE);
    let writer = Writer::create(scene.folder, sqlite::QUERY_CACHE, scene.wal, QUERY_CACHE_SCHEMA)?;
    let mut insert =
        writer.prepare("INSERT INTO query_cache VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
    for ordinal in 0..rows {
        let paper = &scene.papers[dice.index(scene.papers.len())];
        let length = usize::try_from(dice.between(200, 2600)).unwrap_or(200);
        let question = dice.index(prose::QUESTIONS_MAX);
        let mut row = [
            text(""),
            text(format!("{} (n = {ordinal})", prose::question(question))),
            text(paper.path.clone()),
            text(dice.pick(&MODELS)),
            text(dice.digest_hex()),
            text(prose::paragraph(&mut dice, length)),
            text(iso(dice.moment(ordinal, rows))),
        ];
        let plant = scene.quirky.then(|| plant_at(&QUERY_CACHE_PLANTS, ordinal, rows)).flatten();
        if let Some(plant) = plant {
            (plant.change)(&mut row);
        }
        if row[0] != Value::Null {
            row[0] = text(cache_key([&row[2], &row[3], &row[1], &row[4]]));
        }
        if let Some(plant) = plant {
            let file = sqlite::QUERY_CACHE;
            scene.quirks.push(planted(plant, file, "query_cache", ordinal, &row[0]));
        }
        insert.row(&row)?;
    }
    drop(insert);
    scene.counts.query_cache = rows;
    writer.finish("")
}

/// `sha256(path || "||" || model || "||" || query || "||" || context_hash)`, a NULL as ''.
pub(super) fn cache_key(parts: [&Value; 4]) -> String {
    let mut hasher = Sha256::new();
    for (position, part) in parts.into_iter().enumerate() {
        if position > 0 {
            hasher.update(b"||");
        }
        if let Value::Text(text) = part {
            hasher.update(text.as_bytes());
        }
    }
    hex::encode(hasher.finalize())
}

const OPENALEX_SCHEMA: &str = "CREATE TABLE openalex_cache (
            cache_key TEXT PRIMARY KEY,
            work_id TEXT,
            query TEXT,
            response TEXT,
            fetched_at INTEGER
        )";

/// Columns: `cache_key`, `work_id`, `query`, `response`, `fetched_at`.
const OPENALEX_PLANTS: [Plant<5>; 3] = [
    Plant {
        name: "invalid_json",
        column: "response",
        outcome: Outcome::Rejected,
        change: |row| row[3] = text("<html><body>429 Too Many Requests</body></html>"),
    },
    Plant {
        name: "infinity_in_json",
        column: "response",
        outcome: Outcome::Rejected,
        change: |row| row[3] = text(r#"{"id": null, "relevance_score": Infinity}"#),
    },
    Plant {
        name: "number_spellings",
        column: "response",
        outcome: Outcome::Stored,
        change: |row| row[3] = text(r#"{"a": 18446744073709551616, "b": 1e22, "c": -0.0}"#),
    },
];

pub(super) fn openalex(scene: &mut Scene<'_>, rows: usize) -> Result<()> {
    let mut dice = Dice::new(scene.seed, stream::OPENALEX);
    let writer = Writer::create(scene.folder, sqlite::OPENALEX, scene.wal, OPENALEX_SCHEMA)?;
    let mut insert = writer.prepare("INSERT INTO openalex_cache VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for ordinal in 0..rows {
        let title = prose::title(&mut dice, ordinal);
        let work = format!("https://openalex.org/W{}", dice.between(1_000_000_000, 4_400_000_000));
        let response = work_of(&mut dice, &work, &title).compact(Escape::ControlsOnly);
        let mut row = [
            text(dice.digest_hex()),
            text(work),
            text(title),
            text(response),
            epoch(&mut dice, ordinal, rows),
        ];
        if let Some(plant) =
            scene.quirky.then(|| plant_at(&OPENALEX_PLANTS, ordinal, rows)).flatten()
        {
            (plant.change)(&mut row);
            let file = sqlite::OPENALEX;
            scene.quirks.push(planted(plant, file, "openalex_cache", ordinal, &row[0]));
        }
        insert.row(&row)?;
    }
    drop(insert);
    scene.counts.openalex = rows;
    writer.finish("")
}

/// Seconds since the Unix epoch.
fn epoch(dice: &mut Dice, ordinal: usize, rows: usize) -> Value {
    Value::Integer(whole_second(dice.moment(ordinal, rows)) / 1_000_000)
}

fn work_of(dice: &mut Dice, work: &str, title: &str) -> Document {
    let doi = format!("https://doi.org/10.5555/demo.{}", dice.between(1000, 9_999_999));
    let authorships: Vec<Document> = (0..dice.between(1, 6)).map(|_| authorship(dice)).collect();
    let words: Vec<(String, Document)> = prose::paragraph(dice, 400)
        .split_whitespace()
        .enumerate()
        .map(|(position, word)| (format!("{word}{position}"), vec![position].into()))
        .collect();
    map([
        ("id", work.into()),
        ("display_name", title.into()),
        ("publication_year", dice.between(1958, 2025).into()),
        ("doi", doi.as_str().into()),
        (
            "primary_location",
            map([
                ("is_oa", dice.chance(50).into()),
                ("landing_page_url", doi.into()),
                ("pdf_url", Document::Null),
                ("version", "publishedVersion".into()),
            ]),
        ),
        ("authorships", authorships.into()),
        ("cited_by_count", dice.between(0, 900).into()),
        ("fwci", (dice.unit() * 9.0).into()),
        ("abstract_inverted_index", Document::Map(words)),
    ])
}

fn authorship(dice: &mut Dice) -> Document {
    let name = prose::author(dice);
    map([
        ("author_position", dice.pick(&["first", "middle", "last"]).into()),
        (
            "author",
            map([
                ("id", format!("https://openalex.org/A{}", dice.between(1, 9_999_999)).into()),
                ("display_name", name.into()),
                ("orcid", Document::Null),
            ]),
        ),
        ("institutions", Document::List(Vec::new())),
        ("is_corresponding", dice.chance(20).into()),
        ("raw_author_name", name.to_uppercase().into()),
    ])
}

const CITEC_SCHEMA: &str = "CREATE TABLE citec_cache (
            cache_key TEXT PRIMARY KEY,
            repec_handle TEXT,
            response TEXT,
            fetched_at INTEGER
        )";

/// Columns: `cache_key`, `repec_handle`, `response`, `fetched_at`.
const CITEC_PLANTS: [Plant<4>; 1] = [Plant {
    name: "text_in_epoch",
    column: "fetched_at",
    outcome: Outcome::Rejected,
    change: |row| row[3] = text("yesterday"),
}];

pub(super) fn citec(scene: &mut Scene<'_>, rows: usize) -> Result<()> {
    let mut dice = Dice::new(scene.seed, stream::CITEC);
    let writer = Writer::create(scene.folder, sqlite::CITEC, scene.wal, CITEC_SCHEMA)?;
    let mut insert = writer.prepare("INSERT INTO citec_cache VALUES (?1, ?2, ?3, ?4)")?;
    for ordinal in 0..rows {
        let series = dice.pick(&["nbr:nberwo", "aea:aecrev", "ecm:emetrp", "iza:izadps"]);
        let handle = format!("RePEc:{series}:{ordinal}");
        let response = map([
            ("repec_handle", handle.as_str().into()),
            ("date", iso(dice.moment(ordinal, rows))[..10].into()),
            ("uri", format!("http://citec.repec.org/{handle}").into()),
            ("cited_by", citations(&mut dice)),
            ("cites", citations(&mut dice)),
        ]);
        let mut row = [
            text(dice.digest_hex()),
            text(handle),
            text(response.compact(Escape::ControlsOnly)),
            epoch(&mut dice, ordinal, rows),
        ];
        if let Some(plant) = scene.quirky.then(|| plant_at(&CITEC_PLANTS, ordinal, rows)).flatten()
        {
            (plant.change)(&mut row);
            let quirk: Quirk = planted(plant, sqlite::CITEC, "citec_cache", ordinal, &row[0]);
            scene.quirks.push(quirk);
        }
        insert.row(&row)?;
    }
    drop(insert);
    scene.counts.citec = rows;
    writer.finish("")
}

/// A count as the service gives it: a number, the number as text, or nothing.
fn citations(dice: &mut Dice) -> Document {
    let count = dice.between(0, 400);
    match dice.below(5) {
        0 => Document::Null,
        1 => count.to_string().into(),
        _ => count.into(),
    }
}
