//! A seeded graph for benchmarks: power-law hubs, loaded straight into the tables.

use std::collections::HashSet;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;

/// How large a graph is to be.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Anime; characters, companies and the rest follow.
    pub anime: u32,
    /// Stored edges, both directions counted.
    pub edges: u32,
    /// Edges of the greatest hubs: one anime, one character, one company have as many.
    pub hub_edges: u32,
}

impl Size {
    /// 40,000 anime, 1.2 M edges.
    pub const FULL: Self = Self { anime: 40_000, edges: 1_200_000, hub_edges: 12_000 };

    /// Everything but the hubs ten times.
    #[must_use]
    pub fn tenfold(self) -> Self {
        Self { anime: self.anime * 10, edges: self.edges * 10, ..self }
    }
}

const ANIME: u8 = 1;
const CHARACTER: u8 = 2;
const COMPANY: u8 = 3;
const MANGA: u8 = 4;

/// The id of entity `number` of a kind: scattered as random ids are, the same for every seed.
fn id(kind: u8, number: u32) -> Uuid {
    let mut rng = ChaCha8Rng::seed_from_u64(u64::from(kind) << 32 | u64::from(number));
    uuid::Builder::from_random_bytes(rng.random()).into_uuid()
}

/// The id of the anime `number`; 0 is the greatest hub.
#[must_use]
pub fn anime(number: u32) -> Uuid {
    id(ANIME, number)
}

/// Draws pairs, each once.
struct Draw {
    rng: ChaCha8Rng,
    degrees: std::collections::HashMap<(u8, u32), u32>,
    seen: HashSet<(u8, u32, u32)>,
    hub_edges: u32,
}

impl Draw {
    /// A number below `n`, small ones far more often: the k-th about as `k^(-2/3)`.
    fn skewed(&mut self, n: u32) -> u32 {
        let unit: f64 = self.rng.random();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below n")]
        let number = (f64::from(n) * unit.powi(3)) as u32;
        number.min(n - 1)
    }

    fn take(&mut self, kind: u8, from: u32, to_kind: u8, to: u32) -> bool {
        let degree = |this: &Self, key| this.degrees.get(&key).copied().unwrap_or(0);
        if degree(self, (ANIME, from)) >= self.hub_edges
            || degree(self, (to_kind, to)) >= self.hub_edges
            || !self.seen.insert((kind, from, to))
        {
            return false;
        }
        *self.degrees.entry((ANIME, from)).or_default() += 1;
        *self.degrees.entry((to_kind, to)).or_default() += 1;
        true
    }
}

/// A junction: share of all, edge type, type and kind of its targets, how many targets.
struct Junction {
    share: f64,
    edge_types: &'static [(&'static str, &'static str)],
    to_type: &'static str,
    to_kind: u8,
    targets: u32,
    origin: &'static str,
}

fn junctions(size: Size) -> [Junction; 4] {
    [
        Junction {
            share: 0.5,
            edge_types: &[("features", "appears_in")],
            to_type: "character",
            to_kind: CHARACTER,
            targets: size.anime * 5 / 2,
            origin: "anime_character",
        },
        Junction {
            share: 0.2,
            edge_types: &[
                ("studio", "produced"),
                ("producer", "produced"),
                ("licensor", "produced"),
            ],
            to_type: "company",
            to_kind: COMPANY,
            targets: (size.anime / 14).max(1),
            origin: "anime_company",
        },
        Junction {
            share: 0.25,
            edge_types: &[
                ("SEQUEL", "PREQUEL"),
                ("SIDE_STORY", "PARENT_STORY"),
                ("OTHER", "OTHER"),
                ("SPIN_OFF", "SPIN_OFF_OF"),
            ],
            to_type: "anime",
            to_kind: ANIME,
            targets: size.anime,
            origin: "anime_relation",
        },
        Junction {
            share: 0.05,
            edge_types: &[("adapted_from", "was_adapted_to")],
            to_type: "manga",
            to_kind: MANGA,
            targets: size.anime * 5 / 8,
            origin: "anime_manga_relation",
        },
    ]
}

