//! `toolkit verify-parity`: every drift is found and named, and nothing else is.

mod accounting;
mod drift;
mod levels;
mod real;
