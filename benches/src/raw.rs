//! What Tandem's change is compared with: the same elements, added to and removed from a copy of Tandem's table, by
//! transactions that were encoded before. It does no planning and no encoding, and reads only the answer that says
//! "done".
//!
//! The elements of Tandem's change are taken once from the kernel's messages. So the comparison does exactly what
//! Tandem does, whatever the table's layout is.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tandem_tests::netns::{feed_command, run_command};

use crate::netlink::{self, Nftables};

/// Tandem's tables and their copies. The names have one length, so that the table in a message can be replaced in
/// place.
const TABLE: &str = "tandem";
const COPY: &str = "direct";

/// Copies both of Tandem's tables with their content, in the namespace of the calling thread.
pub fn copy_tables() -> Result<()> {
    for family in ["ip", "ip6"] {
        let text = run_command(Command::new("nft").args(["list", "table", family, TABLE]))?;
        let renamed = text.replacen(
            &format!("table {family} {TABLE} "),
            &format!("table {family} {COPY} "),
            1,
        );
        ensure!(
            renamed != text,
            "nft listed table {family} {TABLE} in a form that is not understood"
        );
        // A table with an owner would go with the process that loads it.
        let free: Vec<&str> = renamed
            .lines()
            .filter(|line| !line.trim_start().starts_with("flags owner"))
            .collect();
        feed_command(Command::new("nft").args(["-f", "-"]), &free.join("\n"))
            .with_context(|| format!("copy table {family} {TABLE}"))?;
    }
    Ok(())
}

/// Receives Tandem's changes.
#[derive(Debug)]
pub struct Recorder(Nftables);

/// One change, ready to be sent.
#[derive(Clone, Debug)]
pub struct Change(Vec<u8>);

/// Sends changes to the copies.
#[derive(Debug)]
pub struct Writer(Nftables);

impl Recorder {
    /// Listens from now on.
    pub fn start() -> Result<Self> {
        Ok(Self(Nftables::listen()?))
    }

    /// The last change, rewritten for the copies.
    pub fn record(&mut self) -> Result<Change> {
        let mut messages = self.0.elements()?;
        ensure!(!messages.is_empty(), "a change without elements was recorded");
        for (_, body) in &mut messages {
            let at = body.windows(TABLE.len()).position(|part| part == TABLE.as_bytes());
            let at = at.context("a change in another table was recorded")?;
            body[at..at + COPY.len()].copy_from_slice(COPY.as_bytes());
        }
        Ok(Change(netlink::transaction(&messages)))
    }
}

impl Writer {
    /// Opens a socket of its own.
    pub fn open() -> Result<Self> {
        Ok(Self(Nftables::open()?))
    }

    /// Makes a change. Returns how long it took from sending it to the kernel's answer.
    pub fn make(&mut self, change: &Change) -> Result<Duration> {
        self.0.apply(&change.0)
    }
}
