//! The peer of Tandem's change: the same elements, added to and removed from a copy of Tandem's table, by transactions that
//! were encoded beforehand. No planning, no encoding, no reading of answers beyond the one that says "done".
//!
//! What Tandem's change consists of is heard from the kernel once, so that the peer does exactly what Tandem does,
//! whatever the table looks like.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tandem_tests::netns::{feed_command, run_command};

use crate::netlink::{self, Nftables};

/// Tandem's tables, and their copies: names of one length, so that a message's table can be replaced in place.
const TABLE: &str = "tandem";
const COPY: &str = "direct";

/// Copies both of Tandem's tables, with all they hold, in the namespace of the calling thread.
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

/// Hears what Tandem does.
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

    /// The change that was made last, for the copies.
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
    /// A socket of its own.
    pub fn open() -> Result<Self> {
        Ok(Self(Nftables::open()?))
    }

    /// Makes a change; how long it took from sending it to the kernel's answer.
    pub fn make(&mut self, change: &Change) -> Result<Duration> {
        self.0.apply(&change.0)
    }
}
