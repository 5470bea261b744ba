#!/usr/bin/env bash
# Builds the Worker twice (as released, and with faults on demand) and drives it in workerd through its HTTP face.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/toolchain.sh
say "building the Worker, as released"
bash scripts/build.sh
say "building the Worker with faults on demand"
bash scripts/build.sh --test-faults
export WRANGLER_SEND_METRICS=false CLOUDFLARE_CF_FETCH_ENABLED=false
say "the Worker in workerd"
node --test --test-concurrency=2 --test-reporter=spec tests/worker/*.test.mjs
say "wrangler deploy, without deploying"
bash scripts/check-deploy.sh
