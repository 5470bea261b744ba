#!/usr/bin/env bash
# Runs the client libraries' suites against the built Worker: `tests/clients/run.sh [node|python]`.
#
# The libraries are the newest that run on Node 20 (openai 7 asks for 22) and on Python 3.10. Installs what is missing first; a second run installs nothing. SPANGATE_BUILD names another build than build/.
set -euo pipefail
cd "$(dirname "$0")"
root=../..

say() { printf '\033[1m[clients]\033[0m %s\n' "$*" >&2; }
key() { cat "$@" | sha256sum | cut -c1-16; }

# `installed DIR KEY`: whether DIR was installed for KEY; the mark is written last, so a broken installation is repeated.
installed() { [ "$(cat "$1/.installed" 2>/dev/null)" = "$2" ]; }

if [ ! -d $root/node_modules/miniflare ]; then say "npm ci"; (cd $root && npm ci --no-audit --no-fund >&2); fi

libraries=$(key package-lock.json)
if ! installed node_modules "$libraries"; then
  say "npm ci: the Node libraries"
  npm ci --no-audit --no-fund >&2
  echo "$libraries" >node_modules/.installed
fi

python=${PYTHON:-python3}
libraries=$("$python" -VV | cat - requirements.txt | key)
if ! installed .venv "$libraries"; then
  say "pip install: the Python libraries"
  rm -rf .venv
  if "$python" -m venv .venv >/dev/null 2>&1; then
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt >&2
  else # no ensurepip on this machine
    rm -rf .venv
    "$python" -m pip install --quiet --disable-pip-version-check --target .venv/packages -r requirements.txt >&2
  fi
  echo "$libraries" >.venv/.installed
fi
if [ -x .venv/bin/python ]; then python=$PWD/.venv/bin/python; else export PYTHONPATH=$PWD/.venv/packages; fi

export SPANGATE_BUILD=${SPANGATE_BUILD:-build} SPANGATE_PYTHON=$python PYTHONDONTWRITEBYTECODE=1
if [ ! -f "$root/$SPANGATE_BUILD/index.js" ]; then say "building the Worker"; bash $root/scripts/build.sh; fi

exec node world.mjs "$@"
