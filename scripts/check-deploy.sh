#!/usr/bin/env bash
# `wrangler deploy` as far as it goes without an account, and the weight of what it would upload.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/toolchain.sh
ensure_node_modules
LIMIT_KIB=${LIMIT_KIB:-700} # compressed, what the bundle may weigh
out="$(mktemp -d)"
trap 'rm -rf "$out"' EXIT
CI=1 WRANGLER_SEND_METRICS=false npx wrangler deploy --dry-run --outdir "$out" | grep -E "Upload|env\." || die "wrangler deploy --dry-run failed"
kib=$(( $(cat "$out"/*.js "$out"/*.wasm | gzip -9 | wc -c) / 1024 ))
say "the bundle weighs $kib KiB compressed (limit $LIMIT_KIB)"
[ "$kib" -le "$LIMIT_KIB" ] || die "the bundle is too heavy"
