//! verify

mod json_oracle;
