//! Bounded questions to the graph of pack `anime`: `neighbors`, `k_hop`, `path`, `compare`.
//!
//! All read the projection `graph_edge`. However they are asked, they end: caps are enforced inside
//! the traversal, whatever the caller wants ([`Caps`]); each call has 2 s ([`DEADLINE`]), in a
//! read-only transaction; edge types are those of [`vocabulary`]; every value is bound.
//!
//! A node is found by its uuid alone. A character that was merged into another answers as that one.

mod answer;
pub mod bench;
mod caps;
mod compare;
mod dot;
pub mod generate;
mod k_hop;
pub mod lineage;
pub mod parity;
mod path;
pub mod reconcile;
mod session;
pub mod vocabulary;

pub use answer::{Answer, Clamped, Meta, Names, Node, Path, Rel, Stub};
pub use caps::{Caps, DEADLINE};
pub use compare::{Comparison, FieldDifference, Shared, compare};
pub use dot::{dot, lineage_dot};
pub use k_hop::{KHop, k_hop, neighbors, stubs};
pub use path::{PathQuery, path};
pub use session::names;
