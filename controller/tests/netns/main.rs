//! rtnetlink (`net/`) against the kernel. Needs root, `ip` and `bridge`. Each test has a private network namespace.
//! `ip` and `bridge` say what the kernel has; the tests compare it with what `net/` reads and reports.
#![expect(clippy::expect_used, reason = "a test says so by failing")]

mod changes;
#[cfg(feature = "xdp")]
mod devices;
mod links;
mod monitor;
mod support;
