//! unified
