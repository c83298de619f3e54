#!/bin/bash
# The programs in the kernel, and who answers a socket, on Debian 12's kernel in an emulated machine. `make xdp-kernel` calls it.
# It runs `sockets` of this build there, as `make sockets` does here: `kernel: 6.1…`, `verified_instructions: N`, `socket_cases: N`,
# `socket_left_out: N`, `socket_wrong: 0`.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh

MACHINE=$TOOLS/xdp-kernel-machine # Debian's kernel and busybox (scripts/setup.sh)
FOLDER=$PWD/target/xdp-kernel
LOG=$FOLDER/machine.log
EVERY=${EVERY:-8}
MINUTES=${MINUTES:-240}

fail() {
  echo "xdp-kernel: $*" >&2
  exit 1
}

# libraries ROOT PROGRAM…: copies the libraries that programs need to the same places below ROOT
libraries() {
  local root=$1 program file
  shift
  for program in "$@"; do
    # a program that is linked statically has none
    { ldd "$program" 2>/dev/null || true; } | grep -o '/[^ ]*' | while read -r file; do
      [ -e "$root$file" ] || install -D -m 755 "$file" "$root$file"
    done
  done
}

# The files of the machine: init, busybox, this build's programs, what they call, and the kernel's modules for networks. All of it lies in
# memory there, and the files of this machine are not to be seen.
initramfs() {
  local root=$FOLDER/root modules=lib/modules/$1 part program
  rm -rf "$root"
  mkdir -p "$root"/usr/{bin,sbin,lib,lib64,local/bin}
  for part in bin sbin lib lib64; do
    ln -s "usr/$part" "$root/$part"
  done
  install -m 755 tests/data/xdp-kernel/init "$root/init"
  install -m 755 "$MACHINE/bin/busybox" "$root/bin/busybox"
  for part in tandem sockets; do
    strip -o "$root/usr/local/bin/$part" "$RELEASE/$part"
    libraries "$root" "$RELEASE/$part"
  done
  for part in nft ip conntrack mount umount; do
    program=$(command -v $part) || fail "$part is not installed"
    install -D -m 755 "$program" "$root$program"
    libraries "$root" "$program"
  done
  mkdir -p "$root/$modules/kernel/drivers/net"
  for part in net lib crypto drivers/net/veth.ko; do
    cp -a "$MACHINE/$modules/kernel/$part" "$root/$modules/kernel/$part"
  done
  cp "$MACHINE/$modules/modules."{builtin,builtin.modinfo,order} "$root/$modules/"
  depmod -b "$root" "$1" || fail "depmod could not list the kernel's modules"
  echo "$ARGUMENTS" >"$root/arguments"
  (cd "$root" && find . -print0 | cpio --null --create --format=newc --quiet | gzip -1) >"$FOLDER/initramfs.gz"
}

# The machine's console up to its end; all of it is in the log.
machine() {
  timeout --kill-after=5 "${MINUTES}m" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 2048 -nographic -no-reboot -nic none \
    -kernel "$1" -initrd "$FOLDER/initramfs.gz" -append "console=ttyS0 quiet rdinit=/init panic=-1 pti=off" </dev/null 2>&1 |
    sed -u 's/\r$//' | tee "$LOG" | sed -u -n '/^machine: begins/,/^machine: sockets ended/ { /^machine: /!p }'
}

mkdir -p "$FOLDER"
ARGUMENTS=${ARGUMENTS:---every $EVERY}
kernel=$(echo "$MACHINE"/boot/vmlinuz-*)
initramfs "${kernel##*/vmlinuz-}"
machine "$kernel"
