# What can be done here: just --list

# See everything work, on this machine
demo *ARGS:
    cargo run --release -- demo {{ARGS}}

# Everything that must hold
test:
    ./test

# Measure: verification alone, and the whole edge against a bare proxy in the same run
bench:
    cargo bench -p edgeward-core --bench verify
    cargo bench -p edgeward --bench proxy

# The long forms of the tests, with reports under docs/proof/; --fleet: those of many nodes alone
prove *ARGS:
    cargo run --quiet -p xtask -- prove {{ARGS}}

# Write what is generated: docs/settings.md
docs:
    cargo run -p xtask -- docs

# Lints and format, quickly
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
