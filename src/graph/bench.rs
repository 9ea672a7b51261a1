//! How the primitives do on a database's own graph, at the caps, from random starts and from hubs.

use std::time::{Duration, Instant};

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use sqlx::{Connection as _, PgConnection, Row as _};
use uuid::Uuid;

use super::caps::{Caps, DEADLINE};
use super::session::Id;
use super::{KHop, PathQuery, compare, k_hop, neighbors, path};
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;

/// Nodes with most edges that each primitive starts from, beside the random ones; not more than
/// those, or a hundred.
const HUBS: i64 = 1_000;

/// What one primitive took, from one kind of start.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// `neighbors`, `k_hop`, `path` or `compare`.
    pub primitive: &'static str,
    /// `random` or `hubs`.
    pub starts: &'static str,
    /// How many.
    pub count: usize,
    /// Half of them took no longer, in milliseconds.
    pub p50_ms: f64,
    /// 95 of a hundred.
    pub p95_ms: f64,
    /// 99 of a hundred.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// Share that met the deadline of 2 s.
    pub timed_out_share: f64,
    /// What p99 is to be at most.
    pub ask_p99_ms: f64,
    /// Share whose answer says that a cap cut something off.
    pub truncated_share: f64,
    /// Whether it is so, and nothing timed out.
    pub holds: bool,
}

/// The query that took longest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Slowest {
    /// The primitive.
    pub primitive: &'static str,
    /// Its nodes.
    pub nodes: Vec<Uuid>,
    /// How its longest statement is executed.
    pub plan: Vec<String>,
}

/// What [`run`] measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Benchmark {
    /// Edges in the graph.
    pub edges: i64,
    /// Edges of its greatest hub.
    pub hub_edges_max: i64,
    /// By primitive and kind of start.
    pub measured: Vec<Measured>,
    /// The query that took longest.
    pub slowest: Option<Slowest>,
    /// Whether every ask holds.
    pub holds: bool,
}

/// Measures all primitives from `starts` random nodes and from the hubs. It only reads.
///
/// # Errors
/// `Usage` where there is no graph; those of the primitives, except that a timeout is counted.
pub async fn run(
    connection: &mut PgConnection,
    starts: usize,
    seed: u64,
    stop: &Stop,
) -> Result<Benchmark> {
    let edges: i64 =
        sqlx::query_scalar("SELECT count(*) FROM graph_edge").fetch_one(&mut *connection).await?;
    if edges == 0 {
        return Err(Error::new(ErrorKind::Usage, "the graph has no edges")
            .advice("ingest something first, or fill it with `toolkit graph rebuild`"));
    }
    let rows = sqlx::query(include_str!("../sql/graph/hubs.sql"))
        .bind(HUBS.min(i64::try_from(starts.max(100)).unwrap_or(HUBS)))
        .fetch_all(&mut *connection)
        .await?;
    let hub_edges_max: i64 = rows.first().map_or(Ok(0), |row| row.try_get("edges"))?;
    let hubs: Vec<Uuid> =
        rows.iter().map(|row| Ok(row.try_get::<Id, _>("id")?.0)).collect::<Result<_>>()?;
    let random = sample(connection, starts, seed).await?;
    let mut measured = Vec::new();
    let mut slowest: Option<(f64, Call)> = None;
    for primitive in PRIMITIVES {
        for (kind, nodes) in [("random", &random), ("hubs", &hubs)] {
            let calls = calls(connection, primitive, nodes).await?;
            let (row, worst) = measure(connection, primitive, kind, &calls, stop).await?;
            measured.push(row);
            if let Some(worst) = worst
                && slowest.as_ref().is_none_or(|(took, _)| *took < worst.0)
            {
                slowest = Some(worst);
            }
        }
    }
    let slowest = match slowest {
        Some((_, call)) => Some(explain(connection, call).await?),
        None => None,
    };
    let holds = measured.iter().all(|row| row.holds);
    Ok(Benchmark { edges, hub_edges_max, measured, slowest, holds })
}

#[derive(Debug, Clone, Copy)]
struct Primitive {
    name: &'static str,
    ask_p99_ms: f64,
    takes_two: bool,
}

const PRIMITIVES: [Primitive; 4] = [
    Primitive { name: "neighbors", ask_p99_ms: 2.0, takes_two: false },
    Primitive { name: "k_hop", ask_p99_ms: 2.0, takes_two: false },
    Primitive { name: "path", ask_p99_ms: 10.0, takes_two: true },
    Primitive { name: "compare", ask_p99_ms: 5.0, takes_two: true },
];

#[derive(Debug, Clone)]
struct Call {
    primitive: &'static str,
    nodes: Vec<Uuid>,
}

/// Nodes by random ids.
pub(super) async fn sample(
    connection: &mut PgConnection,
    starts: usize,
    seed: u64,
) -> Result<Vec<Uuid>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let wanted: Vec<Id> = (0..starts).map(|_| Id(Uuid::from_bytes(rng.random()))).collect();
    let rows = sqlx::query(include_str!("../sql/graph/sample_starts.sql"))
        .bind(wanted)
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| Ok(row.try_get::<Id, _>("id")?.0)).collect()
}

