//! Random Services, histories and packets in two worlds of the same shape: the agent of one has nftables alone, that of the other has XDP
//! before it. Clients outside ask the same in both, and must be answered the same.

mod case;
mod chi;
mod claims;
mod flows;
mod history;
mod judge;
mod pairs;
mod place;
mod servers;
mod shares;
mod spec;
mod talk;
mod tally;
mod twins;
mod words;

use std::time::Instant;

use anyhow::Result;

pub use tally::Report;
use tally::Tally;
use twins::Twins;

/// The amount of work.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The seed of all that is random in it.
    pub seed: u64,
    /// How many cases there are at least.
    pub cases: u64,
}

/// Runs step after step until there are enough cases. `tell` is told what is wrong.
pub fn run(options: &Options, mut tell: impl FnMut(&str)) -> Result<Report> {
    crate::allow_open_files()?;
    let began = Instant::now();
    let mut twins = Twins::new(options.seed)?;
    let mut tally = Tally::default();
    // A short run has several steps, too.
    let in_a_step = usize::try_from(options.cases / 50).unwrap_or(usize::MAX).clamp(50, 200);
    let mut told = 0;
    while tally.cases() < options.cases {
        twins.step(in_a_step, &mut tally)?;
        tally.wrong()[told..].iter().for_each(|line| tell(line));
        told = tally.wrong().len();
    }
    twins.finish()?;
    let report = tally.report(options.seed, began.elapsed());
    // The shares are known at the end.
    report.wrong()[told..].iter().for_each(|line| tell(line));
    Ok(report)
}
