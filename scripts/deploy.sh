#!/usr/bin/env bash
# Deploys into the Cloudflare account that wrangler is logged in to. What exists already is left as it is.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/toolchain.sh
ensure_node_modules
export WRANGLER_SEND_METRICS=false

create() { # what, then the command; an "already exists" is fine
  local what="$1" output; shift
  if output="$("$@" 2>&1)"; then say "created $what"; return; fi
  case "$output" in
    *"already exists"*|*"already taken"*|*"10004"*|*"11009"*) say "$what exists" ;;
    *) printf '%s\n' "$output" >&2; die "could not create $what" ;;
  esac
}

say "1. queues (wrangler deploy does not create them)"
create "queue spangate-logs" npx wrangler queues create spangate-logs
create "queue spangate-logs-dlq" npx wrangler queues create spangate-logs-dlq
say "2. storage"
create "D1 database spangate" npx wrangler d1 create spangate
create "R2 bucket spangate-bodies" npx wrangler r2 bucket create spangate-bodies
say "3. migrations, before the code that needs them"
# Migrations of a remote database want its id, which is the account's and not the project's: it goes into a copy.
id="$(npx wrangler d1 list --json | node -e 'let t="";process.stdin.on("data",d=>t+=d).on("end",()=>console.log(JSON.parse(t.slice(t.indexOf("["))).find(d=>d.name==="spangate")?.uuid??""))')"
[ -n "$id" ] || die "the D1 database spangate is not in the account's list"
sed "s/^database_name = \"spangate\"/&\ndatabase_id = \"$id\"/" wrangler.toml > wrangler.deploy.toml
CI=1 npx wrangler d1 migrations apply DB --remote -c wrangler.deploy.toml
say "4. build and deploy"
npx wrangler deploy -c wrangler.deploy.toml
if ! npx wrangler secret list 2>/dev/null | grep -q GATEWAY_ADMIN_KEY; then
  say "5. the gateway has no key yet and answers 503 until it has one. Set it with:"
  echo "   npx wrangler secret put GATEWAY_ADMIN_KEY"
  say "   and, for providers whose key your callers do not bring:"
  echo "   npx wrangler secret put OPENAI_API_KEY"
fi
