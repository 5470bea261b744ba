#!/usr/bin/env bash
# The hot path in bare workerd, beside two JavaScript workers (benches/README.md).
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/toolchain.sh
bash scripts/build.sh
exec node benches/run.mjs "$@"
