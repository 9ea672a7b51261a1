//! The packs that are compiled into the program.

/// Names of the built-in packs.
pub const NAMES: &[&str] = &["anime", "media", "unified", "webtoon"];

/// `pack.toml` of a built-in pack.
#[must_use]
pub fn text(name: &str) -> Option<&'static str> {
    match name {
        "anime" => Some(include_str!("../../migrations/anime/pack.toml")),
        "media" => Some(include_str!("../../migrations/media/pack.toml")),
        "unified" => Some(include_str!("../../migrations/unified/pack.toml")),
        "webtoon" => Some(include_str!("../../migrations/webtoon/pack.toml")),
        _ => None,
    }
}

/// The Rust functions a pack may name in `source.compute`.
#[must_use]
pub fn compute(name: &str) -> Option<crate::pack::plan::ComputeFn> {
    match name {
        "media.item" => Some(crate::media::import::item),
        "media.link" => Some(crate::media::import::link),
        "media.list" => Some(crate::media::import::list),
        "media.relationship" => Some(crate::media::import::relationship),
        "media.tracked" => Some(crate::media::import::tracked),
        "unified.report" => Some(|document| Ok(crate::unified::report::compute(document))),
        "unified.comparison" => Some(|document| Ok(crate::unified::report::comparison(document))),
        _ => None,
    }
}

/// Names [`compute`] knows.
pub const COMPUTE_NAMES: &[&str] = &[
    "media.item",
    "media.link",
    "media.list",
    "media.relationship",
    "media.tracked",
    "unified.report",
    "unified.comparison",
];
