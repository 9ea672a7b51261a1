# Every recipe is one cargo command; `just --list` shows them.

# Lists the recipes.
default:
    @just --list

# Formats the sources.
fmt:
    cargo fmt

# Formatting and lints, as the gate runs them.
lint:
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings

# All tests, or those whose names hold the arguments.
test *ARGS:
    cargo test {{ARGS}}

# Strikes a backfill, and a whole migration, a thousand times each; TOOLKIT_TORTURE_SEED replays.
torture KILLS="1000":
    cargo build --example steady_writer
    TOOLKIT_TORTURE_KILLS={{KILLS}} cargo test --test verify torture:: -- --nocapture
    TOOLKIT_TORTURE_KILLS={{KILLS}} cargo test --test verify live_migration:: -- --nocapture

# Benchmarks; TOOLKIT_BENCH_SHORT=1 shortens them.
bench *ARGS:
    cargo bench {{ARGS}}

# The narrated demo on generated data.
demo *ARGS:
    cargo run --release -- demo {{ARGS}}

# Applies migrations.
migrate *ARGS:
    cargo run --release -- migrate up {{ARGS}}

# Copies history from the sources into Postgres.
backfill *ARGS:
    cargo run --release -- backfill {{ARGS}}

# Proves that sources and Postgres hold the same rows.
verify-parity *ARGS:
    cargo run --release -- verify-parity {{ARGS}}

# Plants every class of drift in data of its own and sees it found.
self-test *ARGS:
    cargo run -- verify-parity --self-test {{ARGS}}

# Everything the gate runs, on this machine.
ci:
    .ci/run
