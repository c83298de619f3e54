#!/bin/bash
# Every program in the kernel on Debian 12's kernel, in an emulated machine without KVM. `make xdp-kernel` calls it.
# It runs `sockets` of this build there, as `make sockets` does on this kernel: all cases, or with EVERY=8 one of eight. Then it runs all
# cases of `make xdp-packets`.
# It prints `kernel: 6.1…`, `verified_instructions: N`, `socket_cases: N`, `socket_left_out: N`, `socket_wrong: 0`, then
# `verified_packets: N`, `packet_cases: N`, `packet_wrong: 0`.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh

MACHINE=$TOOLS/xdp-kernel-machine # Debian's kernel and busybox (scripts/setup.sh)
FOLDER=$PWD/target/xdp-kernel
LOG=$FOLDER/machine.log
EVERY=${EVERY:-1}
LEAST=300

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

# The files of the machine: init, busybox, this build's programs, what they call, and the kernel's modules for networks. They lie in its
# memory: it has no disk, no network, and sees no file of this machine.
initramfs() {
  local root=$FOLDER/root modules=lib/modules/$1 part program
  rm -rf "$root"
  mkdir -p "$root"/usr/{bin,sbin,lib,lib64,local/bin}
  for part in bin sbin lib lib64; do
    ln -s "usr/$part" "$root/$part"
  done
  install -m 755 tests/data/xdp-kernel/init "$root/init"
  install -m 755 "$MACHINE/bin/busybox" "$root/bin/busybox"
  for part in tandem sockets xdp-packets; do
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
  [ "$EVERY" = 1 ] || echo "--every $EVERY" >"$root/arguments"
  (cd "$root" && find . -print0 | cpio --null --create --format=newc --quiet | gzip -1) >"$FOLDER/initramfs.gz"
}

# Runs the machine with this kernel, shows what `sockets` prints, and logs everything. The machine ends with this script.
# pti=off: two sets of page tables (against Meltdown) would make an emulator slow, and mean nothing to programs in the kernel. The clock
# is the processor's, because the emulated clock beside it is slow to read. Its timer is not checked, because on a busy machine the check fails.
machine() {
  local words="console=ttyS0 quiet rdinit=/init panic=-1 pti=off no_timer_check tsc=reliable clocksource=tsc"
  setpriv --pdeathsig TERM timeout --foreground --kill-after=5 4h \
    qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 2048 -nographic -no-reboot -nic none \
    -kernel "$1" -initrd "$FOLDER/initramfs.gz" -append "$words" </dev/null 2>&1 |
    sed -u 's/\r$//' | tee "$LOG" | sed -u -n '/machine: begins/,/machine: packets ended/ { /machine: /!p }'
}

# said NAME: the number or text that `sockets` or init printed with this name
said() {
  sed -n "s/^$1: //p" "$LOG" | tail -n 1
}

case $EVERY in
  '' | *[!0-9]* | 0*) fail "EVERY: '$EVERY' is not a number of cases: use 1 for all, or 8 for one of eight" ;;
esac
[ "$(uname -m)" = x86_64 ] || fail "this is for x86_64 machines; this one is $(uname -m)"
kernel=$(echo "$MACHINE"/boot/vmlinuz-*)
release=${kernel##*/vmlinuz-}
case $release in
  6.1.*) ;;
  *) fail "linux-image-amd64 of this system's package sources is $release, and this is for 6.1, which Debian 12 has" ;;
esac
mkdir -p "$FOLDER"
initramfs "$release"
if [ "$EVERY" = 1 ]; then
  echo "xdp-kernel: starting a machine with kernel $release for all cases (half an hour to an hour; EVERY=8: a third of it)"
else
  echo "xdp-kernel: starting a machine with kernel $release for one of $EVERY cases, and all that ask several times"
fi
machine "$kernel" || fail "the machine failed, or had not ended after 4 hours: see $LOG"
ended=$(sed -n 's/^machine: sockets ended with //p' "$LOG" | tail -n 1)
[ -n "$ended" ] || fail "the machine stopped before sockets had ended: see $LOG"
[ "$(said kernel)" = "$release" ] || fail "the machine ran kernel $(said kernel) instead of $release"
[ -n "$(said socket_wrong)" ] || fail "sockets failed before its last case: see $LOG"
[ "$(said socket_wrong)" = 0 ] || fail "$(said socket_wrong) of $(said socket_cases) cases are wrong"
[ "$ended" = 0 ] || fail "sockets ended with $ended: see $LOG"
packets=$(sed -n 's/^machine: packets ended with //p' "$LOG" | tail -n 1)
[ -n "$packets" ] || fail "the machine stopped before xdp-packets had ended: see $LOG"
[ "$packets" = 0 ] || fail "xdp-packets ended with $packets: see $LOG"
[ "$(said packet_wrong)" = 0 ] || fail "$(said packet_wrong) of $(said packet_cases) packets are wrong"
[ "$(said verified_instructions)" -gt 0 ] || fail "no program was loaded: see $LOG"
[ "$EVERY" -gt 8 ] || [ "$(said socket_cases)" -ge $LEAST ] || fail "there were $(said socket_cases) cases, and $LEAST are the least"
