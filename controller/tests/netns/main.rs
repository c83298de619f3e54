//! The room for rtnetlink (`net/`) against the kernel: root, `ip` and `bridge`, and a private network namespace for each
//! test. `ip` and `bridge` judge what stands; the test asserts what is read and told.
#![expect(clippy::expect_used, reason = "a test says so by failing")]

mod changes;
mod monitor;
mod support;
