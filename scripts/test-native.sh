#!/usr/bin/env bash
# The pure floors, and the flows over a world of the tests' own.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/toolchain.sh
ensure_rust
say "native tests"
cargo test --locked
