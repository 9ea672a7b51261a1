//! verify

mod cast_oracle;
mod json_oracle;
