//! The phase machine: gates, evidence, cutover, rollback, decommission, acceptance.

mod cutover;
mod gates;
mod scene;
mod shop;
mod walk;
