//! Tests that need a kernel: root, nft, and a private network namespace for each.
#![expect(clippy::expect_used, clippy::panic, reason = "a test says so by failing")]

mod affinity;
mod ahead;
mod check;
mod chosen;
mod dataplane;
mod fill;
mod forward;
mod lock;
mod nat_order;
mod nft_table;
mod remove;
mod rows;
mod ruleset;
mod support;
