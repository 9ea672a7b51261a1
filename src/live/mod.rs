//! For Rust applications that live through their own migration: one write, wherever the primary
//! store is; the route to read by; reads compared on both stores.
//!
//! | part | what it does |
//! |---|---|
//! | [`ReadRouter`] | knows which store is primary, follows a flip within a second |
//! | [`DualWriter`] | runs a change in the store that is primary when it commits |
//! | [`ShadowRead`] | runs a read on both stores and records where they differ |
//!
//! # Why one store is primary for every acknowledged write
//!
//! * *`SQLite` to Postgres (cutover).* The file is fenced by triggers before the route flips, and
//!   stays fenced: a change that was begun in `SQLite` commits before the fence, and is then part
//!   of the final catch-up, or is refused by it. The route an application remembers decides
//!   nothing; an old one costs one refused attempt.
//! * *Postgres to `SQLite` (rollback).* A change in Postgres holds the pack's row of
//!   `toolkit.phase` from its first statement to its commit (`toolkit.hold_route`, which reads the
//!   row `FOR SHARE`), and goes on only where that row names Postgres. Whoever changes the route
//!   waits for such changes to end; those that come later see the new route and are tried again in
//!   `SQLite`.
//!
//! # What a restart of the server means
//!
//! While `SQLite` is primary, none of this waits for Postgres: changes commit, the capture log in
//! the file is the record of what Postgres still lacks, and the tail applies it when the server
//! is back. While Postgres is primary, a change fails as the application's own statement would.

mod apply;
mod canonical;
mod compare;
mod file;
mod router;
mod shadow;
mod tally;
mod writer;

pub use apply::ApplyAtOnce;
pub use canonical::{Cell, ShadowRow};
pub use file::{FileTransaction, SqliteFile};
pub use router::{ReadRouter, Routed};
pub use shadow::{Order, ShadowCounts, ShadowOptions, ShadowRead};
pub use writer::{DualWriter, Store, WriteError, WriterOptions};

use std::future::Future;
use std::pin::Pin;

/// What the closures of this module return: `Box::pin(async move { ... })`.
pub type Doing<'s, T> = Pin<Box<dyn Future<Output = T> + Send + 's>>;
