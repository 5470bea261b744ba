#!/usr/bin/env bash
# Formatting, and clippy without a warning on both targets.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/toolchain.sh
ensure_rust
export WASM_BINDGEN_USE_JS_SYS=1
say "cargo fmt --check"
cargo fmt --check
say "clippy, native"
cargo clippy --all-targets --locked -- -D warnings
say "clippy, wasm32"
cargo clippy --lib --locked --target "$WASM_TARGET" --features test-faults -- -D warnings
