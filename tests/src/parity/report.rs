//! The table: a line for each flow and family, and the sums.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::Duration;

use super::answer::Answer;
use super::took::Took;
use crate::data_plane::DataPlane;

/// A flow of one family, answered in both worlds.
#[derive(Clone, Debug)]
pub struct Row {
    /// The scenario, with its configuration if that is not the base.
    pub scenario: String,
    /// The flow.
    pub flow: String,
    /// kube-proxy's result.
    pub theirs: Answer,
    /// Tandem's result.
    pub ours: Answer,
    /// Who translated it in Tandem's world, if that was asked and somebody did.
    pub took: Option<Took>,
    /// The comparison of the two.
    pub verdict: Verdict,
}

/// The comparison of two answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// They agree.
    Same,
    /// They differ as intended, for the reason with this key.
    Intended(String),
    /// They differ and should not, or they are the same and should differ.
    Wrong(String),
    /// kube-proxy's result is not the one that the scenario expects.
    Broken(String),
}

/// Everything that was compared.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The data plane of Tandem's world.
    pub data_plane: DataPlane,
    /// All lines of the table.
    pub rows: Vec<Row>,
    /// The least number of flows that sockets must have translated. Agreement must not be agreement about nothing.
    pub least_by_sockets: usize,
    /// The same for XDP.
    pub least_by_xdp: usize,
    /// The packets that XDP did not translate, by the reason.
    pub passed: BTreeMap<String, u64>,
    /// Scenarios that could not be run, and why; and flows of the untouched Service that were interrupted.
    pub failures: Vec<String>,
    /// The number of steps. If clients enter by different nodes, a step counts once for each.
    pub steps: usize,
    /// Steps after which Tandem had to be asked again.
    pub asked_again: usize,
    /// Requests to the Service that nobody touches.
    pub untouched_requests: u64,
    /// Those that were lost.
    pub untouched_failed: u64,
    /// The longest time that one of them took.
    pub untouched_slowest: Duration,
    /// How long everything took.
    pub took: Duration,
}

impl Report {
    /// Whether everything is right, and something was compared.
    pub fn is_good(&self) -> bool {
        let good = |row: &Row| matches!(row.verdict, Verdict::Same | Verdict::Intended(_));
        !self.rows.is_empty()
            && self.rows.iter().all(good)
            && self.failures.is_empty()
            && !self.is_often_asked_again()
            && self.taken_by(Took::Sockets) >= self.least_by_sockets
            && self.taken_by(Took::Xdp) >= self.least_by_xdp
            && self.untouched_failed == 0
            && self.untouched_requests > 0
    }

    /// Whether Tandem saw changes later than kube-proxy in more than 2 % of the steps. In a short run, one such step is
    /// allowed.
    fn is_often_asked_again(&self) -> bool {
        self.asked_again > (self.steps / 50).max(1)
    }

    /// The lines that are wrong.
    pub fn wrong(&self) -> String {
        let wrong = |row: &&Row| matches!(row.verdict, Verdict::Wrong(_) | Verdict::Broken(_));
        let rows: Vec<Row> = self.rows.iter().filter(wrong).cloned().collect();
        let mut text = table(&rows);
        for failure in &self.failures {
            text.push_str(failure);
            text.push('\n');
        }
        if self.is_often_asked_again() {
            let _ = writeln!(
                text,
                "Tandem had to be asked again after {} of {} steps, more than 2 %",
                self.asked_again, self.steps
            );
        }
        let by_sockets = self.taken_by(Took::Sockets);
        if by_sockets < self.least_by_sockets {
            let _ = writeln!(
                text,
                "sockets translated only {by_sockets} flows, and not {}",
                self.least_by_sockets
            );
        }
        let by_xdp = self.taken_by(Took::Xdp);
        if by_xdp < self.least_by_xdp {
            let _ = writeln!(
                text,
                "XDP translated only {by_xdp} flows, and not {}",
                self.least_by_xdp
            );
        }
        text
    }

    /// The number of flows that these translated in Tandem's world.
    pub fn taken_by(&self, who: Took) -> usize {
        self.rows.iter().filter(|row| row.took == Some(who)).count()
    }

    fn count(&self, is_so: impl Fn(&Verdict) -> bool) -> usize {
        self.rows.iter().filter(|row| is_so(&row.verdict)).count()
    }
}

/// The lines as a table.
pub fn table(rows: &[Row]) -> String {
    let cells = rows.iter().map(|row| {
        [
            row.scenario.clone(),
            row.flow.clone(),
            row.theirs.to_string(),
            row.ours.to_string(),
            match row.took {
                Some(took) => format!("{} ({took})", row.verdict),
                None => row.verdict.to_string(),
            },
        ]
    });
    lines(&cells.collect::<Vec<_>>())
}

/// The table's first line.
pub fn heading() -> String {
    lines(&[["scenario", "flow", "kube-proxy", "tandem", "same / intended / WRONG"].map(str::to_owned)])
}

