//! Vectors: names written in two ways are near each other, an endpoint is asked as it wants.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use toolkit::ErrorKind;
use toolkit::config::Embedding;
use toolkit::qdrant::embed::{Embedder as _, Hashed, Http, Text};
use toolkit::qdrant::{Distance, Filter, Payload, Point, PointId, Schema, Vector, VectorKind};

use super::stores;

const SEED: u64 = 20_260_210;
const NAMES: usize = 2_000;
const SYLLABLES: [&str; 44] = [
    "ka", "ki", "ku", "ke", "ko", "sa", "shi", "su", "se", "so", "ta", "chi", "tsu", "te", "to",
    "na", "ni", "ne", "no", "ha", "hi", "fu", "ho", "ma", "mi", "mu", "me", "mo", "ya", "yu", "yo",
    "ra", "ri", "ru", "re", "ro", "wa", "ji", "sha", "shou", "jou", "kou", "yuu", "ryou",
];
const LATIN: [&str; 24] = [
    "Al", "Ber", "Car", "Den", "Ed", "Fran", "Gus", "Hen", "Is", "Jul", "Kath", "Lor", "Mar",
    "Nat", "Ol", "Pe", "Quin", "Ros", "Ste", "Tho", "Ul", "Vik", "Wil", "Zoe",
];
const ENDS: [&str; 16] = [
    "bert", "na", "ric", "ton", "lyn", "phie", "son", "ine", "ander", "elle", "ius", "mund",
    "garde", "wick", "iel", "ova",
];

fn capital(word: &str) -> String {
    let (first, rest) = word.split_at(1);
    first.to_uppercase() + rest
}

fn name(dice: &mut ChaCha8Rng) -> String {
    let words = dice.random_range(2..=3);
    let words: Vec<String> = (0..words)
        .map(|_| {
            if dice.random_bool(0.3) {
                format!("{}{}", LATIN.choose(dice).unwrap(), ENDS.choose(dice).unwrap())
            } else {
                let parts = dice.random_range(2..=4);
                capital(&(0..parts).map(|_| *SYLLABLES.choose(dice).unwrap()).collect::<String>())
            }
        })
        .collect();
    words.join(" ")
}

/// The same name as somebody else would write it.
fn variant(kind: &str, name: &str, dice: &mut ChaCha8Rng) -> String {
    let mut letters: Vec<char> = name.chars().collect();
    let at = dice.random_range(1..letters.len() - 1);
    let letter = char::from(dice.random_range(b'a'..=b'z'));
    match kind {
        "swapped letters" => letters.swap(at, at + 1),
        "lost letter" => drop(letters.remove(at)),
        "further letter" => letters.insert(at, letter),
        "other letter" => letters[at] = letter,
        "order of words" => {
            let mut words: Vec<&str> = name.split(' ').collect();
            words.shuffle(dice);
            words.reverse();
            return words.join(" ");
        }
        "macrons" => return name.replace("ou", "ō").replace("uu", "ū"),
        "kunrei" => {
            return name
                .replace("shi", "si")
                .replace("chi", "ti")
                .replace("tsu", "tu")
                .replace("sho", "syo")
                .replace("sha", "sya")
                .replace("fu", "hu")
                .replace("ji", "zi")
                .replace("jo", "zyo")
                .replace("Shi", "Si")
                .replace("Chi", "Ti")
                .replace("Tsu", "Tu")
                .replace("Fu", "Hu")
                .replace("Ji", "Zi");
        }
        "punctuation" => return name.replace(' ', dice_mark(dice)),
        "case" => {
            return if dice.random_bool(0.5) { name.to_uppercase() } else { name.to_lowercase() };
        }
        "diacritics" => {
            return name.replace('a', "á").replace('o', "ö").replace('e', "ê").replace('i', "ï");
        }
        other => panic!("{other}"),
    }
    letters.into_iter().collect()
}

