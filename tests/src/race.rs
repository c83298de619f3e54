//! Floods of new TCP connections to Services whose lists shrink and grow all the time.
//!
//! A packet asks several sets, one after the other, and a transaction may be committed in between. Whatever it finds
//! then, it must not leave the node untranslated: connection tracking would keep this as the connection's translation,
//! and every later SYN from the same port would skip the rules.

mod flood;
mod judge;
mod proxy;
mod scenario;

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::generations::Generations;
use crate::interrupt;
use crate::netns::Namespace;
use flood::{Flood, Tally};
use judge::{Judge, Verdict};
use scenario::Scenario;

pub use proxy::run as run_kube_proxy;
pub use scenario::{run, run_without_rules};

/// How long a change may take to reach the kernel. If a program takes longer, the next change comes before it is done.
const CHANGE: Duration = Duration::from_millis(200);
/// Threads that connect.
const THREADS: usize = 2;

/// The amount of work.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Connections in all scenarios together.
    pub connections: u64,
    /// The least number of shrinks in each scenario.
    pub shrinks: u64,
    /// The longest time of all scenarios together. If it is too short, there are fewer connections or shrinks.
    pub lasting: Duration,
}

/// The result of a flood.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    tally: Tally,
    verdict: Verdict,
    shrinks: u64,
}

impl Figures {
    /// Connections that were begun.
    pub fn connections(&self) -> u64 {
        self.tally.connections
    }

    /// Changes that took something away.
    pub fn shrinks(&self) -> u64 {
        self.shrinks
    }

    /// Connections that left the node without a translation.
    pub fn untranslated(&self) -> u64 {
        self.verdict.untranslated
    }

    /// Connections that were neither established nor refused in time.
    pub fn dead(&self) -> u64 {
        self.tally.dead
    }

    /// Packets that were translated to an endpoint of another Service.
    pub fn wrong_service(&self) -> u64 {
        self.verdict.wrong_service
    }

    /// Whether nothing forbidden happened.
    pub fn is_good(&self) -> bool {
        self.untranslated() == 0 && self.dead() == 0 && self.wrong_service() == 0
    }

    /// An error if no connection reached a server, because then the counts prove nothing.
    fn ensure_meaningful(&self) -> Result<()> {
        let tally = &self.tally;
        let unanswered = tally.refused + tally.unreachable + tally.dead;
        ensure!(
            unanswered < tally.connections,
            "no connection of the flood was answered: {self}"
        );
        Ok(())
    }

    /// Adds the figures of another flood.
    pub fn add(&mut self, other: &Self) {
        self.tally.add(other.tally);
        self.verdict.untranslated += other.verdict.untranslated;
        self.verdict.leaked_packets += other.verdict.leaked_packets;
        self.verdict.wrong_service += other.verdict.wrong_service;
        self.shrinks += other.shrinks;
    }

    /// One line for each figure. The names begin with `prefix`.
    pub fn lines(&self, prefix: &str) -> String {
        let (tally, verdict) = (&self.tally, &self.verdict);
        let lines = [
            ("connections", tally.connections),
            ("shrinks", self.shrinks),
            ("untranslated", verdict.untranslated),
            ("dead", tally.dead),
            ("leaked_packets", verdict.leaked_packets),
            ("wrong_service", verdict.wrong_service),
            ("waited", tally.waited),
            ("refused", tally.refused),
        ];
        lines
            .map(|(name, value)| format!("{prefix}_{name}: {value}\n"))
            .concat()
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tally, verdict) = (&self.tally, &self.verdict);
        write!(
            formatter,
            "{} connections, {} shrinks: {} untranslated ({} packets), {} dead, {} to another Service, {} waited, {} refused",
            tally.connections,
            self.shrinks,
            verdict.untranslated,
            verdict.leaked_packets,
            tally.dead,
            verdict.wrong_service,
            tally.waited,
            tally.refused + tally.unreachable,
        )
    }
}

/// Runs a flood while it calls `change` with 1, 2, 3, …. `change` changes the objects and says whether that took
/// something away. It ends after an even number of changes, in the state of the beginning.
fn flood(
    scenario: &Scenario,
    node: &Namespace,
    client: &Namespace,
    options: &Options,
    mut change: impl FnMut(usize) -> Result<bool>,
) -> Result<Figures> {
    let generations = Generations::watch(node)?;
    let judge = Judge::start(node, &scenario.frontends, &scenario.right)?;
    let flood = Flood::start(client, &scenario.plan, THREADS)?;
    let deadline = Instant::now() + options.lasting;
    let (mut step, mut shrinks) = (0, 0);
    while step % 2 == 1
        || ((flood.begun() < options.connections || shrinks < options.shrinks) && Instant::now() < deadline)
    {
        flood.check()?;
        ensure!(!interrupt::came(), "interrupted");
        step += 1;
        generations.forget();
        shrinks += u64::from(change(step)?);
        // There is one transaction per family.
        let until = Instant::now() + CHANGE;
        for _ in 0..2 {
            let _ = generations.next(until.saturating_duration_since(Instant::now()));
        }
    }
    let tally = flood.end()?;
    Ok(Figures {
        tally,
        verdict: judge.verdict()?,
        shrinks,
    })
}