/// The least widths of the columns, so that most lines are aligned.
const WIDTHS: [usize; 4] = [34, 62, 34, 34];

fn lines(cells: &[[String; 5]]) -> String {
    let width = |column: usize| {
        let widest = cells.iter().map(|row| row[column].chars().count()).max();
        widest.unwrap_or_default().max(WIDTHS[column])
    };
    let widths = [0, 1, 2, 3].map(width);
    let mut text = String::new();
    for row in cells {
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(text, "{cell:width$} | ");
        }
        text.push_str(&row[4]);
        text.push('\n');
    }
    text
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same => formatter.write_str("same"),
            Self::Intended(key) => write!(formatter, "intended: {key}"),
            Self::Wrong(why) if why.is_empty() => formatter.write_str("WRONG"),
            Self::Wrong(why) => write!(formatter, "WRONG: {why}"),
            Self::Broken(why) => write!(formatter, "SCENARIO WRONG: {why}"),
        }
    }
}

/// The sums.
impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "parity_flows: {}", self.rows.len())?;
        writeln!(
            formatter,
            "parity_same: {}",
            self.count(|verdict| *verdict == Verdict::Same)
        )?;
        writeln!(
            formatter,
            "parity_intended: {}",
            self.count(|verdict| matches!(verdict, Verdict::Intended(_)))
        )?;
        writeln!(
            formatter,
            "parity_wrong: {}",
            self.count(|verdict| matches!(verdict, Verdict::Wrong(_)))
        )?;
        writeln!(
            formatter,
            "parity_scenario_wrong: {}",
            self.count(|verdict| matches!(verdict, Verdict::Broken(_)))
        )?;
        writeln!(formatter, "parity_failures: {}", self.failures.len())?;
        writeln!(formatter, "parity_steps: {}", self.steps)?;
        writeln!(formatter, "parity_steps_asked_again: {}", self.asked_again)?;
        writeln!(formatter, "parity_untouched_requests: {}", self.untouched_requests)?;
        writeln!(formatter, "parity_untouched_failed: {}", self.untouched_failed)?;
        writeln!(
            formatter,
            "parity_untouched_slowest_ms: {:.1}",
            self.untouched_slowest.as_secs_f64() * 1e3
        )?;
        writeln!(formatter, "parity_seconds: {:.0}", self.took.as_secs_f64())?;
        if self.data_plane == DataPlane::Xdp {
            for who in [Took::Sockets, Took::Xdp, Took::Nftables] {
                writeln!(formatter, "parity_taken_by_{who}: {}", self.taken_by(who))?;
            }
            for (reason, packets) in &self.passed {
                writeln!(formatter, "# packets that XDP passed or dropped: {packets} {reason}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(verdict: Verdict) -> Report {
        let row = Row {
            scenario: "s".to_owned(),
            flow: "f".to_owned(),
            theirs: Answer::default(),
            ours: Answer::default(),
            took: None,
            verdict,
        };
        Report {
            rows: vec![row],
            untouched_requests: 1,
            ..Report::default()
        }
    }

    #[test]
    fn a_report_is_good_only_with_flows_that_agree_and_an_untouched_service_that_noticed_nothing() {
        assert!(!Report::default().is_good());
        assert!(report(Verdict::Same).is_good() && report(Verdict::Intended("why".to_owned())).is_good());
        assert!(!report(Verdict::Wrong(String::new())).is_good() && !report(Verdict::Broken(String::new())).is_good());
        let mut interrupted = report(Verdict::Same);
        interrupted.untouched_failed = 1;
        assert!(!interrupted.is_good());
        let mut unwalked = report(Verdict::Same);
        unwalked.failures.push("no".to_owned());
        assert!(!unwalked.is_good());
        let mut untaken = report(Verdict::Same);
        untaken.least_by_sockets = 1;
        assert!(!untaken.is_good() && untaken.wrong().contains("only 0 flows"));
        untaken.rows[0].took = Some(Took::Sockets);
        assert!(untaken.is_good());
        untaken.least_by_xdp = 1;
        assert!(!untaken.is_good() && untaken.wrong().contains("XDP translated only 0 flows"));
        let late = |steps, asked_again| Report {
            steps,
            asked_again,
            ..report(Verdict::Same)
        };
        assert!(late(3, 1).is_good() && late(200, 4).is_good());
        assert!(!late(3, 2).is_good() && !late(200, 5).is_good() && late(200, 5).wrong().contains("5 of 200"));
    }

    #[test]
    fn the_sums_are_printed_in_their_form_and_wrong_lines_are_shown() {
        let wrong = report(Verdict::Wrong(String::new()));
        let sums = wrong.to_string();
        assert!(
            sums.contains("parity_flows: 1\n") && sums.contains("parity_wrong: 1\n"),
            "{sums}"
        );
        assert!(
            sums.contains("parity_same: 0\n") && sums.contains("parity_intended: 0\n"),
            "{sums}"
        );
        assert!(wrong.wrong().ends_with("| WRONG\n"));
        assert_eq!(report(Verdict::Same).wrong(), "");
    }
}
