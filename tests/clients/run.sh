#!/usr/bin/env bash
# Runs the client libraries' suites against the Worker as released: `tests/clients/run.sh [node|python]`.
#
# Builds the Worker when its sources are newer than it (SPANGATE_BUILD names another build, which is taken as it is), and
# installs the libraries once for each lock file. They are the newest that run on Node 20 (openai 7 asks for 22) and
# Python 3.10.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/toolchain.sh
here=tests/clients venv=$PWD/tests/clients/.venv

ensure_worker() {
  [ -z "${SPANGATE_BUILD:-}" ] || return 0
  export SPANGATE_BUILD=build
  [ -n "$(find Cargo.toml Cargo.lock build.rs src data scripts/build.sh ! -type d -newer build/index.js 2>&1 | head -1)" ] || return 0
  say "building the Worker"
  bash scripts/build.sh
}

# The mark is written last, so that an installation that broke off is repeated.
ensure_python_libraries() {
  python=${PYTHON:-python3}
  local wanted; wanted=$("$python" -VV | cat - $here/requirements.txt | sha256sum)
  if [ "$(cat "$venv/.installed" 2>/dev/null)" != "$wanted" ]; then
    say "pip install in $here"
    rm -rf "$venv"
    local pip=(-m pip install --quiet --disable-pip-version-check -r $here/requirements.txt)
    if "$python" -m venv "$venv" >/dev/null 2>&1; then
      "$venv/bin/python" "${pip[@]}" >&2
    else # a Python without ensurepip
      rm -rf "$venv"
      "$python" "${pip[@]}" --target "$venv/packages" >&2
    fi
    echo "$wanted" >"$venv/.installed"
  fi
  if [ -x "$venv/bin/python" ]; then python=$venv/bin/python; else export PYTHONPATH=$venv/packages; fi
}

ensure_node_modules
ensure_node_modules $here
ensure_python_libraries
ensure_worker
say "the client libraries against the Worker"
export SPANGATE_PYTHON=$python PYTHONDONTWRITEBYTECODE=1 CLOUDFLARE_CF_FETCH_ENABLED=false
exec node $here/world.mjs "$@"
