# Decides which build tools are used and where they live. Sourced by the other scripts; prints nothing but progress.
#
# The tools are keyed by version in a cache outside the clone, so that a second clone does not build them again.
# Nothing here downloads a binary from anywhere but a package registry (docs/adr/0002).

SPANGATE_CACHE="${SPANGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/spangate}"
WORKER_BUILD_VERSION=0.8.7
WASM_BINDGEN_VERSION=0.2.130 # must equal Cargo.lock; `ensure_wasm_bindgen` checks that it does
WASM_TARGET=wasm32-unknown-unknown

say() { printf '\033[1m[spangate]\033[0m %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# One build of a tool at a time on a machine, whatever number of clones ask for it.
locked() {
  mkdir -p "$SPANGATE_CACHE"
  if command -v flock >/dev/null; then ( flock 9; "$@" ) 9>"$SPANGATE_CACHE/.lock"; else "$@"; fi
}

ensure_rust() {
  command -v cargo >/dev/null || { [ -f "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"; }
  command -v cargo >/dev/null || die "Rust is missing. Install it from https://rustup.rs (stable, 1.91 or newer), then run this again."
  has_wasm_std && return
  if command -v rustup >/dev/null; then
    say "adding the Rust target $WASM_TARGET"
    rustup target add "$WASM_TARGET" >&2 && has_wasm_std && return
  fi
  locked build_std_from_debian
  export RUSTUP_TOOLCHAIN=wasm
  has_wasm_std || die "no $WASM_TARGET standard library: 'rustup target add $WASM_TARGET' failed and Debian's rustc-web could not be used"
}

has_wasm_std() {
  local lib; lib="$(rustc --print sysroot 2>/dev/null)/lib/rustlib/$WASM_TARGET/lib"
  ls "$lib"/libstd-*.rlib >/dev/null 2>&1
}

# Where rustup cannot fetch: Debian's compiler and its sources build the same library.
build_std_from_debian() {
  local lib=/usr/lib/rustlib/$WASM_TARGET/lib
  ls $lib/libstd-*.rlib >/dev/null 2>&1 && { rustup toolchain link wasm /usr 2>/dev/null || true; return; }
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 0
  say "rustup cannot fetch the target; building it from Debian's rust sources (about a minute)"
  apt-get update -qq >&2 || true
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq rustc-web cargo-web rust-web-src rust-web-llvm lld-22 >&2 || return 0
  rustup toolchain link wasm /usr >&2 || true
  local empty; empty="$(mktemp -d)"
  cargo +wasm init --quiet --lib --name empty "$empty" >&2
  ( cd "$empty" && RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Cembed-bitcode=yes cargo +wasm build --release \
      -Zbuild-std=std,panic_abort --target $WASM_TARGET >&2 ) || return 0
  mkdir -p $lib && cp "$empty"/target/$WASM_TARGET/release/deps/*.rlib $lib/
  rm -rf "$empty"
}

ensure_worker_build() {
  WORKER_BUILD="$SPANGATE_CACHE/worker-build-$WORKER_BUILD_VERSION/bin/worker-build"
  [ -x "$WORKER_BUILD" ] || locked install_crate worker-build "$WORKER_BUILD_VERSION" --locked
}

ensure_wasm_bindgen() {
  local pinned; pinned="$(sed -n '/^name = "wasm-bindgen"$/{n;s/version = "\(.*\)"/\1/p;}' Cargo.lock)"
  [ "$pinned" = "$WASM_BINDGEN_VERSION" ] || die "Cargo.lock has wasm-bindgen $pinned, scripts/toolchain.sh has $WASM_BINDGEN_VERSION: make them equal"
  export WASM_BINDGEN_BIN="$SPANGATE_CACHE/wasm-bindgen-cli-$WASM_BINDGEN_VERSION/bin/wasm-bindgen"
  [ -x "$WASM_BINDGEN_BIN" ] || locked install_crate wasm-bindgen-cli "$WASM_BINDGEN_VERSION" --no-default-features
}

install_crate() { # name version flags…
  local root="$SPANGATE_CACHE/$1-$2" name="$1" version="$2"; shift 2
  [ -x "$root/bin/${name%-cli}" ] && return
  say "building $name $version once for this machine (2 to 4 minutes)"
  CARGO_TARGET_DIR="$SPANGATE_CACHE/target-$name" cargo install "$name" --version "$version" "$@" --root "$root" --force >&2
  rm -rf "$SPANGATE_CACHE/target-$name"
}

ensure_node_modules() {
  command -v node >/dev/null || die "Node.js 20 or newer is missing. Install it from https://nodejs.org."
  local dir="${1:-.}"
  if [ ! -e "$dir/node_modules/.package-lock.json" ] || [ "$dir/package-lock.json" -nt "$dir/node_modules/.package-lock.json" ]; then
    say "npm ci ${1:+in $1}"
    ( cd "$dir" && npm ci --no-audit --no-fund --loglevel=error >&2 && touch node_modules/.package-lock.json )
  fi
}

# What worker-build needs so that it downloads nothing.
ensure_wasm_toolchain() {
  ensure_rust
  ensure_node_modules
  ensure_wasm_bindgen
  ensure_worker_build
  export ESBUILD_BIN="$PWD/node_modules/.bin/esbuild"
  export WASM_OPT_BIN="$PWD/node_modules/.bin/wasm-opt"
  # The proc macro of wasm-bindgen reads it; setting it everywhere keeps one cargo cache.
  export WASM_BINDGEN_USE_JS_SYS=1
}