fn dice_mark(dice: &mut ChaCha8Rng) -> &'static str {
    [", ", " - ", "・", "_", ". "].choose(dice).unwrap()
}

const KINDS: [&str; 10] = [
    "swapped letters",
    "lost letter",
    "further letter",
    "other letter",
    "order of words",
    "macrons",
    "kunrei",
    "punctuation",
    "case",
    "diacritics",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_name_written_in_another_way_finds_the_name_among_the_first_ten() {
    let mut dice = ChaCha8Rng::seed_from_u64(SEED);
    let mut names: Vec<String> = (0..NAMES).map(|_| name(&mut dice)).collect();
    names.sort();
    names.dedup();
    let hashed = Hashed::new(384);
    let store = stores::embedded();
    let kind = VectorKind::Dense { size: 384, distance: Distance::Cosine };
    let schema = Schema { vectors: [("v".to_owned(), kind)].into(), ..Schema::default() };
    store.store.create("names", &schema).await.unwrap();
    let point = |(at, name): (usize, &String)| Point {
        id: PointId::Number(at as u64),
        payload: Payload::new(),
        vectors: [("v".to_owned(), Vector::Dense(hashed.vector(name)))].into(),
    };
    for part in names.iter().enumerate().collect::<Vec<_>>().chunks(500) {
        let points = part.iter().map(|one| point(*one)).collect();
        store.store.upsert("names", points).await.unwrap();
    }
    let (mut found_all, mut asked_all) = (0_u32, 0_u32);
    for kind in KINDS {
        let (mut found, mut asked) = (0_u32, 0_u32);
        for (at, name) in names.iter().enumerate().filter(|(at, _)| at % 10 == 0) {
            let vector = Vector::Dense(hashed.vector(&variant(kind, name, &mut dice)));
            let nearest =
                store.store.search("names", "v", vector, &Filter::default(), 10).await.unwrap();
            asked += 1;
            found += u32::from(nearest.iter().any(|one| one.id == PointId::Number(at as u64)));
        }
        println!("recall at 10, {kind}: {found} of {asked}");
        (found_all, asked_all) = (found_all + found, asked_all + asked);
    }
    let recall = f64::from(found_all) / f64::from(asked_all);
    println!("recall at 10: {recall:.4} (n = {asked_all}, {} names, seed {SEED})", names.len());
    assert!(recall >= 0.95, "{recall}");
}

/// An endpoint for one test: answers each request by `answer(number, request)`.
async fn endpoint(
    answer: impl Fn(u32, &str, &Value) -> (u16, Value) + Send + Sync + 'static,
) -> (String, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicU32::new(0));
    let (counter, answer) = (Arc::clone(&asked), Arc::new(answer));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (counter, answer) = (Arc::clone(&counter), Arc::clone(&answer));
            tokio::spawn(async move {
                let mut received = Vec::new();
                let (head, body) = loop {
                    let mut part = [0; 4096];
                    let length = stream.read(&mut part).await.unwrap_or(0);
                    if length == 0 {
                        return;
                    }
                    received.extend(&part[..length]);
                    let text = String::from_utf8_lossy(&received).into_owned();
                    if let Some((head, body)) = text.split_once("\r\n\r\n")
                        && let Ok(body) = serde_json::from_str::<Value>(body)
                    {
                        break (head.to_lowercase(), body);
                    }
                };
                let number = counter.fetch_add(1, Ordering::SeqCst);
                let (status, body) = answer(number, &head, &body);
                // What is no JSON stands in a text.
                let body = match body {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                let answer = format!(
                    "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nretry-after: 1\r\n\
                     content-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    (url, asked)
}

fn settings(url: String) -> Embedding {
    Embedding {
        url: Some(url),
        model: "m".to_owned(),
        api_key: Some("hunter2".to_owned()),
        dimension: 2,
        batch: 2,
        ..Embedding::default()
    }
}

fn texts(count: u64) -> Vec<Text> {
    (0..count).map(|n| Text { id: PointId::Number(n), text: format!("t{n}") }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_is_asked_in_batches_with_the_key_and_its_answers_are_put_in_order() {
    let (url, asked) = endpoint(|number, head, body| {
        assert!(head.starts_with("post /v1/embeddings "), "{head}");
        assert!(head.contains("authorization: bearer hunter2"), "{head}");
        assert_eq!(body["model"], "m");
        // Overloaded at first.
        if number == 0 {
            return (503, json!({}));
        }
        let input = body["input"].as_array().unwrap();
        let data: Vec<Value> = input
            .iter()
            .enumerate()
            .rev()
            .map(|(index, text)| {
                let n: f64 = text.as_str().unwrap()[1..].parse().unwrap();
                json!({ "index": index, "embedding": [n, 1.0] })
            })
            .collect();
        (200, json!({ "data": data }))
    })
    .await;
    let http = Http::new(&settings(url)).unwrap();
    let made = http.embed(&texts(5)).await.unwrap();
    let first: Vec<f32> = made.iter().map(|one| one.vector[0]).collect();
    assert_eq!(first, [0.0, 1.0, 2.0, 3.0, 4.0]);
    assert!(made.iter().all(|one| one.by == "m"));
    assert_eq!(asked.load(Ordering::SeqCst), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_answers_of_an_endpoint_are_named_and_denials_are_not_tried_again() {
    for (status, body, kind, says) in [
        (401, json!({ "error": "key hunter2" }), ErrorKind::StoreDenied, "401"),
        (400, json!({}), ErrorKind::StoreFailed, "400"),
        (200, json!({ "data": [] }), ErrorKind::StoreFailed, "0 vectors for 1 texts"),
        (
            200,
            json!({ "data": [{ "index": 0, "embedding": [1] }] }),
            ErrorKind::StoreFailed,
            "vectors of 1 numbers, not 2",
        ),
        (
            200,
            json!({ "data": [{ "index": 9, "embedding": [1, 2] }] }),
            ErrorKind::StoreFailed,
            "more vectors than texts",
        ),
        (200, json!("no"), ErrorKind::StoreFailed, "no list of vectors"),
        (200, json!("{\"data\": [{\"ind"), ErrorKind::StoreFailed, "no list of vectors"),
        (
            200,
            json!("{\"data\": [{\"index\": 0, \"embedding\": [NaN, 1]}]}"),
            ErrorKind::StoreFailed,
            "no list of vectors",
        ),
        (
            200,
            json!({ "data": [{ "index": 0, "embedding": [1e300, 1] }] }),
            ErrorKind::StoreFailed,
            "not finite",
        ),
    ] {
        let (url, asked) = endpoint(move |_, _, _| (status, body.clone())).await;
        let error = Http::new(&settings(url)).unwrap().embed(&texts(1)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.detail().contains(says), "{error}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_limits_its_rate_is_asked_again_when_it_said_and_then_answers() {
    let (url, asked) = endpoint(|number, _, _| match number {
        0 => (429, json!({})),
        1 => (500, json!({})),
        _ => (200, json!({ "data": [{ "index": 0, "embedding": [1, 2] }] })),
    })
    .await;
    let made = Http::new(&settings(url)).unwrap().embed(&texts(1)).await.unwrap();
    assert_eq!(made[0].vector, [1.0, 2.0]);
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_never_answers_or_is_not_there_is_away_and_not_at_fault() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = silent.local_addr().unwrap();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = silent.accept().await {
            kept.push(stream);
        }
    });
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for (place, says) in [(place, "within 20 ms"), (closed, "at all")] {
        let settings = Embedding { timeout_ms: 20, ..settings(format!("http://{place}/v1")) };
        let error = Http::new(&settings).unwrap().embed(&texts(1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StoreUnreachable, "{error}");
        assert!(error.detail().contains(says), "{error}");
    }
}