/// Replaces graph and entities of a database that holds nothing else by generated ones, and
/// returns how many edges there are. The junction tables stay empty.
///
/// # Errors
/// Those of the statements.
pub async fn load(connection: &mut PgConnection, seed: u64, size: Size) -> Result<u64> {
    sqlx::raw_sql(
        "ALTER TABLE graph_edge DROP CONSTRAINT graph_edge_pkey;
         DROP INDEX graph_edge_maker_idx;
         DROP INDEX graph_edge_pair_idx;
         TRUNCATE graph_edge",
    )
    .execute(&mut *connection)
    .await?;
    entities(connection, size).await?;
    let edges = edges(connection, seed, size).await?;
    sqlx::raw_sql(
        "SET maintenance_work_mem = '1GB';
         ALTER TABLE graph_edge ADD CONSTRAINT graph_edge_pkey
             PRIMARY KEY (from_id, edge_type, to_id, origin) INCLUDE (from_type, to_type);
         CREATE INDEX graph_edge_maker_idx ON graph_edge (to_id, edge_type, from_id)
             INCLUDE (from_type) WHERE edge_type IN ('studio', 'producer', 'licensor');
         CREATE INDEX graph_edge_pair_idx
             ON graph_edge (uuid_hash_extended(from_id, uuid_hash_extended(to_id, 0)));
         RESET maintenance_work_mem",
    )
    .execute(&mut *connection)
    .await?;
    Ok(edges)
}

async fn entities(connection: &mut PgConnection, size: Size) -> Result<()> {
    for table in ["anime", "character", "company", "manga"] {
        let (columns, kind, count, rest) = match table {
            "anime" => ("id, title, type, status", ANIME, size.anime, "\tTV\tFINISHED"),
            "character" => ("id, name", CHARACTER, size.anime * 5 / 2, ""),
            "company" => ("id, name", COMPANY, (size.anime / 14).max(1), ""),
            _ => ("id, title", MANGA, size.anime * 5 / 8, ""),
        };
        // Nothing has to be told of what is generated: no outbox, no edge.
        let triggers = |state: &str| format!("ALTER TABLE {table} {state} TRIGGER USER");
        let run = |text: String| crate::store::sql(text);
        sqlx::raw_sql(run(triggers("DISABLE"))).execute(&mut *connection).await?;
        let mut copying =
            connection.copy_in_raw(&format!("COPY {table} ({columns}) FROM STDIN")).await?;
        let mut text = String::new();
        for number in 0..count {
            text.push_str(&format!("{}\t{table} {number}{rest}\n", id(kind, number)));
            if text.len() > 1 << 20 {
                copying.send(text.as_bytes()).await?;
                text.clear();
            }
        }
        copying.send(text.as_bytes()).await?;
        copying.finish().await?;
        sqlx::raw_sql(run(triggers("ENABLE"))).execute(&mut *connection).await?;
    }
    Ok(())
}

async fn edges(connection: &mut PgConnection, seed: u64, size: Size) -> Result<u64> {
    let mut draw = Draw {
        rng: ChaCha8Rng::seed_from_u64(seed),
        degrees: std::collections::HashMap::new(),
        seen: HashSet::new(),
        hub_edges: size.hub_edges,
    };
    let mut copying = connection
        .copy_in_raw(
            "COPY graph_edge (from_id, from_type, to_id, to_type, edge_type, origin) FROM STDIN",
        )
        .await?;
    let mut text = String::new();
    for junction in junctions(size) {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of it")]
        let wanted = (f64::from(size.edges / 2) * junction.share) as u32;
        let hub = size.hub_edges.min(wanted / 4).min(size.anime - 1);
        let mut made = 0;
        // What is drawn twice is drawn again; a graph too dense for that stays smaller.
        for attempt in 0..wanted.saturating_mul(4) {
            if made == wanted {
                break;
            }
            // The hub first: everyone's target 0.
            let (from, to) = if attempt < hub {
                (attempt + 1, 0)
            } else {
                let from = if draw.rng.random_bool(0.7) {
                    draw.rng.random_range(0..size.anime)
                } else {
                    draw.skewed(size.anime)
                };
                (from, draw.skewed(junction.targets))
            };
            let kind = draw.rng.random_range(0..junction.edge_types.len());
            if junction.to_kind == ANIME && from == to
                || !draw.take(
                    junction.to_kind * 8 + u8::try_from(kind).unwrap_or(0),
                    from,
                    junction.to_kind,
                    to,
                )
            {
                continue;
            }
            made += 1;
            line(&mut text, &junction, junction.edge_types[kind], from, to);
            if text.len() > 1 << 20 {
                copying.send(text.as_bytes()).await?;
                text.clear();
            }
        }
    }
    copying.send(text.as_bytes()).await?;
    Ok(copying.finish().await?)
}

fn line(text: &mut String, junction: &Junction, names: (&str, &str), from: u32, to: u32) {
    let (anime, target) = (id(ANIME, from), id(junction.to_kind, to));
    let Junction { to_type, origin, .. } = junction;
    let role = if junction.to_kind == COMPANY { format!(":{}", names.0) } else { String::new() };
    text.push_str(&format!("{anime}\tanime\t{target}\t{to_type}\t{}\t{origin}{role}\n", names.0));
    text.push_str(&format!("{target}\t{to_type}\t{anime}\tanime\t{}\t{origin}{role}<\n", names.1));
}
