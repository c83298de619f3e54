#!/bin/bash
# Tandem on aarch64, emulated. `make arm64` calls it.
# 1. The unit tests of core, of nft and of decode, under qemu-user, which has no nftables: `arm64_unit_failed: N`.
# 2. The program of the image on Debian's kernel, in qemu-system: `arm64_answers: N of N`.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
. scripts/image_build.sh

MACHINE=$TOOLS/arm64-machine # Debian's kernel, nft and busybox for arm64 (scripts/setup.sh)
FOLDER=$PWD/target/arm64
QUESTIONS=19                 # how many tests/data/arm64/init asks

# cargo_test ARGUMENT…: cargo test for arm64, with the libraries alone. With proptest's usual number of cases it would take an hour.
cargo_test() {
  clean CARGO_PROFILE_DEV_OPT_LEVEL=1 CARGO_PROFILE_DEV_DEBUG=false PROPTEST_CASES=32 INSTA_UPDATE=no \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=qemu-aarch64-static \
    /usr/bin/cargo test --locked --offline --no-fail-fast --target "$(target arm64)" --lib "$@"
}

unit_tests() {
  local log=$FOLDER/unit.log status=0
  /usr/bin/cargo fetch --quiet --locked || fail "cargo could not fetch the dependencies"
  echo "arm64: unit tests (some minutes the first time)"
  # These two ask the kernel's nftables.
  local skipped=(-- --skip tests::buffers --skip tests::check)
  { cargo_test -p tandem-core -p tandem-nft "${skipped[@]}" && cargo_test -p tandem source::decode; } >"$log" 2>&1 || status=$?
  # A suite that crashed has no result line.
  awk -v status="$status" '
    /^ +Running unittests/ { suites++ }
    # A suite in which no test has the name that is asked for has tested nothing.
    /^test result: / { results++; passed += $4; failed += $6; if ($4 == 0) failed++ }
    END {
      failed += suites - results
      if ((suites != 3 || status != 0) && failed == 0) failed = 1
      printf "arm64_unit_passed: %d\narm64_unit_failed: %d\n", passed, failed
      exit failed != 0
    }' "$log" || {
    grep -E "^error|FAILED|panicked" "$log" | head -n 20 >&2 || true
    fail "see $log"
  }
}

# The files of the machine: init, busybox, the image's program, nft with its libraries, and the kernel's modules.
initramfs() {
  local root=$FOLDER/root modules=lib/modules/$1 part
  rm -rf "$root"
  mkdir -p "$root/bin" "$root/usr/local/bin" "$root/usr/sbin" "$root/usr/lib" "$root/$modules/kernel"
  ln -s usr/lib "$root/lib64"
  install -m 755 tests/data/arm64/init "$root/init"
  install -m 755 "$MACHINE/bin/busybox" "$root/bin/busybox"
  install -m 755 "$FOLDER/tandem" "$root/usr/local/bin/tandem"
  install -m 755 "$MACHINE/usr/sbin/nft" "$root/usr/sbin/nft"
  for part in lib usr/lib; do
    mkdir -p "$root/$part/aarch64-linux-gnu"
    cp -a "$MACHINE/$part/aarch64-linux-gnu/"*.so* "$root/$part/aarch64-linux-gnu/"
  done
  cp -a "$MACHINE"/lib/ld-linux-aarch64.so.1 "$root/lib/"
  for part in net lib crypto drivers/net/dummy.ko; do
    mkdir -p "$(dirname "$root/$modules/kernel/$part")"
    cp -a "$MACHINE/$modules/kernel/$part" "$root/$modules/kernel/$part"
  done
  cp "$MACHINE/$modules/modules."{builtin,builtin.modinfo,order} "$root/$modules/"
  depmod -b "$root" "$1" || fail "depmod could not list the kernel's modules"
  cp -a tests/data/arm64/manifests tests/data/arm64/later.yaml "$root/"
  (cd "$root" && find . -print0 | cpio --null --create --format=newc --quiet | gzip -1) >"$FOLDER/initramfs.gz"
}

machine() {
  local log=$FOLDER/machine.log kernel release right
  kernel=$(echo "$MACHINE"/boot/vmlinuz-*)
  release=${kernel##*/vmlinuz-}
  build_programs arm64
  split_symbols arm64 "$FOLDER/tandem" "$FOLDER/tandem.debug"
  initramfs "$release"
  echo "arm64: starting a machine with kernel $release"
  timeout --kill-after=5 600 qemu-system-aarch64 -machine virt -cpu max -smp 2 -m 1024 -nographic -no-reboot -nic none \
    -kernel "$kernel" -initrd "$FOLDER/initramfs.gz" -append "console=ttyAMA0 quiet rdinit=/init panic=-1" </dev/null >"$log" 2>&1 ||
    fail "the machine did not end: see $log"
  right=$(grep -c '^answer: ok ' "$log" || true)
  grep '^answer: wrong ' "$log" || true
  echo "arm64_answers: $right of $QUESTIONS"
  [ "$right" = "$QUESTIONS" ] && grep -q '^answers: end' "$log" || fail "see $log"
}

mkdir -p "$FOLDER"
unit_tests
machine
