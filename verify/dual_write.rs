//! `toolkit dual-write`: capture in SQLite files, and what it leaves of them.

mod install;
