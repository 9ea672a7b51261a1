//! The phase machine: gates, evidence, cutover, rollback, decommission, acceptance.

mod cutover;
mod gates;
mod missed;
mod scene;
mod shop;
mod walk;
mod way_back;
