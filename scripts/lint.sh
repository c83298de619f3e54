#!/bin/bash
# Checks the formatting, clippy (without warnings), the dependencies (deny.toml) and the Go helper.
set -euo pipefail
cd "$(dirname "$0")/.."

echo "lint: cargo fmt"
cargo fmt --all --check
echo "lint: cargo clippy"
cargo clippy --quiet --workspace --all-targets -- -D warnings
echo "lint: cargo deny (licences, bans, sources)"
cargo deny --log-level error check licenses bans sources
echo "lint: gofmt and go vet (the first time it compiles the control plane: about 7 minutes on 2 cores)"
cd tests/controlplane
unformatted=$(gofmt -l .)
[ -z "$unformatted" ] || { echo "not formatted: $unformatted" >&2; exit 1; }
go vet ./...
echo "lint: clean"
