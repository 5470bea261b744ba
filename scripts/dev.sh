#!/usr/bin/env bash
# The gateway on this machine: installs and builds what is missing, migrates the local database, and says what to paste.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/toolchain.sh
PORT="${PORT:-8787}"
ensure_wasm_toolchain

if ! grep -qs '^GATEWAY_ADMIN_KEY=' .dev.vars; then
  say "creating a development key in .dev.vars"
  printf 'GATEWAY_ADMIN_KEY=dev-%s\n' "$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')" >> .dev.vars
fi
# Only here, never in a deployment: a provider inside the Worker, and upstreams on this machine.
grep -q '^ENABLE_MOCK_PROVIDER=' .dev.vars || echo 'ENABLE_MOCK_PROVIDER=true' >> .dev.vars
grep -q '^TRUSTED_CUSTOM_HOSTS=' .dev.vars || echo 'TRUSTED_CUSTOM_HOSTS=localhost,127.0.0.1' >> .dev.vars
key="$(sed -n 's/^GATEWAY_ADMIN_KEY=//p' .dev.vars | tail -n 1 | tr -d '"')"

say "building the Worker (the first time takes a few minutes)"
bash scripts/build.sh
export WRANGLER_SEND_METRICS=false CLOUDFLARE_CF_FETCH_ENABLED=false
say "migrating the local database"
CI=1 npx wrangler d1 migrations apply DB --local 2>&1 | grep -vE '^\s*$' | tail -n 12 >&2

greet() {
  for _ in $(seq 600); do curl -fs "http://127.0.0.1:$PORT/health" >/dev/null && break; sleep 0.2; done
  cat <<TEXT

  Spangate listens.
    base URL   http://127.0.0.1:$PORT/v1
    key        $key

  Paste this: a model that fails twice, and one that answers.

    curl -si http://127.0.0.1:$PORT/v1/chat/completions \\
      -H 'x-portkey-api-key: $key' \\
      -H 'x-portkey-trace-id: my-first-trace' \\
      -H 'x-portkey-config: {"strategy":{"mode":"fallback"},"targets":[{"provider":"mock","override_params":{"model":"mock-fail-503"},"retry":{"attempts":1}},{"provider":"mock","override_params":{"model":"mock-chat"}}]}' \\
      -H 'content-type: application/json' \\
      -d '{"model":"any","messages":[{"role":"user","content":"Hello"}]}'

  Then see its three attempts (a few seconds later, when the queue has delivered):

    curl -s http://127.0.0.1:$PORT/v1/traces/my-first-trace -H 'x-portkey-api-key: $key'

TEXT
}
greet &
trap 'kill %1 2>/dev/null || true' EXIT
npx wrangler dev --ip 127.0.0.1 --port "$PORT" --show-interactive-dev-session=false
