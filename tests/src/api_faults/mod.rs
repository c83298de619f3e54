//! A proxy between Tandem and the real API server that cuts, stalls, truncates and exchanges what the server sends, at
//! every byte of a short history.
//!
//! In each case, one answer has one fault. Either a Tandem starts over standing tables and its first list has the fault,
//! or a Tandem watches and the watch has it. The case is right if
//! - the kernel reports no transaction that took something away from a Service that stays,
//! - at the end, the tables mean what those of a Tandem mean that starts without tables and without the proxy,
//! - Tandem still runs, watches everything, has named the fault once if it is one, and asked with backoff.
//!
//! What no client can notice is no fault: a server that leaves an object out, changes a letter in it, or ends a list too
//! early. What the server really says wins. The test of the judge uses such a lie.

mod answer;
mod body;
mod case;
mod fault;
mod frames;
mod history;
mod judge;
mod losses;
mod plan;
mod proxy;
mod rounds;
mod session;
mod worker;

use std::time::Duration;

use anyhow::{Result, ensure};

use rounds::{Rounds, Verdict};

pub use case::{Case, Encoding, Http, Kind, Lists, Phase, Way};
pub use fault::Fault;

/// How long a case may take.
const PATIENCE: Duration = Duration::from_secs(75);
/// How long the cases of the judge's test may take. They never come to a good end.
const IMPATIENCE: Duration = Duration::from_secs(8);

/// Which cases to run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many Tandems run at once.
    pub tandems: usize,
    /// A fault at each of so many bytes.
    pub every: usize,
    /// Only a few cases for each fault.
    pub short: bool,
    /// Only this case.
    pub only: Option<Case>,
}

/// What came of the cases.
#[derive(Debug, Default)]
pub struct Figures {
    /// How many cases ran.
    pub cases: usize,
    /// The cases that were wrong, and why.
    pub wrong: Vec<Verdict>,
}

/// Runs the cases. `tell` hears of the progress after each round: the cases so far, all cases, and the round's wrong ones.
pub fn run(options: &Options, mut tell: impl FnMut(usize, usize, &[Verdict])) -> Result<Figures> {
    crate::allow_open_files()?;
    let mut rounds = Rounds::start()?;
    let mut cases = if let Some(case) = options.only {
        vec![case]
    } else {
        let lengths = rounds.lengths()?;
        if options.short {
            plan::short(&lengths)
        } else {
            plan::all(&lengths, options.every)
        }
    };
    // Those that take long run together.
    cases.sort_by_key(Case::is_long);
    let mut figures = Figures::default();
    for round in cases.chunks(options.tandems) {
        let verdicts = rounds.round(round, PATIENCE)?;
        figures.cases += verdicts.len();
        let wrong: Vec<Verdict> = verdicts
            .into_iter()
            .filter(|(_, complaints)| !complaints.is_empty())
            .collect();
        tell(figures.cases, cases.len(), &wrong);
        figures.wrong.extend(wrong);
    }
    rounds.end()?;
    Ok(figures)
}

/// Runs cases in which the server lies, so that Tandem cannot be right. Returns what the judge says about each.
pub fn run_lies() -> Result<Vec<Verdict>> {
    let lie = |phase, kind, at| Case {
        way: Way::USUAL,
        phase,
        kind,
        fault: Fault::Lie,
        at,
    };
    let cases = [
        lie(Phase::List, Kind::Service, 1),
        lie(Phase::List, Kind::EndpointSlice, 1),
        lie(Phase::Watch, Kind::Service, 0),
        lie(Phase::Watch, Kind::EndpointSlice, 3),
    ];
    let mut rounds = Rounds::start()?;
    let verdicts = rounds.round(&cases, IMPATIENCE)?;
    ensure!(verdicts.len() == cases.len(), "not all cases ran");
    rounds.end()?;
    Ok(verdicts)
}
