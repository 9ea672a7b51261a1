//! The least an application's role needs of a pack's tables, and whether it has it.
//!
//! In schemas of the pack's own (all but `public`) that is every table, view, sequence, type and
//! function there, and what is made there later; in `public`, which others share, only the tables
//! that the pack's streams fill and its migrations make, with their types and sequences. Of schema
//! `toolkit` it is what the Rust API reads and writes. Nobody gets the right to create, to
//! truncate, or to change another one's rights.

use std::collections::BTreeSet;

use serde::Serialize;
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};

use crate::error::{Error, ErrorKind, Result};
use crate::migrate::MigrationSet;
use crate::pack::Pack;
use crate::store::{quote_ident, sql};

/// The schema that others share.
const SHARED: &str = "public";

/// Whose rights, and which.
#[derive(Debug, Clone)]
pub struct Options {
    /// The application's role.
    pub role: String,
    /// It reads, and writes nothing but what the Rust API notes about its reads.
    pub read_only: bool,
    /// It does not use the Rust API.
    pub without_api: bool,
}

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Grant {
    /// What it is a right to: `TABLE own.a`, `tables made later in own by app_owner`.
    pub object: String,
    /// All that is needed.
    pub wanted: Vec<String>,
    /// What of it the role lacks.
    pub missing: Vec<String>,
    /// The statement that gives it all; without a semicolon.
    pub statement: String,
}

/// What a role needs and has.
#[derive(Debug, Clone, Serialize)]
pub struct Grants {
    /// The pack.
    pub pack: String,
    /// The role.
    pub role: String,
    /// Whether it only reads.
    pub read_only: bool,
    /// The statements, in the order they are to be given.
    pub grants: Vec<Grant>,
    /// What somebody should know.
    pub notes: Vec<String>,
    /// How many of them were given, by [`apply`].
    pub applied: Option<usize>,
}

impl Grants {
    /// Those of which something is missing.
    pub fn missing(&self) -> impl Iterator<Item = &Grant> {
        self.grants.iter().filter(|grant| !grant.missing.is_empty())
    }
}

/// Looks at what the role needs and has; changes nothing.
///
/// Fails with [`ErrorKind::Usage`] where there is no such role, with [`ErrorKind::Pack`] where the
/// pack has no tables here.
pub async fn plan(
    conn: &mut PgConnection,
    pack: &Pack,
    set: Option<&MigrationSet>,
    options: &Options,
) -> Result<Grants> {
    let role = &options.role;
    let mut notes = role_notes(conn, role).await?;
    let tables = crate::export::tables_of_pack(conn, pack, set).await?;
    let is_shared = |schema: &str| schema == SHARED;
    let own: BTreeSet<String> = tables
        .iter()
        .map(|table| table.schema.clone())
        .filter(|schema| !is_shared(schema) && schema != "toolkit")
        .collect();
    let own: Vec<String> = own.into_iter().collect();
    let (schemas, names): (Vec<String>, Vec<String>) = tables
        .iter()
        .filter(|table| is_shared(&table.schema))
        .map(|table| (table.schema.clone(), table.name.clone()))
        .unzip();
    let mut grants = vec![connect(conn, role).await?];
    grants.extend(objects(conn, options, &own, &schemas, &names).await?);
    grants.extend(defaults(conn, options, &own).await?);
    if !options.without_api {
        grants.extend(control(conn, options).await?);
    }
    if !schemas.is_empty() {
        notes.push(format!(
            "schema {SHARED} is others' too: tables that a later migration makes there need this \
             command again"
        ));
    }
    let (pack, role) = (pack.name().to_owned(), role.clone());
    Ok(Grants { pack, role, read_only: options.read_only, grants, notes, applied: None })
}

/// Gives what is missing, in one transaction, and looks again: all of it is there, or nothing was
/// given.
///
/// Fails with [`ErrorKind::StoreDenied`] where this session's role may not give it.
pub async fn apply(
    conn: &mut PgConnection,
    pack: &Pack,
    set: Option<&MigrationSet>,
    options: &Options,
) -> Result<Grants> {
    let mut transaction = conn.begin().await?;
    let planned = plan(&mut transaction, pack, set, options).await?;
    let mut applied = 0;
    for grant in planned.missing() {
        let given = sqlx::raw_sql(sql(grant.statement.clone())).execute(&mut *transaction).await;
        given.map_err(Error::from).map_err(|error| denied(error, grant))?;
        applied += 1;
    }
    let mut done = plan(&mut transaction, pack, set, options).await?;
    // Who may not give a right is warned by the server, and no more.
    if let Some(left) = done.missing().next() {
        let detail = format!(
            "this session's role may not give {} on {}",
            left.missing.join(", "),
            left.object
        );
        return Err(Error::new(ErrorKind::StoreDenied, detail)
            .advice("use the owner of the tables, or a superuser; nothing was given"));
    }
    transaction.commit().await?;
    done.applied = Some(applied);
    Ok(done)
}

