# The Makefile sources this. It puts a Rust of at least 1.95 and a Go of at least 1.26.6 first on PATH, if they are installed.
# NEED_RUST and NEED_GO are set to the versions that are missing.
RUST_MINIMUM=1.95
GO_MINIMUM=1.26.6
GO_HOME=$PWD/target/go
TOOLS=$PWD/target/tools
# the folder in which cargo puts optimised programs
RELEASE=${CARGO_TARGET_DIR:-target}/release

# at_least VERSION MINIMUM
at_least() {
  [ -n "$1" ] && [ "$(printf '%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

rust_version() { "$1" --version 2>/dev/null | cut -d ' ' -f 2; }
go_version() { "$1" env GOVERSION 2>/dev/null | sed 's/^go//'; }

NEED_RUST=
if ! at_least "$(rust_version cargo)" $RUST_MINIMUM || ! at_least "$(rust_version rustc)" $RUST_MINIMUM; then
  # Debian's packages may come after an older toolchain on PATH
  if at_least "$(rust_version /usr/bin/cargo)" $RUST_MINIMUM; then
    PATH=/usr/bin:$PATH
  else
    NEED_RUST=$RUST_MINIMUM
  fi
fi

NEED_GO=
if ! at_least "$(go_version go)" $GO_MINIMUM; then
  if at_least "$(go_version "$GO_HOME/bin/go")" $GO_MINIMUM; then
    PATH=$GO_HOME/bin:$PATH
  else
    NEED_GO=$GO_MINIMUM
  fi
fi

# nft and ip are in sbin, which is not on the PATH of a root shell that `su` starts
export PATH=$PATH:/usr/sbin:/sbin:$TOOLS/bin
