//! The packs that are compiled into the program.

/// Names of the built-in packs.
pub const NAMES: &[&str] = &["anime", "unified", "webtoon"];

/// `pack.toml` of a built-in pack.
#[must_use]
pub fn text(name: &str) -> Option<&'static str> {
    match name {
        "anime" => Some(include_str!("../../migrations/anime/pack.toml")),
        "unified" => Some(include_str!("../../migrations/unified/pack.toml")),
        "webtoon" => Some(include_str!("../../migrations/webtoon/pack.toml")),
        _ => None,
    }
}

/// The Rust functions a pack may name in `source.compute`.
#[must_use]
pub fn compute(name: &str) -> Option<crate::pack::plan::ComputeFn> {
    match name {
        "unified.report" => Some(crate::unified::report::compute),
        "unified.comparison" => Some(crate::unified::report::comparison),
        _ => None,
    }
}

/// Names [`compute`] knows.
pub const COMPUTE_NAMES: &[&str] = &["unified.report", "unified.comparison"];
