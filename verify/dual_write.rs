//! `toolkit dual-write`: changes captured in SQLite arrive in Postgres.

mod documents;
mod hardship;
mod history;
mod install;
mod random;
mod refusals;
mod scene;
mod several_files;
mod writes;
