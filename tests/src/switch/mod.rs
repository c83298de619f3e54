//! What a node's programs notice when the agent, or one of its data planes, is not what it was a moment ago: nothing. For
//! `make xdp-switch`.
//!
//! While the agent is killed, exchanged, reconfigured and refused by the kernel, programs of the node and of a pod ask
//! Services without a pause, and a thousand connections stay open. Endpoints change meanwhile. As soon as Tandem says
//! that a change is programmed, the endpoint that went must not answer.
//!
//! | module | what it has |
//! |---|---|
//! | `site` | the world, its Services, and the agent |
//! | `load` | requests without a pause |
//! | `connections` | connections that stay open |
//! | `probe` | who answers a Service whose only endpoint changes |
//! | `steps` | what happens to the agent |
//! | `faults` | what happens to its system calls, its pins and its folders |
//! | `outside` | flows of packets from outside in XDP, with steps of their own |

mod connections;
mod faults;
mod load;
pub mod outside;
mod probe;
mod shift;
mod site;
mod steps;

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::interrupt;

use connections::Connections;
use load::Load;
use probe::Probe;
use site::Site;
use steps::Step;

/// How many connections stay open, of the whole run and of the short one.
const CONNECTIONS: [usize; 2] = [1000, 100];

/// What to run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Less of everything, and only what needs no second build.
    pub short: bool,
    /// Only steps whose name contains this.
    pub only: Option<String>,
}

/// The sums.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Requests without a pause.
    pub requests: u64,
    /// Those that got no answer, or one from elsewhere.
    pub failed: u64,
    /// Connections that stayed open at first.
    pub connections: u64,
    /// Those that ended.
    pub lost: u64,
    /// Answers of an endpoint that was gone.
    pub stale: u64,
    /// Answers of the Service whose endpoint changes.
    pub probed: u64,
    /// Connections that sockets had taken when the run ended, since the maps were made last.
    pub taken: u64,
    /// What went wrong, in words.
    pub wrong: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

/// Runs the steps. Tells what each one did.
pub fn run(options: &Options, mut tell: impl FnMut(&str)) -> Result<Report> {
    let began = Instant::now();
    let mut report = Report::default();
    let mut site = Site::new()?;
    let count = CONNECTIONS[usize::from(options.short)];
    // Half of them are nftables' connections, and half of them the sockets'.
    let connections = Connections::start(&site.world)?;
    connections.open(&site, count / 2, false)?;
    let (load, probe) = (Load::start(&site)?, Probe::start(&site)?);
    site.turn("xdp")?;
    let rest = count - count / 2;
    connections.open(&site, rest, true)?;
    let taken = site.long_by_sockets()?;
    ensure!(
        taken == u64::try_from(rest)?,
        "sockets took {taken} of {rest} connections"
    );
    report.connections = connections.opened();
    let walked = walk(
        options,
        &mut site,
        (&probe, &load, &connections),
        &mut report,
        &mut tell,
    );
    // All threads leave their folders before these are removed, also after a failure.
    (report.requests, report.failed) = load.stop()?;
    report.failed += probe.failed();
    (report.probed, report.stale) = probe.stop()?;
    report.lost = connections.stop()?;
    walked?;
    report.taken = site.taken_by_sockets()?;
    let ended = site.finish();
    report.took = began.elapsed();
    ended.map(|()| report)
}

fn walk(
    options: &Options,
    site: &mut Site,
    (probe, load, connections): (&Probe, &Load, &Connections),
    report: &mut Report,
    mut tell: impl FnMut(&str),
) -> Result<()> {
    for step in Step::all(options.short) {
        let chosen = options.only.as_ref().is_none_or(|only| step.name().contains(only));
        if !chosen || interrupt::came() {
            continue;
        }
        let (started, before) = (Instant::now(), load.counts());
        let ran = step.run(site, probe, load, connections, options.short);
        let ran = ran.and_then(|()| connections.check());
        let now = load.counts();
        let words = format!(
            "# {}: {:.1} s, {} requests, {} failed, {} connections lost, {} stale",
            step.name(),
            started.elapsed().as_secs_f64(),
            now.0 - before.0,
            now.1 - before.1 + probe.failed(),
            connections.lost(),
            probe.stale(),
        );
        tell(&words);
        let news = load.news().into_iter().chain(probe.news()).chain(connections.news());
        let news: Vec<String> = news.map(|what| format!("{}: {what}", step.name())).collect();
        for what in &news {
            tell(what);
        }
        report.wrong.extend(news);
        ran.with_context(|| step.name().to_owned())?;
    }
    Ok(())
}

impl Report {
    /// Whether nothing was noticed, and something was sent.
    pub fn is_good(&self) -> bool {
        self.failed == 0
            && self.lost == 0
            && self.stale == 0
            && self.requests > 0
            && self.probed > 0
            && self.connections > 0
            && self.taken > 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "switch_seconds: {:.0}", self.took.as_secs_f64())?;
        writeln!(formatter, "switch_connections: {}", self.connections)?;
        writeln!(formatter, "switch_probes: {}", self.probed)?;
        writeln!(formatter, "switch_taken_by_sockets: {}", self.taken)?;
        writeln!(formatter, "switch_requests: {}", self.requests)?;
        writeln!(formatter, "failed_requests: {}", self.failed)?;
        writeln!(formatter, "lost_connections: {}", self.lost)?;
        writeln!(formatter, "behind_served_stale: {}", self.stale)
    }
}
