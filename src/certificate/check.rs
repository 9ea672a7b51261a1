//! Whether what a certificate says still holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::canonical::ENCODING_VERSION;
use crate::certificate::{
    Certificate, Sealed, SourceFacts, pack_facts, source_facts, stream_facts, table_facts,
};
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::pack::OpenedPack;
use crate::parity::{self, Level, Options, Purpose, Report, Verdict};
use crate::store::Postgres;

/// Differing rows that the new verification names.
const DIFFERENCES_MAX: usize = 100;

/// A fact of the certificate, then and now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// What it is about.
    pub what: String,
    /// What the certificate says.
    pub then: String,
    /// What is found.
    pub now: String,
    /// Whether it holds; null where it may differ without taking anything from the certificate.
    pub holds: Option<bool>,
    /// What it is about.
    #[serde(skip)]
    pub about: About,
}

/// What a fact is about: where to look when it no longer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum About {
    /// The certificate, the toolkit or the pack.
    #[default]
    Itself,
    /// Whether source and target are equal.
    Verdict,
    /// The rows of one side.
    Rows,
    /// Rejects or ledger entries.
    Recorded,
    /// A source file.
    File,
}

/// The answer to [`check`].
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// The pack.
    pub pack: String,
    /// The verification the certificate was issued for.
    pub certified_run: String,
    /// When its snapshot was taken.
    pub certified_at: String,
    /// The verification made for this check; none if the certificate itself is not intact.
    pub parity_run: Option<String>,
    /// Whether everything holds.
    pub holds: bool,
    /// Every fact.
    pub facts: Vec<Fact>,
}

impl Fact {
    fn about(self, about: About) -> Self {
        Self { about, ..self }
    }
}

impl Check {
    fn of(certificate: &Certificate, parity_run: Option<String>, facts: Vec<Fact>) -> Self {
        Self {
            pack: certificate.pack.name.clone(),
            certified_run: certificate.parity_run.clone(),
            certified_at: certificate.snapshot.at.clone(),
            parity_run,
            holds: facts.iter().all(|fact| fact.holds != Some(false)),
            facts,
        }
    }

    /// Facts that no longer hold.
    pub fn broken(&self) -> impl Iterator<Item = &Fact> {
        self.facts.iter().filter(|fact| fact.holds == Some(false))
    }
}

/// The check of a certificate that was edited: nothing it says can be relied on, so nothing else
/// is looked at. None: it is intact, and worth checking.
///
/// Errors: it is of another canonical encoding, so that its roots cannot be recomputed.
pub fn check_seal(sealed: &Sealed) -> Result<Option<Check>> {
    let certificate = &sealed.certificate;
    if !sealed.is_intact() {
        return Ok(Some(Check::of(certificate, None, vec![seal_fact(sealed)])));
    }
    if certificate.encoding_version != ENCODING_VERSION {
        return Err(Error::new(
            ErrorKind::RunMismatch,
            format!(
                "the certificate's roots are in canonical encoding {}, this toolkit's in {}: they \
                 cannot be compared",
                certificate.encoding_version, ENCODING_VERSION
            ),
        )
        .advice(format!(
            "check it with toolkit {}, or verify again and make a new one",
            certificate.tool_version
        )));
    }
    Ok(None)
}

/// Verifies the whole pack again, in a new snapshot, and compares with what an intact certificate
/// says. That verification is stored as any other.
pub async fn check(
    postgres: &Postgres,
    opened: Arc<OpenedPack>,
    sealed: &Sealed,
    stop: &Stop,
) -> Result<Check> {
    let certificate = &sealed.certificate;
    if opened.plan.name != certificate.pack.name {
        let detail = format!(
            "the certificate is about the pack {}, not about {}",
            certificate.pack.name, opened.plan.name
        );
        return Err(
            Error::new(ErrorKind::Usage, detail).advice("name the folder of that pack with --pack")
        );
    }
    let options = Options {
        level: Level::Full,
        differences_max: DIFFERENCES_MAX,
        purpose: Purpose::CertificateCheck,
        ..Options::default()
    };
    let report = parity::verify(postgres, Arc::clone(&opened), &options, stop).await?;
    let mut facts = vec![seal_fact(sealed)];
    facts.extend(version_facts(certificate, &opened));
    facts.push(verdict_fact(&report));
    facts.extend(tables(certificate, &report));
    facts.extend(streams(certificate, &report));
    facts.extend(sources(certificate, &source_facts(&opened.discovered)));
    Ok(Check::of(certificate, Some(report.run_id), facts))
}

fn fact(what: impl Into<String>, then: impl Into<String>, now: impl Into<String>) -> Fact {
    let (what, then, now) = (what.into(), then.into(), now.into());
    let holds = Some(then == now);
    Fact { what, then, now, holds, about: About::Itself }
}

fn seal_fact(sealed: &Sealed) -> Fact {
    fact("the certificate itself, SHA-256", &*sealed.stated, &*sealed.computed)
}

