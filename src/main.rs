//! The command `toolkit`.
fn main() {}
