//! Connections to stores.
