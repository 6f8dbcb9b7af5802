# Every developer's verb. `just --list` shows them; each is one line that also works by hand.

set positional-arguments

# The demo: simulated venue, SQLite, nothing to set up
demo *arguments:
    cargo run --release --locked -- demo "$@"

# All binaries, optimised
build:
    cargo build --release --workspace --bins --locked

# The tests (scripts/test says what it needs)
test *arguments:
    scripts/test "$@"

# Tests and the slow suites
test-all:
    scripts/test --all

# Warnings are errors
lint:
    cargo clippy --workspace --all-targets --locked -- -D warnings

# Format everything
fmt:
    cargo fmt --all

# The API documentation of all crates
docs:
    RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps --workspace --locked

# The figures of docs/benchmarks.md
bench:
    cargo bench --locked -p alpaca_feed --bench decode
    cargo bench --locked -p market_ingest --bench sinks
    cargo bench --locked --workspace --bench e2e

# Bans, licences and sources of the dependencies
deny:
    scripts/deny

# Dockerfile, Cloud Run manifests, Firestore rules, alerts
infra *arguments:
    scripts/check-infra "$@"

# The production image, with docker or another builder that takes the same words
image builder="docker":
    "$1" build --build-arg REVISION="$(git rev-parse --short HEAD)" --tag market-ingest .

# What CI runs
ci:
    .ci/run