async fn calls(
    connection: &mut PgConnection,
    primitive: Primitive,
    nodes: &[Uuid],
) -> Result<Vec<Call>> {
    let call = |nodes: Vec<Uuid>| Call { primitive: primitive.name, nodes };
    if !primitive.takes_two {
        return Ok(nodes.iter().map(|node| call(vec![*node])).collect());
    }
    if primitive.name == "path" || nodes.len() < 2 {
        let shifted = nodes.iter().cycle().skip(1);
        return Ok(nodes.iter().zip(shifted).map(|(a, b)| call(vec![*a, *b])).collect());
    }
    let rows = sqlx::query(include_str!("../sql/graph/sample_partners.sql"))
        .bind(Id::all(nodes))
        .fetch_all(connection)
        .await?;
    rows.iter()
        .map(|row| Ok(call(vec![row.try_get::<Id, _>("a")?.0, row.try_get::<Id, _>("b")?.0])))
        .collect()
}

/// Whether the answer was truncated; None where it met the deadline.
async fn call(connection: &mut PgConnection, call: &Call) -> Result<Option<bool>> {
    let nodes = &call.nodes;
    let asked = match call.primitive {
        "neighbors" => neighbors(connection, nodes[0], &[], Caps::MAX.results)
            .await
            .map(|answer| answer.meta.truncated),
        "k_hop" => {
            k_hop(connection, &KHop::new(nodes[0])).await.map(|answer| answer.meta.truncated)
        }
        "path" => path(connection, &PathQuery::new(nodes[0], nodes[1]))
            .await
            .map(|answer| answer.meta.truncated),
        _ => compare(connection, nodes[0], nodes[1], Caps::MAX.results)
            .await
            .map(|answer| answer.meta.truncated),
    };
    match asked {
        Ok(truncated) => Ok(Some(truncated)),
        Err(error) if error.kind() == ErrorKind::TimedOut => Ok(None),
        Err(error) => Err(error),
    }
}

async fn measure(
    connection: &mut PgConnection,
    primitive: Primitive,
    starts: &'static str,
    calls: &[Call],
    stop: &Stop,
) -> Result<(Measured, Option<(f64, Call)>)> {
    // Statements are prepared once per connection.
    for one in calls.iter().take(20) {
        call(connection, one).await?;
    }
    let mut took = Vec::with_capacity(calls.len());
    let (mut timed_out, mut truncated) = (0, 0);
    let mut worst: Option<(f64, Call)> = None;
    for one in calls {
        stop.check()?;
        let clock = Instant::now();
        match call(connection, one).await? {
            None => timed_out += 1,
            Some(is_truncated) => truncated += usize::from(is_truncated),
        }
        let ms = clock.elapsed().as_secs_f64() * 1_000.0;
        took.push(ms);
        if worst.as_ref().is_none_or(|(longest, _)| *longest < ms) {
            worst = Some((ms, one.clone()));
        }
    }
    took.sort_by(f64::total_cmp);
    let count = took.len();
    let share = |number: usize| number as f64 / count.max(1) as f64;
    let p99_ms = percentile(&took, 99);
    let row = Measured {
        primitive: primitive.name,
        starts,
        count,
        p50_ms: percentile(&took, 50),
        p95_ms: percentile(&took, 95),
        p99_ms,
        max_ms: took.last().copied().unwrap_or(0.0),
        timed_out_share: share(timed_out),
        ask_p99_ms: primitive.ask_p99_ms,
        truncated_share: share(truncated),
        holds: p99_ms <= primitive.ask_p99_ms && timed_out == 0,
    };
    Ok((row, worst))
}

/// Of sorted figures, the nearest rank.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0.0)
}

/// How the main statement of a call is executed, in the transaction it runs in.
async fn explain(connection: &mut PgConnection, call: Call) -> Result<Slowest> {
    let statement = match call.primitive {
        "compare" => include_str!("../sql/graph/compare_shared.sql"),
        "path" => include_str!("../sql/graph/path_meet.sql"),
        _ => include_str!("../sql/graph/k_hop.sql"),
    };
    let arguments = match call.primitive {
        "compare" => {
            format!("'{}', '{}', 51, {}", call.nodes[0], call.nodes[1], Caps::COMPARED_EDGES)
        }
        "path" => format!(
            "ARRAY['{}']::uuid[], ARRAY['{}']::uuid[], {}",
            call.nodes[0],
            call.nodes[1],
            Caps::VISITED_EDGES
        ),
        "neighbors" => format!("'{}', 1, 50, 50", call.nodes[0]),
        _ => format!("'{}', 5, 50, 50", call.nodes[0]),
    };
    let mut transaction = connection.begin_with(super::session::BEGIN).await?;
    let plan = explained(&mut transaction, statement, &arguments, true).await?;
    transaction.rollback().await?;
    Ok(Slowest { primitive: call.primitive, nodes: call.nodes, plan })
}

