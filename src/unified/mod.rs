//! What the pack `unified` needs beyond a table of casts: facts computed from a whole report.

pub mod report;
