//! The pack `anime`.

pub mod points;
