//! What was counted.

use std::fmt;
use std::time::Duration;

use super::case::Case;
use super::shares::{Shares, Verdict};

/// The sums.
#[derive(Clone, Debug, Default)]
pub struct Report {
    seed: u64,
    steps: u64,
    cases: u64,
    answered: u64,
    /// Cases on what stayed open.
    kept: u64,
    /// Datagrams that were sent again.
    again: u64,
    /// Answers of endpoints on other nodes to flows that XDP may take, and how many of them it took.
    takable: u64,
    taken: u64,
    shares: Verdict,
    /// What is wrong, a line each.
    wrong: Vec<String>,
    took: Duration,
}

/// What is counted meanwhile.
#[derive(Debug, Default)]
pub(super) struct Tally {
    report: Report,
    pub(super) shares: Shares,
}

impl Tally {
    pub(super) fn cases(&self) -> u64 {
        self.report.cases
    }

    pub(super) fn wrong(&self) -> &[String] {
        &self.report.wrong
    }

    pub(super) fn step(&mut self) -> u64 {
        self.report.steps += 1;
        self.report.steps
    }

    pub(super) fn sent_again(&mut self, count: u64) {
        self.report.again += count;
    }

    /// Notes a case: whether it was on what stayed open, whether it was answered in both worlds, and what is wrong about it.
    pub(super) fn note(&mut self, case: &Case, is_kept: bool, is_answered: bool, judged: Result<(), String>) {
        self.report.cases += 1;
        self.report.kept += u64::from(is_kept);
        self.report.answered += u64::from(is_answered);
        if let Err(wrong) = judged {
            let kept = if is_kept { ", open since before" } else { "" };
            let step = self.report.steps;
            self.report.wrong.push(format!("step {step}: {case}{kept}: {wrong}"));
        }
    }

    /// Notes a flow that XDP may take, and whether it did.
    pub(super) fn may_take(&mut self, took: bool) {
        self.report.takable += 1;
        self.report.taken += u64::from(took);
    }

    /// The sums, with what the shares say.
    pub(super) fn report(mut self, seed: u64, took: Duration) -> Report {
        let report = &mut self.report;
        (report.seed, report.took) = (seed, took);
        report.shares = self.shares.verdict();
        report.wrong.extend(report.shares.wrong.iter().cloned());
        self.report
    }
}

impl Report {
    /// What is wrong, a line each.
    pub fn wrong(&self) -> &[String] {
        &self.wrong
    }

    /// How many cases there were.
    pub fn cases(&self) -> u64 {
        self.cases
    }

    /// Whether both worlds were the same, and XDP had nearly everything that it may have. Else they would be the same for no reason.
    pub fn is_good(&self) -> bool {
        self.wrong.is_empty() && self.taken > 0 && self.taken * 10 >= self.takable * 9
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (steps, answered, kept, again) = (self.steps, self.answered, self.kept, self.again);
        writeln!(
            formatter,
            "# seed {}: {steps} steps, {answered} answered, {kept} on what stayed open, {again} datagrams sent again",
            self.seed
        )?;
        writeln!(formatter, "{}", self.shares)?;
        writeln!(formatter, "differential_seconds: {:.0}", self.took.as_secs_f64())?;
        writeln!(formatter, "differential_takable: {}", self.takable)?;
        writeln!(formatter, "differential_taken_by_xdp: {}", self.taken)?;
        writeln!(formatter, "differential_cases: {}", self.cases)?;
        writeln!(formatter, "differential_wrong: {}", self.wrong.len())
    }
}
