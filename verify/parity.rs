//! `toolkit verify-parity`: every drift is found and named, and nothing else is.

mod accounting;
mod drift;
mod independent;
mod levels;
mod real;
mod self_test;
mod settle;
