//! Tests that need a kernel: root, nft, and a private network namespace for each.
#![expect(clippy::expect_used, clippy::panic, reason = "a test says so by failing")]

mod affinity;
mod buffers;
mod dataplane;
mod fill;
mod forward;
mod kernel;
mod lock;
mod nat_order;
mod remove;
mod rows;
mod ruleset;
mod support;