fn version_facts(certificate: &Certificate, opened: &OpenedPack) -> Vec<Fact> {
    let (then, now) = (&certificate.pack, pack_facts(opened));
    let mut tool = fact("toolkit version", &*certificate.tool_version, env!("CARGO_PKG_VERSION"));
    if tool.holds == Some(false) {
        // The encoding is the same; the roots decide.
        tool.holds = None;
    }
    vec![
        tool,
        fact("pack version", then.version.to_string(), now.version.to_string()),
        fact("pack.toml, SHA-256", &*then.fingerprint, now.fingerprint),
    ]
}

fn verdict_fact(report: &Report) -> Fact {
    let now = match report.verdict {
        Verdict::Clean => "clean".to_owned(),
        Verdict::Differences => format!("rows that differ: {}", report.differing_rows),
    };
    fact("verdict", "clean", now).about(About::Verdict)
}

/// What is said of a slice, stream or file that the other side does not have.
const NOT_THERE: &str = "not there";

/// Facts by name, of then and of now; each name once, in the order of then.
fn pairs<'f, F>(
    then: &'f [F],
    now: &'f [F],
    name: fn(&F) -> &str,
) -> Vec<(&'f str, Option<&'f F>, Option<&'f F>)> {
    let find = |all: &'f [F], wanted: &str| all.iter().find(|fact| name(fact) == wanted);
    let mut pairs: Vec<_> =
        then.iter().map(|fact| (name(fact), Some(fact), find(now, name(fact)))).collect();
    let is_new = |fact: &&F| find(then, name(fact)).is_none();
    pairs.extend(now.iter().filter(is_new).map(|fact| (name(fact), None, Some(fact))));
    pairs
}

fn tables(certificate: &Certificate, report: &Report) -> Vec<Fact> {
    let now = table_facts(report);
    let mut facts = Vec::new();
    for (target, then, now) in pairs(&certificate.tables, &now, |table| &table.target) {
        let side = |rows: u64, root: &str| format!("rows {rows}, root {root}");
        let shown = |get: fn(&crate::certificate::TableFacts) -> (u64, &str)| {
            let of = |table: Option<&crate::certificate::TableFacts>| {
                table.map_or_else(
                    || NOT_THERE.to_owned(),
                    |table| {
                        let (rows, root) = get(table);
                        side(rows, root)
                    },
                )
            };
            (of(then), of(now))
        };
        let (then, now) = shown(|table| (table.source_rows, &table.source_root));
        let what = format!("{target}, as the sources have it");
        facts.push(fact(what, then, now).about(About::Rows));
        let (then, now) = shown(|table| (table.target_rows, &table.target_root));
        let what = format!("{target}, as Postgres holds it");
        facts.push(fact(what, then, now).about(About::Rows));
    }
    facts
}

fn streams(certificate: &Certificate, report: &Report) -> Vec<Fact> {
    let now = stream_facts(report);
    let mut facts = Vec::new();
    for (stream, then, now) in pairs(&certificate.streams, &now, |facts| &facts.stream) {
        type Shown = fn(&crate::certificate::StreamFacts) -> String;
        let kinds: [(&str, About, Shown); 3] = [
            ("records read", About::Rows, |facts| facts.read.to_string()),
            ("rejects", About::Recorded, |facts| {
                format!("{}, root {}", facts.rejects, facts.rejects_root)
            }),
            ("ledger entries", About::Recorded, |facts| {
                format!("{}, root {}", facts.ledger, facts.ledger_root)
            }),
        ];
        for (what, about, shown) in kinds {
            let text = |facts: Option<&_>| facts.map_or_else(|| NOT_THERE.to_owned(), shown);
            let what = format!("stream {stream}, {what}");
            facts.push(fact(what, text(then), text(now)).about(about));
        }
        let (then, now) = (then.map(states_text), now.map(states_text));
        if let (Some(then), Some(now)) = (then, now)
            && then != now
        {
            // What a person makes of a reject is no part of the proof; a row that was stored in
            // the end is in the roots.
            let states = fact(format!("stream {stream}, states of its rejects"), then, now);
            facts.push(Fact { holds: None, ..states }.about(About::Recorded));
        }
    }
    facts
}

/// `acknowledged 1, open 2`
fn states_text(facts: &crate::certificate::StreamFacts) -> String {
    let states: Vec<String> =
        facts.reject_states.iter().map(|(state, count)| format!("{state} {count}")).collect();
    if states.is_empty() { "none".to_owned() } else { states.join(", ") }
}

/// Two folders can each hold a file of one name: then all of that name are one fact.
fn sources(certificate: &Certificate, now: &[SourceFacts]) -> Vec<Fact> {
    fn by_name(files: &[SourceFacts]) -> BTreeMap<&str, String> {
        let mut named: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for file in files {
            named.entry(&file.file).or_default().push(&file.fingerprint);
        }
        named.into_iter().map(|(name, prints)| (name, prints.join(" and "))).collect()
    }
    let (then, now) = (by_name(&certificate.sources), by_name(now));
    let mut names: Vec<&str> = then.keys().chain(now.keys()).copied().collect();
    names.sort_unstable();
    names.dedup();
    let text = |side: &BTreeMap<&str, String>, name: &str| {
        side.get(name).cloned().unwrap_or_else(|| NOT_THERE.to_owned())
    };
    names
        .into_iter()
        .map(|name| {
            let (then, now) = (text(&then, name), text(&now, name));
            fact(format!("source file {name}"), then, now).about(About::File)
        })
        .collect()
}
