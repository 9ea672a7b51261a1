//! A database of pack anime and graphs loaded straight into the projection.

use std::collections::BTreeSet;
use std::path::Path;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::support::world::World;

pub(super) async fn world() -> World {
    World::builtin("anime", Path::new("nowhere")).await
}

/// The node that a number stands for.
pub(super) fn id(number: usize) -> Uuid {
    let mut rng = ChaCha8Rng::seed_from_u64(number as u64);
    uuid::Builder::from_random_bytes(rng.random()).into_uuid()
}

pub(super) const RELATIONS: [(&str, &str); 3] =
    [("SEQUEL", "PREQUEL"), ("OTHER", "OTHER"), ("SPIN_OFF", "SPIN_OFF_OF")];

/// Edges with their types, both directions; nodes are numbers.
#[derive(Debug, Default)]
pub(super) struct Edges(pub(super) BTreeSet<(usize, &'static str, usize)>);

impl Edges {
    pub(super) fn join(&mut self, from: usize, to: usize, names: (&'static str, &'static str)) {
        if from != to {
            self.0.insert((from, names.0, to));
            self.0.insert((to, names.1, from));
        }
    }

    fn relate(&mut self, rng: &mut ChaCha8Rng, from: usize, to: usize) {
        let names = RELATIONS[rng.random_range(0..RELATIONS.len())];
        self.join(from, to, names);
    }

    /// A graph of one of the shapes there are in the wild, of about `nodes` nodes.
    pub(super) fn of_shape(rng: &mut ChaCha8Rng, shape: usize, nodes: usize) -> Self {
        let mut edges = Self::default();
        match shape {
            // Power-law hubs.
            0 => {
                for _ in 0..nodes * 2 {
                    let skewed = |rng: &mut ChaCha8Rng| {
                        let unit: f64 = rng.random();
                        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                        let number = (nodes as f64 * unit.powi(4)) as usize;
                        number.min(nodes - 1)
                    };
                    let (from, to) = (rng.random_range(0..nodes), skewed(rng));
                    edges.relate(rng, from, to);
                }
            }
            // A long chain.
            1 => (1..nodes).for_each(|node| edges.relate(rng, node - 1, node)),
            // Cliques, joined by one edge each.
            2 => {
                for node in 0..nodes {
                    for other in (node / 9 * 9)..node {
                        edges.relate(rng, node, other);
                    }
                    if node % 9 == 0 && node > 0 {
                        edges.relate(rng, node - 1, node);
                    }
                }
            }
            // Bipartite.
            3 => {
                for _ in 0..nodes * 3 {
                    let half = nodes.div_ceil(2);
                    let (from, to) = (rng.random_range(0..half), half + rng.random_range(0..half));
                    edges.relate(rng, from, to);
                }
            }
            // Many islands.
            4 => {
                for node in 0..nodes {
                    if node % 4 != 0 {
                        edges.relate(rng, node - 1, node);
                    }
                }
            }
            // Anime with studios, producers and characters.
            _ => {
                for anime in 0..nodes {
                    let roles = ["studio", "producer", "licensor"];
                    for _ in 0..rng.random_range(0..4) {
                        let company = nodes + rng.random_range(0..nodes.div_ceil(6));
                        let role = roles[rng.random_range(0..3)];
                        edges.join(anime, company, (role, "produced"));
                    }
                    for _ in 0..rng.random_range(0..4) {
                        let character = 2 * nodes + rng.random_range(0..nodes);
                        edges.join(anime, character, ("features", "appears_in"));
                    }
                    if rng.random_bool(0.2) {
                        let other = rng.random_range(0..nodes);
                        edges.relate(rng, anime, other);
                    }
                }
            }
        }
        edges
    }

    /// Puts them in the place of what the projection holds, by the five columns that suffice.
    pub(super) async fn load(&self, connection: &mut PgConnection) {
        sqlx::raw_sql("TRUNCATE graph_edge").execute(&mut *connection).await.unwrap();
        let copy = "COPY graph_edge (from_id, from_type, to_id, to_type, edge_type) FROM STDIN";
        let mut copying = connection.copy_in_raw(copy).await.unwrap();
        let mut text = String::new();
        for (from, name, to) in &self.0 {
            let (from_type, to_type) = match *name {
                "features" => ("anime", "character"),
                "appears_in" => ("character", "anime"),
                "produced" => ("company", "anime"),
                "studio" | "producer" | "licensor" => ("anime", "company"),
                _ => ("anime", "anime"),
            };
            text += &format!("{}\t{from_type}\t{}\t{to_type}\t{name}\n", id(*from), id(*to));
        }
        copying.send(text.as_bytes()).await.unwrap();
        copying.finish().await.unwrap();
        sqlx::raw_sql("ANALYZE graph_edge").execute(connection).await.unwrap();
    }
}
