//! The server, as one session of the tool sees it.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use sqlx::{Connection as _, PgConnection, Row as _};

use super::Notes;
use super::machine::mib;
use crate::error::Result;
use crate::pack::Pack;
use crate::phase;
use crate::store::Postgres;

const AREA: &str = "server";

/// Clocks further apart make ages and windows wrong.
const CLOCKS_APART: Duration = Duration::from_secs(2);

/// A transaction open for longer holds VACUUM and CREATE INDEX CONCURRENTLY up.
const LONG_TRANSACTION_S: i64 = 300;

pub(super) async fn look(
    postgres: &Postgres,
    pack: Option<&Pack>,
    notes: &mut Notes,
) -> Result<()> {
    let mut conn = postgres.dedicated().await?;
    let facts: String =
        sqlx::query_scalar(include_str!("../sql/doctor/server.sql")).fetch_one(&mut conn).await?;
    let facts = Facts(serde_json::from_str(&facts).unwrap_or_default());
    notes.good(AREA, "connection", format!("{}, as {}", postgres.describe(), facts.text("role")));
    notes.good(
        AREA,
        "version",
        format!("PostgreSQL {}, encoding {}", facts.text("version"), facts.text("encoding")),
    );
    durability(&facts, notes);
    grants(&facts, notes);
    transport(postgres, &facts, notes);
    connections(&facts, notes);
    clock(&facts, notes);
    compression(&facts, notes);
    if let Some(pack) = pack {
        extensions(&mut conn, pack, notes).await?;
    }
    pooler(postgres, conn, notes).await
}

/// The answer of `server.sql`.
struct Facts(Value);

impl Facts {
    fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or_default()
    }

    fn is(&self, name: &str) -> bool {
        self.0[name].as_bool() == Some(true)
    }

    fn number(&self, name: &str) -> Option<i64> {
        self.0[name].as_i64()
    }
}

fn durability(facts: &Facts, notes: &mut Notes) {
    if facts.is("in_recovery") || facts.is("read_only") {
        let advice = "name the primary in --database-url";
        notes.bad(AREA, "writes", "the server takes none: a replica, or read-only", advice);
    }
    if !facts.is("fsync") || !facts.is("full_page_writes") {
        let advice = "turn them on: after a power cut this server's data cannot be trusted";
        notes.bad(AREA, "durability", "fsync or full_page_writes is off", advice);
    } else if facts.text("synchronous_commit") == "off" {
        let advice = "ALTER ROLE ... SET synchronous_commit = on for the tool's role";
        let finding = "synchronous_commit is off: the last commits can be lost in a crash";
        notes.warn(AREA, "durability", finding, advice);
    } else {
        notes.good(AREA, "durability", "commits are on disk before they are answered");
    }
}

fn grants(facts: &Facts, notes: &mut Notes) {
    let (role, database) = (facts.text("role"), facts.text("database"));
    if facts.is("may_create_schema") {
        notes.good(AREA, "grants", format!("{role} may create schemas in {database}"));
    } else {
        let advice = format!("GRANT CREATE ON DATABASE {database} TO {role}");
        notes.bad(AREA, "grants", format!("{role} may not create schemas in {database}"), advice);
    }
    if !facts.is("may_create_database") {
        let finding = format!(
            "{role} may not create databases: `migrate verify`, the gate of phase 0 and \
             `verify-parity --self-test` need a scratch one"
        );
        notes.warn(AREA, "grants", finding, format!("ALTER ROLE {role} CREATEDB"));
    }
    if !facts.is("superuser") {
        let finding =
            format!("{role} is no superuser, so `backfill --disable-triggers` is refused");
        notes.good(AREA, "grants", finding);
    }
}

fn transport(postgres: &Postgres, facts: &Facts, notes: &mut Notes) {
    if facts.is("ssl") {
        notes.good(AREA, "transport", format!("encrypted, {}", facts.text("ssl_version")));
    } else if postgres.is_local() {
        notes.good(AREA, "transport", "on this host");
    } else {
        let advice = "add ?sslmode=verify-full to the URL";
        notes.warn(AREA, "transport", "rows and password cross the network unencrypted", advice);
    }
}

fn connections(facts: &Facts, notes: &mut Notes) {
    let limit = facts.number("connection_limit").or(facts.number("max_connections")).unwrap_or(0);
    let used = facts.number("connections").unwrap_or(0);
    let sentence = format!("{used} of {limit} connections are in use");
    // A backfill with workers takes about this many.
    if limit - used < 12 {
        let advice = "raise max_connections, or lower connections_max and --workers";
        notes.warn(AREA, "connections", sentence, advice);
    } else {
        notes.good(AREA, "connections", sentence);
    }
    let oldest = facts.number("oldest_transaction_s").unwrap_or(0);
    if oldest > LONG_TRANSACTION_S {
        let finding = format!("a transaction has been open for {oldest} s");
        let advice =
            "end it: VACUUM cannot clean up behind it, and CREATE INDEX CONCURRENTLY waits";
        notes.warn(AREA, "transactions", finding, advice);
    }
    if facts.number("prepared_transactions").is_some_and(|count| count > 0) {
        let advice = "COMMIT PREPARED or ROLLBACK PREPARED them; see pg_prepared_xacts";
        notes.warn(AREA, "transactions", "prepared transactions hold locks", advice);
    }
    if let Some(bytes) = facts.number("database_bytes").and_then(|bytes| u64::try_from(bytes).ok())
    {
        notes.good(AREA, "size", format!("the database has {}", mib(bytes)));
    }
}

