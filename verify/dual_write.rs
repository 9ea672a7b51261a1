//! `toolkit dual-write`: changes captured in SQLite arrive in Postgres.

mod install;
mod random;
mod scene;
mod writes;
