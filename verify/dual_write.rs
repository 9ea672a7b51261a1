//! `toolkit dual-write`: changes captured in SQLite arrive in Postgres.

mod install;
mod scene;
mod writes;
