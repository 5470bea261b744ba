#!/usr/bin/env bash
# Builds the Worker into build/ (a release), or with --test-faults into build-test/: the same, plus faults on demand.
# wrangler calls it (wrangler.toml), so it is complete by itself: it installs whatever is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/toolchain.sh

out=build features=()
if [ "${1:-}" = --test-faults ]; then out=build-test features=(--features test-faults); fi

# Nothing to do when no source is newer than what was built: wrangler asks on every start.
if [ -f "$out/index_bg.wasm" ] && [ -f "$out/.complete" ] &&
   [ -z "$(find src data Cargo.toml Cargo.lock build.rs scripts/build.sh scripts/toolchain.sh -newer "$out/.complete" -print -quit)" ]; then
  exit 0
fi
ensure_wasm_toolchain

"$WORKER_BUILD" --release --out-dir "$out" "${features[@]}" >&2
touch "$out/.complete"
