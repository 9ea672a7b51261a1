//! One call: a read-only transaction with a deadline, in which every statement is one of ours.

use std::time::{Duration, Instant};

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgRow, PgTypeInfo, PgValueRef};
use sqlx::{Connection as _, Decode, Encode, PgConnection, Postgres, Row as _, Transaction, Type};
use uuid::Uuid;

use super::answer::{Names, Node};
use super::caps::DEADLINE;
use super::vocabulary::Asked;
use crate::error::{Error, ErrorKind, Result};

/// Nothing here gains from them, and each can turn an index scan into reading all edges, or cost
/// more than the whole answer takes: statistics do not know of the caps.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
    SET LOCAL statement_timeout = 2000;
    SET LOCAL jit = off;
    SET LOCAL max_parallel_workers_per_gather = 0;
    SET LOCAL enable_seqscan = off;
    SET LOCAL enable_bitmapscan = off;
    SET LOCAL plan_cache_mode = force_generic_plan";

/// See the module.
pub(super) struct Session<'c> {
    transaction: Transaction<'c, Postgres>,
    question: &'static str,
    deadline: Duration,
    started: Instant,
    /// What was left of the deadline when the server was told last.
    told: Duration,
}

impl<'c> Session<'c> {
    /// Begins `question`, which names itself in errors.
    pub(super) async fn begin(
        connection: &'c mut PgConnection,
        question: &'static str,
    ) -> Result<Session<'c>> {
        let started = Instant::now();
        let transaction = connection.begin_with(BEGIN).await?;
        Ok(Self { transaction, question, deadline: DEADLINE, started, told: DEADLINE })
    }

    /// The connection, after the server learnt what is left of the deadline.
    pub(super) async fn connection(&mut self) -> Result<&mut PgConnection> {
        let left = self.deadline.saturating_sub(self.started.elapsed());
        if left.is_zero() {
            return Err(self.late());
        }
        if self.told.saturating_sub(left) > Duration::from_millis(20) {
            sqlx::query("SELECT pg_catalog.set_config('statement_timeout', $1, true)")
                .bind(left.as_millis().max(1).to_string())
                .execute(&mut *self.transaction)
                .await
                .map_err(|error| self.failed(error))?;
            self.told = left;
        }
        Ok(&mut self.transaction)
    }

    /// From here on joins read each side once: by the statistics every node has few edges, and a
    /// nested loop over those of two hubs looks cheap.
    pub(super) async fn merge_joins(&mut self) -> Result<()> {
        let connection = self.connection().await?;
        let done = sqlx::raw_sql("SET LOCAL enable_nestloop = off").execute(connection).await;
        done.map(|_| ()).map_err(|error| self.failed(error))
    }

    /// All rows of one statement.
    pub(super) async fn all(&mut self, asked: Asked<'_>) -> Result<Vec<PgRow>> {
        let connection = self.connection().await?;
        asked.fetch_all(connection).await.map_err(|error| self.failed(error))
    }

    /// What a statement's failure means.
    pub(super) fn failed(&self, error: sqlx::Error) -> Error {
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        match code.as_deref() {
            Some("57014") => self.late().because(error),
            Some("42P01" | "42703" | "42883") => {
                Error::new(ErrorKind::Migration, "this database has no tables for graph queries")
                    .advice("bring it up to date with `toolkit migrate up --pack anime`")
                    .because(error)
            }
            _ => error.into(),
        }
    }

    fn late(&self) -> Error {
        let took = self.deadline.as_millis();
        Error::new(ErrorKind::TimedOut, format!("{} was not answered in {took} ms", self.question))
            .advice(
                "ask for fewer hops or edge types; or another session holds a lock on the graph",
            )
    }

    /// The nodes that ids stand for, by way of redirects.
    pub(super) async fn resolve<const N: usize>(&mut self, ids: [Uuid; N]) -> Result<[Node; N]> {
        let asked = sqlx::query(include_str!("../sql/graph/resolve_nodes.sql"));
        let rows = self.all(asked.bind(Id::all(&ids))).await?;
        let mut nodes = ids.map(|id| Node { entity_type: String::new(), id });
        for (node, row) in nodes.iter_mut().zip(&rows) {
            let Some(entity_type) = row.try_get("entity_type")? else {
                return Err(Error::new(ErrorKind::Usage, format!("there is no node {}", node.id))
                    .advice("nodes are anime, characters, episodes, manga, original works and companies, by their ids"));
            };
            *node = Node { entity_type, id: row.try_get::<Id, _>("id")?.0 };
        }
        Ok(nodes)
    }

    /// Ends it; how long all took, in milliseconds.
    pub(super) async fn end(self) -> Result<f64> {
        let started = self.started;
        self.transaction.rollback().await?;
        Ok(started.elapsed().as_secs_f64() * 1_000.0)
    }
}

/// Names of nodes, where their own tables know one.
pub async fn names(connection: &mut PgConnection, ids: &[Uuid]) -> Result<Names> {
    let mut session = Session::begin(connection, "names").await?;
    let bound = Id::all(ids);
    let rows = sqlx::query(include_str!("../sql/graph/node_names.sql"))
        .bind(bound)
        .fetch_all(session.connection().await?)
        .await
        .map_err(|error| session.failed(error))?;
    session.end().await?;
    rows.iter().map(|row| Ok((row.try_get::<Id, _>("id")?.0, row.try_get("name")?))).collect()
}

/// A uuid as the driver carries it: its 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Id(pub(super) Uuid);

impl Id {
    pub(super) fn all(ids: &[Uuid]) -> Vec<Self> {
        ids.iter().copied().map(Self).collect()
    }
}

impl Type<Postgres> for Id {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(2950))
    }
}

impl PgHasArrayType for Id {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(2951))
    }
}

impl Encode<'_, Postgres> for Id {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }
}

impl Decode<'_, Postgres> for Id {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        Ok(Self(Uuid::from_slice(value.as_bytes()?)?))
    }
}