/// The plan of a statement with these arguments, SQL literals, as a call of this module would
/// execute it.
///
/// # Errors
/// Those of the statement.
pub async fn plan(
    connection: &mut PgConnection,
    statement: &str,
    arguments: &str,
) -> Result<Vec<String>> {
    let mut transaction = connection.begin_with(super::session::BEGIN).await?;
    let plan = explained(&mut transaction, statement, arguments, false).await?;
    transaction.rollback().await?;
    Ok(plan)
}

/// How many rows a statement takes from indexes of edges.
///
/// # Errors
/// Those of the statement.
pub async fn rows_read(
    connection: &mut PgConnection,
    statement: &str,
    arguments: &str,
) -> Result<f64> {
    let mut transaction = connection.begin_with(super::session::BEGIN).await?;
    let plan = explained(&mut transaction, statement, arguments, true).await?;
    transaction.rollback().await?;
    let figure = |line: &str, name: &str| -> Option<f64> {
        let (_, rest) = line.rsplit_once(&format!(" {name}="))?;
        rest.split([' ', ')']).next()?.parse().ok()
    };
    let scans = plan.iter().filter(|line| line.contains("on graph_edge"));
    Ok(scans.filter_map(|line| Some(figure(line, "rows")? * figure(line, "loops")?)).sum())
}

/// The plan of one of this module's statements with these arguments, which are ids and numbers.
pub(super) async fn explained(
    connection: &mut PgConnection,
    statement: &str,
    arguments: &str,
    runs: bool,
) -> Result<Vec<String>> {
    let how = if runs { "ANALYZE, BUFFERS, COSTS OFF" } else { "COSTS OFF" };
    sqlx::raw_sql(crate::store::sql(format!("PREPARE toolkit_explained AS {statement}")))
        .execute(&mut *connection)
        .await?;
    let explain = format!("EXPLAIN ({how}) EXECUTE toolkit_explained ({arguments})");
    let rows = sqlx::raw_sql(crate::store::sql(explain)).fetch_all(&mut *connection).await?;
    sqlx::raw_sql("DEALLOCATE toolkit_explained").execute(connection).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// `k_hop` in two other ways, for comparison: what each took from each start.
#[derive(Debug, Clone)]
pub struct Beside {
    /// One statement with a visited list per path, caps applied to its result; up to the deadline.
    pub naive: Vec<Duration>,
    /// A plain query per level, the search kept on this side.
    pub by_level: Vec<Duration>,
}

/// Measures the other ways.
///
/// # Errors
/// Those of the statements; a timeout counts as the deadline.
pub async fn beside(connection: &mut PgConnection, starts: &[Uuid]) -> Result<Beside> {
    let (mut naive, mut by_level) = (Vec::new(), Vec::new());
    for start in starts {
        let clock = Instant::now();
        let mut transaction = connection.begin_with(super::session::BEGIN).await?;
        let done = sqlx::query(include_str!("../sql/graph/naive_k_hop.sql"))
            .bind(Id(*start))
            .bind(5_i32)
            .bind(50_i32)
            .fetch_all(&mut *transaction)
            .await;
        transaction.rollback().await?;
        naive.push(if done.is_ok() { clock.elapsed() } else { DEADLINE });
        let clock = Instant::now();
        level_by_level(connection, *start).await?;
        by_level.push(clock.elapsed());
    }
    Ok(Beside { naive, by_level })
}

async fn level_by_level(connection: &mut PgConnection, start: Uuid) -> Result<usize> {
    let mut transaction = connection.begin_with(super::session::BEGIN).await?;
    let mut seen = std::collections::HashSet::from([start]);
    let mut frontier = vec![start];
    for _ in 0..Caps::MAX.hops {
        if frontier.is_empty() || seen.len() > Caps::MAX.results as usize {
            break;
        }
        let rows = sqlx::query(
            "SELECT g.to_id FROM unnest($1::uuid[]) AS f(id) CROSS JOIN LATERAL \
             (SELECT e.to_id FROM graph_edge e WHERE e.from_id = f.id \
              ORDER BY e.edge_type, e.to_id LIMIT 50) AS g",
        )
        .bind(Id::all(&frontier))
        .fetch_all(&mut *transaction)
        .await?;
        frontier.clear();
        for row in &rows {
            let id = row.try_get::<Id, _>(0)?.0;
            if seen.len() <= Caps::MAX.results as usize && seen.insert(id) {
                frontier.push(id);
            }
        }
    }
    transaction.rollback().await?;
    Ok(seen.len())
}

/// Random starts, as [`run`] takes them.
///
/// # Errors
/// Those of the statement.
pub async fn random_starts(
    connection: &mut PgConnection,
    starts: usize,
    seed: u64,
) -> Result<Vec<Uuid>> {
    sample(connection, starts, seed).await
}