fn clock(facts: &Facts, notes: &mut Notes) {
    let server = facts.number("epoch_us").and_then(|us| u64::try_from(us).ok());
    let here = SystemTime::now().duration_since(UNIX_EPOCH);
    let (Some(server), Ok(here)) = (server, here) else { return };
    let apart = here.abs_diff(Duration::from_micros(server));
    let sentence = format!("{:.1} s apart from this machine's", apart.as_secs_f64());
    if apart > CLOCKS_APART {
        let advice = "set both by NTP: freshness windows and the age of evidence are by the clock";
        notes.warn(AREA, "clock", sentence, advice);
    } else {
        notes.good(AREA, "clock", sentence);
    }
}

fn compression(facts: &Facts, notes: &mut Notes) {
    if facts.is("lz4") {
        notes.good(AREA, "lz4", "is there, and used for long values");
    } else {
        let advice =
            "a server built with lz4 reads and writes long values faster; nothing else changes";
        notes.warn(AREA, "lz4", "is not there: long values are compressed by pglz", advice);
    }
}

/// Extensions that the pack's migrations create.
async fn extensions(conn: &mut PgConnection, pack: &Pack, notes: &mut Notes) -> Result<()> {
    let Some(set) = phase::migrations(pack)? else { return Ok(()) };
    let wanted: BTreeSet<String> =
        set.migrations.iter().flat_map(|migration| created_extensions(migration.sql())).collect();
    let wanted: Vec<String> = wanted.into_iter().collect();
    let rows = sqlx::query(include_str!("../sql/doctor/extensions.sql"))
        .bind(&wanted)
        .fetch_all(conn)
        .await?;
    for row in rows {
        let name: String = row.try_get(0)?;
        let (installed, available, may): (bool, bool, bool) =
            (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        let what = format!("extension {name}");
        if installed {
            notes.good(AREA, what, "is installed");
        } else if !available {
            let advice = "install its package on the server; what is optional is done without";
            notes.warn(AREA, what, "is not on the server", advice);
        } else if may {
            notes.good(AREA, what, "can be installed by this role");
        } else {
            let advice = format!("a superuser runs CREATE EXTENSION {name}");
            notes.bad(AREA, what, "is there, but this role may not install it", advice);
        }
    }
    Ok(())
}

/// The names after CREATE EXTENSION [IF NOT EXISTS].
fn created_extensions(sql: &str) -> impl Iterator<Item = String> {
    let words: Vec<&str> = sql.split_whitespace().collect();
    let mut found = Vec::new();
    for (at, pair) in words.windows(2).enumerate() {
        if !pair[0].eq_ignore_ascii_case("create") || !pair[1].eq_ignore_ascii_case("extension") {
            continue;
        }
        let rest = &words[at + 2..];
        let is_conditional = rest.first().is_some_and(|word| word.eq_ignore_ascii_case("if"));
        if let Some(name) = rest.get(if is_conditional { 3 } else { 0 }) {
            found.push(name.trim_matches(['"', ';']).to_owned());
        }
    }
    found.into_iter()
}

/// Whether statements of one connection reach one session. Behind a pooler that hands sessions
/// out by the transaction they do not, and locks, settings and temporary tables do not hold.
async fn pooler(postgres: &Postgres, mut conn: PgConnection, notes: &mut Notes) -> Result<()> {
    const MARK: &str = "SELECT set_config('toolkit.doctor', $1, false)";
    const READ: &str = "SELECT pg_backend_pid(), current_setting('toolkit.doctor', true)";
    let mut other = postgres.dedicated().await?;
    let mut seen = BTreeSet::new();
    let mut holds = true;
    for round in 0..4 {
        for (conn, name) in [(&mut conn, "one"), (&mut other, "other")] {
            if round == 0 {
                sqlx::query(MARK).bind(name).execute(&mut *conn).await?;
            }
            let (pid, mark): (i32, Option<String>) = sqlx::query_as(READ).fetch_one(conn).await?;
            seen.insert((name, pid));
            holds &= mark.as_deref() == Some(name);
        }
    }
    conn.close().await?;
    other.close().await?;
    if holds && seen.len() == 2 {
        notes.good(AREA, "pooler", "none that hands sessions out by the transaction");
    } else {
        let advice = "connect to the server itself, or to a pool in session mode";
        let finding = "a pooler in transaction mode: locks and settings of a session do not hold";
        notes.bad(AREA, "pooler", finding, advice);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::created_extensions;

    #[test]
    fn extensions_are_found_however_they_are_created() {
        let sql = "create extension IF NOT EXISTS vector WITH SCHEMA public;\nCREATE EXTENSION \"ltree\";";
        assert_eq!(created_extensions(sql).collect::<Vec<_>>(), ["vector", "ltree"]);
    }
}
