#!/bin/bash
# Builds the image: static programs for each processor, the licences and the list of all that is in them, and then the OCI layout.
# `make image` calls it. ARCHS="amd64 arm64" chooses the processors, NAME the image's name in the layout, SOURCE the URL of the source.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
. scripts/image_build.sh

ARCHS=${ARCHS:-amd64 arm64}
for arch in $ARCHS; do
  target "$arch" >/dev/null
done

# What is in the program: packages of Rust, and Debian's packages with their copyright files.
describe() {
  local arch=$1 parts=$PWD/$IMAGE/parts/$1 name root= package
  name=$(target "$arch")
  (
    cd "$WORK/tree"
    /usr/bin/cargo metadata --format-version 1 --locked --offline --filter-platform "$name" >"$parts/metadata.json"
    /usr/bin/cargo metadata --format-version 1 --locked --offline --manifest-path xdp/ebpf/Cargo.toml >"$parts/metadata-ebpf.json"
    SOURCE_DATE_EPOCH=$CREATED RUSTC=/usr/bin/rustc CARGO=/usr/bin/cargo cargo-cyclonedx cyclonedx --quiet \
      --manifest-path controller/Cargo.toml --format json --target "$name" --override-filename sbom
    mv controller/sbom.json "$parts/sbom.json"
  ) || fail "cargo could not say what the program for $arch is built from"
  mkdir -p "$parts/debian"
  [ "$arch" != arm64 ] || root=$ARM64
  # The start of every program and its unwinding are GCC's.
  package=$(dpkg-query --search "$(realpath "$("$(prefix "$arch")gcc" -print-file-name=libgcc_eh.a)")" | cut -d : -f 1)
  debian "$parts" "$package" "/usr/share/doc/$package/copyright" "$package"
  debian "$parts" libc6-dev "$root/usr/share/doc/libc6-dev/copyright" libc6-dev
  debian "$parts" libstd-rust-web-dev "$root/usr/share/doc/libstd-rust-web-dev/copyright" rustc-web
  debian "$parts" libstd-rust-web-dev-bpf /usr/share/doc/libstd-rust-web-dev-bpf/copyright libstd-rust-web-dev-bpf
  debian "$parts" ca-certificates /usr/share/doc/ca-certificates/copyright ca-certificates
}

# debian PARTS NAME COPYRIGHT PACKAGE: notes one of Debian's packages. Its version is the one of PACKAGE on this machine.
debian() {
  cp "$3" "$1/debian/$2=$(dpkg-query -W -f '${Version}' "$4")" || fail "$3 is not there: install $4 again"
}

# A copy of the source, so that what cargo-cyclonedx writes beside each Cargo.toml is not in the source.
copy_tree() {
  rm -rf "$WORK/tree"
  mkdir -p "$WORK/tree"
  git ls-files -z --cached --others --exclude-standard |
    tar --null --files-from=- --ignore-failed-read -c 2>/dev/null | tar -x -C "$WORK/tree"
}

# shellcheck disable=SC2086 # one word for each processor
build_programs $ARCHS
rm -rf "$IMAGE/parts"
copy_tree
for arch in $ARCHS; do
  mkdir -p "$IMAGE/parts/$arch"
  split_symbols "$arch" "$IMAGE/parts/$arch/tandem" "$IMAGE/tandem-$arch.debug"
  describe "$arch"
done
cargo build --quiet --locked --workspace --bin tandem-image || fail "the program that writes images was not built"
arguments=(--parts "$IMAGE/parts" --archs "$(tr ' ' , <<<"$ARCHS")" --revision "$REVISION" --created "$CREATED"
  --layout "$IMAGE/oci" --archive "$IMAGE/tandem.oci.tar")
[ -z "${NAME:-}" ] || arguments+=(--name "$NAME")
[ -z "${SOURCE:-}" ] || arguments+=(--source "$SOURCE")
"${CARGO_TARGET_DIR:-target}/debug/tandem-image" "${arguments[@]}"
