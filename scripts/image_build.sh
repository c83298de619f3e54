# scripts/image.sh and scripts/arm64.sh source this: how the programs of the image are built.
# The result depends on the source and on the versions of Debian's packages alone: the compiler is Debian's, the build has an empty
# environment, and no path of this machine gets into a program.
IMAGE=target/image
WORK=$PWD/target/image-build # below the source, so that the paths in it are replaced too
ARM64=$TOOLS/debian-arm64 # Debian's libraries for arm64 (scripts/setup.sh)

fail() {
  echo "$(basename "$0" .sh): $*" >&2
  exit 1
}

# target ARCH: the name of the target in Rust
target() {
  case $1 in
    amd64) echo x86_64-unknown-linux-gnu ;;
    arm64) echo aarch64-unknown-linux-gnu ;;
    *) fail "ARCHS: $1 is not known: use amd64 or arm64" ;;
  esac
}

# prefix ARCH: what stands before the names of the C compiler and its tools
prefix() {
  case $1 in
    amd64) echo x86_64-linux-gnu- ;;
    arm64) echo aarch64-linux-gnu- ;;
  esac
}

[ "$(uname -m)" = x86_64 ] || fail "images are built on x86_64 machines; this one is $(uname -m)"

# The time of everything in the image. A tree with changes has the time of its last commit too.
CREATED=$(git log -1 --format=%ct) || fail "git does not know the time of the last commit, which all files in the image get"
REVISION=$(git rev-parse HEAD)
[ -z "$(git status --porcelain)" ] || REVISION=$REVISION-dirty
VERSION=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"$/\1/p' Cargo.toml)

# clean NAME=VALUE… PROGRAM ARGUMENT…: runs Debian's cargo for the image's targets, with these variables and no others
clean() {
  local home=${CARGO_HOME:-$HOME/.cargo} flags maps amd64 arm64
  # Linked statically, so that the image needs no file of glibc. Names are resolved all the same: see docs/image.md.
  flags="-C target-feature=+crt-static -C link-arg=-Wl,--build-id=none"
  flags+=" --remap-path-prefix=$PWD=/tandem --remap-path-prefix=$home=/cargo"
  maps="-ffile-prefix-map=$PWD=/tandem -ffile-prefix-map=$home=/cargo"
  # Smaller relocations. Debian's linker for arm64 cannot do this.
  amd64="-C link-arg=-Wl,-z,pack-relative-relocs"
  # -B leads to the first object files of a program, and -L to the libraries.
  arm64="--sysroot=$ARM64/sysroot"
  arm64+=" -C link-arg=-B$ARM64/usr/lib/aarch64-linux-gnu -C link-arg=-L$ARM64/usr/lib/aarch64-linux-gnu"
  # The same time for every commit, or all C code would be compiled anew after each one. No program has it in it.
  env -i PATH=/usr/bin:/bin HOME="$HOME" CARGO_HOME="$home" LC_ALL=C \
    RUSTC=/usr/bin/rustc CARGO_TARGET_DIR="$WORK" CARGO_INCREMENTAL=0 CARGO_NET_OFFLINE=true SOURCE_DATE_EPOCH=0 \
    CFLAGS="$maps" CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc \
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS="$flags $amd64" \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="$flags $arm64" \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    "$@"
}

# build_programs ARCH…
build_programs() {
  local arch arguments=()
  for arch in "$@"; do
    arguments+=(--target "$(target "$arch")")
  done
  # With the network and its settings, which the build does not have.
  /usr/bin/cargo fetch --quiet --locked || fail "cargo could not fetch the dependencies"
  /usr/bin/cargo fetch --quiet --locked --manifest-path xdp/ebpf/Cargo.toml ||
    fail "cargo could not fetch the dependencies of the programs in the kernel"
  echo "building for $* (some minutes the first time)"
  clean TANDEM_VERSION="$VERSION ($REVISION)" \
    /usr/bin/cargo build --quiet --release --locked --offline --workspace --bin tandem "${arguments[@]}" ||
    fail "the programs were not built"
}

# split_symbols ARCH PROGRAM SYMBOLS: the program without symbols, and the symbols in a file beside it
split_symbols() {
  local built tool
  built=$WORK/$(target "$1")/release/tandem
  tool=$(prefix "$1")
  "${tool}objcopy" --only-keep-debug "$built" "$3"
  "${tool}strip" --strip-all --remove-section=.comment -o "$2" "$built"
  # A program that asks for a loader would not start in the image.
  ! readelf --program-headers "$2" | grep -q INTERP || fail "the program for $1 is not linked statically"
}
