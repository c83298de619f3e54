//! Who answers a socket, what the socket is told, and which plane took it: real sockets in real namespaces and cgroup
//! folders, for `make sockets`.
//!
//! A case is one question of a program, or several on one socket. It says who answers, which source the endpoint sees,
//! what `getpeername` and `recvfrom` say, and who translated: the socket itself or nftables. The last is judged by the
//! connection tracking of the asker's node, not by what Tandem counts: an entry whose first destination is the frontend is
//! nftables', and one whose first destination is the endpoint is the socket's.
//!
//! | module | what it has |
//! |---|---|
//! | [`ask`] | the calls of a program |
//! | `site` | the world, and those who ask |
//! | `services`, `variant`, `cases` | the tables |
//! | `expect` | what has to come out |
//! | `judge` | what was wrong |
//! | `special` | cases of several questions |

pub mod ask;
mod cases;
mod expect;
mod judge;
mod services;
mod site;
mod special;
mod variant;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;

use anyhow::Result;
use socket2::{Domain, Socket, Type};

use crate::interrupt;

pub use expect::Took;
pub use judge::Finding;

use ask::Way;
use site::Site;
use variant::Variant;

const VARIANTS: [Variant; 8] = [
    Variant::Usual,
    Variant::MasqueradeAll,
    Variant::DetectsNobody,
    Variant::Loopback,
    Variant::RootFolder,
    Variant::NodeOnly,
    Variant::Off,
    Variant::Nft,
];

/// After so many questions it tells how far it is.
const TELL: usize = 100;

/// What to run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Only one case of so many.
    pub every: Option<usize>,
    /// Only cases whose name contains this.
    pub only: Option<String>,
}

/// The sums.
#[derive(Clone, Debug, Default)]
pub struct Report {
    cases: usize,
    wrong: usize,
    /// Those that this kernel cannot do.
    left_out: usize,
    verified_instructions: u64,
    took: BTreeMap<Took, usize>,
}

/// Whether this kernel has MPTCP.
fn has_mptcp() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| Socket::new(Domain::IPV4, Type::STREAM, Some(socket2::Protocol::MPTCP)).is_ok())
}

/// Runs all cases. Tells each one that is wrong, and where it is.
pub fn run(options: &Options, mut tell: impl FnMut(&str)) -> Result<Report> {
    let mut report = Report::default();
    if !has_mptcp() {
        tell("left out: the cases of MPTCP, because this kernel has none");
    }
    let mut site = Site::new()?;
    site.learn_sources()?;
    for variant in VARIANTS {
        site.start(variant)?;
        if variant == Variant::Usual {
            report.verified_instructions = site.verified_instructions()?;
        }
        let before = report.cases;
        let mut cases = cases::of(variant);
        if let Some(only) = &options.only {
            cases.retain(|case| format!("{}: {case}", variant.title()).contains(only));
        }
        let every = options.every.unwrap_or(1);
        let of = cases.len().div_ceil(every);
        for (number, case) in cases.iter().step_by(every).enumerate() {
            if number > 0 && number.is_multiple_of(TELL) {
                tell(&format!("# {}: {number} of {of} questions", variant.title()));
            }
            if interrupt::came() {
                return Ok(report);
            }
            if case.way == Way::Mptcp && !has_mptcp() {
                report.left_out += 1;
                continue;
            }
            report.add(&site.judge(case)?, &mut tell);
        }
        if variant == Variant::Usual && options.only.is_none() {
            for finding in special::run(&mut site, options.every.is_some())? {
                report.add(&finding, &mut tell);
            }
            if !has_mptcp() {
                report.left_out += special::OF_MPTCP;
            }
        }
        tell(&format!("# {}: {} cases", variant.title(), report.cases - before));
    }
    site.finish()?;
    Ok(report)
}

impl Report {
    fn add(&mut self, finding: &Finding, tell: &mut impl FnMut(&str)) {
        self.cases += 1;
        *self.took.entry(finding.took).or_default() += 1;
        if !finding.wrong.is_empty() {
            self.wrong += 1;
            tell(&format!(
                "WRONG {}\n      {}",
                finding.name,
                finding.wrong.join("\n      ")
            ));
        }
    }

    /// How many cases there were.
    pub fn cases(&self) -> usize {
        self.cases
    }

    /// How many of them were wrong.
    pub fn wrong(&self) -> usize {
        self.wrong
    }

    /// How many connections were translated by these.
    pub fn taken(&self, took: Took) -> usize {
        self.took.get(&took).copied().unwrap_or_default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (took, count) in &self.took {
            writeln!(formatter, "# taken by {took}: {count}")?;
        }
        writeln!(formatter, "verified_instructions: {}", self.verified_instructions)?;
        writeln!(formatter, "socket_cases: {}", self.cases)?;
        writeln!(formatter, "socket_left_out: {}", self.left_out)?;
        writeln!(formatter, "socket_wrong: {}", self.wrong)
    }
}
