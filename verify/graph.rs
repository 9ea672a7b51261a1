//! The graph: what it answers is what an oracle answers, whatever is asked of it ends, and its
//! projection follows the junction tables.

mod lineage;
mod oracle;
mod plans;
mod projection;
mod safety;
mod scene;