fn denied(error: Error, grant: &Grant) -> Error {
    let error = error.context(grant.statement.clone());
    if error.kind() == ErrorKind::StoreDenied {
        return error.advice("use the owner of the tables, or a superuser; nothing was given");
    }
    error
}

/// Refuses a role that is not there.
async fn role_notes(conn: &mut PgConnection, role: &str) -> Result<Vec<String>> {
    let found = sqlx::query(
        "SELECT rolsuper, rolcanlogin FROM pg_catalog.pg_roles WHERE rolname = $1::name",
    )
    .bind(role)
    .fetch_optional(conn)
    .await?;
    let Some(found) = found else {
        let detail = format!("there is no role {role:?} on this server");
        let advice = format!("make it first: CREATE ROLE {} LOGIN", quote_ident(role));
        return Err(Error::new(ErrorKind::Usage, detail).advice(advice));
    };
    let mut notes = Vec::new();
    if found.try_get("rolsuper")? {
        notes.push(format!("role {role} is a superuser: it may do everything as it is"));
    }
    if !found.try_get::<bool, _>("rolcanlogin")? {
        notes.push(format!("role {role} cannot log in: its members get what is granted to it"));
    }
    Ok(notes)
}

async fn connect(conn: &mut PgConnection, role: &str) -> Result<Grant> {
    let row = sqlx::query(
        "SELECT pg_catalog.current_database() AS name, \
                pg_catalog.has_database_privilege($1::name, pg_catalog.current_database(), \
                                                  'CONNECT') AS held",
    )
    .bind(role)
    .fetch_one(conn)
    .await?;
    let name = quote_ident(row.try_get("name")?);
    let missing = if row.try_get("held")? { Vec::new() } else { vec!["CONNECT".to_owned()] };
    Ok(on("DATABASE", &name, vec!["CONNECT".to_owned()], missing, role))
}

fn on(kind: &str, name: &str, wanted: Vec<String>, missing: Vec<String>, role: &str) -> Grant {
    let object = format!("{kind} {name}");
    let statement = format!("GRANT {} ON {object} TO {}", wanted.join(", "), quote_ident(role));
    Grant { object, wanted, missing, statement }
}

async fn objects(
    conn: &mut PgConnection,
    options: &Options,
    own: &[String],
    schemas: &[String],
    names: &[String],
) -> Result<Vec<Grant>> {
    let rows = sqlx::query(include_str!("../sql/grants/objects.sql"))
        .bind(&options.role)
        .bind(options.read_only)
        .bind(own)
        .bind(schemas)
        .bind(names)
        .fetch_all(conn)
        .await?;
    rows.iter()
        .map(|row| {
            let (kind, name): (String, String) = (row.try_get("kind")?, row.try_get("name")?);
            let (wanted, missing) = (row.try_get("wanted")?, row.try_get("missing")?);
            Ok(on(&kind, &name, wanted, missing, &options.role))
        })
        .collect()
}

async fn defaults(
    conn: &mut PgConnection,
    options: &Options,
    own: &[String],
) -> Result<Vec<Grant>> {
    let rows = sqlx::query(include_str!("../sql/grants/defaults.sql"))
        .bind(&options.role)
        .bind(options.read_only)
        .bind(own)
        .fetch_all(conn)
        .await?;
    rows.iter()
        .map(|row| {
            let schema: String = row.try_get("schema")?;
            let (owner, kind): (String, String) = (row.try_get("owner")?, row.try_get("kind")?);
            let wanted: Vec<String> = row.try_get("wanted")?;
            let statement = format!(
                "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} GRANT {} ON {kind} \
                 TO {}",
                wanted.join(", "),
                quote_ident(&options.role)
            );
            let object =
                format!("{} that {owner} makes later in {schema}", kind.to_ascii_lowercase());
            Ok(Grant { object, wanted, missing: row.try_get("missing")?, statement })
        })
        .collect()
}

async fn control(conn: &mut PgConnection, options: &Options) -> Result<Vec<Grant>> {
    let rows = sqlx::query(include_str!("../sql/grants/control.sql"))
        .bind(&options.role)
        .bind(options.read_only)
        .fetch_all(conn)
        .await?;
    rows.iter()
        .map(|row| {
            let (kind, name): (String, String) = (row.try_get("kind")?, row.try_get("name")?);
            let wanted: Vec<String> = vec![row.try_get("privilege")?];
            let missing = if row.try_get("is_missing")? { wanted.clone() } else { Vec::new() };
            Ok(on(&kind, &name, wanted, missing, &options.role))
        })
        .collect()
}
