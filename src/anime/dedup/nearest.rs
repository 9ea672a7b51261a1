//! The nearest neighbours of all vectors, exactly, by comparing each with each once.
//!
//! For a store that compares a vector with all others at each search anyway: a block of vectors
//! stays in the processor's reach while all others pass by it, which is many times faster than as
//! many searches. Work still grows with the square of the number, memory does not.

use std::collections::HashMap;
use std::num::NonZero;

use uuid::Uuid;

/// Numbers multiplied side by side; compilers make vector instructions of so many.
const LANES: usize = 16;

/// Vectors of one length, one behind the other, made of length one.
#[derive(Debug, Default)]
pub(super) struct Vectors {
    ids: Vec<Uuid>,
    numbers: Vec<f32>,
}

impl Vectors {
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Adds one; a vector without a direction is near nothing, and left out.
    pub(super) fn push(&mut self, id: Uuid, vector: &[f32]) {
        let length = dot(vector, vector).sqrt();
        if length > 0.0 && length.is_finite() {
            self.ids.push(id);
            self.numbers.extend(vector.iter().map(|number| number / length));
        }
    }

    fn get(&self, at: usize) -> (Uuid, &[f32]) {
        let size = self.numbers.len() / self.ids.len();
        (self.ids[at], &self.numbers[at * size..][..size])
    }
}

fn dot(one: &[f32], other: &[f32]) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (ones, others) = (one.chunks_exact(LANES), other.chunks_exact(LANES));
    let rest = ones.remainder().iter().zip(others.remainder());
    let rest: f32 = rest.map(|(one, other)| one * other).sum();
    for (one, other) in ones.zip(others) {
        for ((sum, one), other) in sums.iter_mut().zip(one).zip(other) {
            *sum += one * other;
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// The nearest of some, nearest first.
#[derive(Debug, Default, Clone)]
struct Nearest(Vec<(f32, Uuid)>);

impl Nearest {
    fn offer(&mut self, nearness: f32, id: Uuid, most: usize) {
        if self.0.len() == most && self.0.last().is_some_and(|(least, _)| *least >= nearness) {
            return;
        }
        let at = self.0.partition_point(|(other, _)| *other >= nearness);
        self.0.insert(at, (nearness, id));
        self.0.truncate(most);
    }
}

/// At most so many neighbours of each, at least so near.
#[derive(Debug)]
pub(super) struct Search {
    most: usize,
    nearness_min: f32,
    found: HashMap<Uuid, Nearest>,
}

impl Search {
    pub(super) fn new(most: u32, nearness_min: f32) -> Self {
        Self { most: most as usize, nearness_min, found: HashMap::new() }
    }

    /// Compares a block with vectors that pass by it. A vector of the block meets only those whose
    /// ids are greater: whatever passes the blocks of all smaller ids has met everybody once.
    /// Blocks the thread it is called on, and as many more as there are processors.
    pub(super) fn compare(&mut self, block: &Vectors, passing: &Vectors) {
        if block.len() == 0 || passing.len() == 0 {
            return;
        }
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        let share = block.len().div_ceil(threads);
        let (most, nearness_min) = (self.most, self.nearness_min);
        let found: Vec<HashMap<Uuid, Nearest>> = std::thread::scope(|scope| {
            let parts: Vec<_> = (0..block.len())
                .step_by(share)
                .map(|from| from..(from + share).min(block.len()))
                .map(|rows| scope.spawn(move || compare(block, rows, passing, most, nearness_min)))
                .collect();
            let panicked = |panic| std::panic::resume_unwind(panic);
            parts.into_iter().map(|part| part.join().unwrap_or_else(panicked)).collect()
        });
        for (id, nearest) in found.into_iter().flatten() {
            let own = self.found.entry(id).or_default();
            for (nearness, other) in nearest.0 {
                own.offer(nearness, other, most);
            }
        }
    }

    /// Pairs, the smaller id first, with their cosine.
    pub(super) fn pairs(self) -> HashMap<(Uuid, Uuid), f64> {
        let found = self.found.into_iter().flat_map(|(one, nearest)| {
            nearest.0.into_iter().map(move |(nearness, other)| {
                ((one.min(other), one.max(other)), f64::from(nearness.min(1.0)))
            })
        });
        found.collect()
    }
}

fn compare(
    block: &Vectors,
    rows: std::ops::Range<usize>,
    passing: &Vectors,
    most: usize,
    nearness_min: f32,
) -> HashMap<Uuid, Nearest> {
    let mut found: HashMap<Uuid, Nearest> = HashMap::new();
    for row in rows {
        let (one, vector) = block.get(row);
        for at in 0..passing.len() {
            let (other, another) = passing.get(at);
            if other <= one {
                continue;
            }
            let nearness = dot(vector, another);
            if nearness >= nearness_min {
                found.entry(one).or_default().offer(nearness, other, most);
                found.entry(other).or_default().offer(nearness, one, most);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use rand::{Rng as _, SeedableRng as _};

    use super::*;

    #[test]
    fn blocks_of_any_size_find_the_neighbours_that_comparing_all_with_all_finds() {
        let mut dice = rand_chacha::ChaCha8Rng::seed_from_u64(6);
        let vectors: Vec<(Uuid, Vec<f32>)> = (0..90_u128)
            .map(|n| (Uuid::from_u128(n), (0..21).map(|_| dice.random_range(-1.0..1.0)).collect()))
            .collect();
        let cosine = |one: &[f32], other: &[f32]| {
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
            dot(one, other) / (dot(one, one) * dot(other, other)).sqrt()
        };
        let mut expected: Vec<(Uuid, Uuid)> = Vec::new();
        for (one, vector) in &vectors {
            let mut near: Vec<(f32, Uuid)> = vectors
                .iter()
                .filter(|(other, _)| other != one)
                .map(|(other, another)| (cosine(vector, another), *other))
                .filter(|(nearness, _)| *nearness >= 0.2)
                .collect();
            near.sort_by(|a, b| b.0.total_cmp(&a.0));
            expected.extend(near.iter().take(3).map(|(_, id)| (*one.min(id), *one.max(id))));
        }
        expected.sort_unstable();
        expected.dedup();
        assert!(expected.len() > 50);
        for (block, page) in [(90, 90), (7, 11), (1, 90), (90, 1)] {
            let mut search = Search::new(3, 0.2);
            for (at, rows) in vectors.chunks(block).enumerate() {
                let held = packed(rows);
                for passing in vectors[at * block..].chunks(page) {
                    search.compare(&held, &packed(passing));
                }
            }
            let mut found: Vec<_> = search.pairs().into_keys().collect();
            found.sort_unstable();
            assert_eq!(found, expected, "blocks of {block}, pages of {page}");
        }
    }

    fn packed(rows: &[(Uuid, Vec<f32>)]) -> Vectors {
        let mut vectors = Vectors::default();
        for (id, vector) in rows {
            vectors.push(*id, vector);
        }
        vectors
    }

    #[test]
    fn a_vector_without_a_direction_is_near_nothing() {
        let mut vectors = Vectors::default();
        vectors.push(Uuid::from_u128(1), &[0.0; 4]);
        vectors.push(Uuid::from_u128(2), &[f32::INFINITY; 4]);
        assert_eq!(vectors.len(), 0);
    }
}
