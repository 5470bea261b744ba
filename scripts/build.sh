#!/usr/bin/env bash
# Builds the Worker into build/ (a release), or with --test-faults into build-test/: the same, plus faults on demand.
# wrangler calls it (wrangler.toml), so it is complete by itself: it installs whatever is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/toolchain.sh
ensure_wasm_toolchain

out=build features=()
if [ "${1:-}" = --test-faults ]; then out=build-test features=(--features test-faults); fi

# A fetch handler runs to its end even when its caller leaves, so that the record of the call is made (cloudflare facts §2.8).
RUN_TO_COMPLETION=1 "$WORKER_BUILD" --release --out-dir "$out" "${features[@]}" >&2
