//! One flow: the requests, the expected result, and the line that reports the real one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use tandem_tests::stage::Ip;
use tandem_tests::traffic::{Answer, Outcome, Protocol, Request};

use crate::go_on;
use crate::paper::{Ink, Paper};
use crate::setting::{Place, Setting};

/// How long a request waits if no answer is expected.
const SILENCE: Duration = Duration::from_millis(500);

/// Requests from one place to one address.
pub(crate) struct Flow {
    pub(crate) from: Place,
    pub(crate) protocol: Protocol,
    pub(crate) to: (IpAddr, u16),
    pub(crate) count: usize,
    pub(crate) must: Must,
}

/// The expected result.
pub(crate) enum Must {
    /// Each of these answers at least once, and no other. They see the source of this place.
    All(&'static [&'static str], Place),
    /// One of these answers all requests. It sees the source of this place.
    One(Vec<&'static str>, Place),
    /// An error at once.
    BeRefused,
    /// No answer.
    BeSilent,
}

/// How many flows had the expected result.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Score {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

/// Who answered how often, which sources they saw, and the slowest answer.
#[derive(Default)]
struct Answers {
    by: BTreeMap<String, usize>,
    sources: Vec<IpAddr>,
    slowest: Duration,
}

impl Flow {
    pub(crate) fn tcp(from: Place, to: (IpAddr, u16), must: Must) -> Self {
        Self {
            from,
            protocol: Protocol::Tcp,
            to,
            count: 1,
            must,
        }
    }

    pub(crate) fn udp(from: Place, to: (IpAddr, u16), must: Must) -> Self {
        Self {
            protocol: Protocol::Udp,
            ..Self::tcp(from, to, must)
        }
    }

    pub(crate) fn times(self, count: usize) -> Self {
        Self { count, ..self }
    }

    /// Sends the requests and prints the line. Returns who answered the last request.
    pub(crate) fn play(&self, setting: &Setting, paper: &Paper, score: &mut Score) -> Result<Option<String>> {
        go_on()?;
        let request = Request::new(self.protocol, SocketAddr::from(self.to)).timeout(self.patience());
        let namespace = setting.namespace(self.from)?;
        let mut answers = Answers::default();
        let mut last = None;
        for _ in 0..self.count {
            match request.send(namespace)? {
                Outcome::Answered(answer) => {
                    answers.add(&answer);
                    last = Some(answer.by);
                }
                other => {
                    let passed = match self.must {
                        Must::BeRefused => other.refused_at_once(),
                        Must::BeSilent => other.timed_out(),
                        Must::All(..) | Must::One(..) => false,
                    };
                    let (what, after) = in_words(&other);
                    self.report(paper, score, passed, &what, "", after);
                    return Ok(None);
                }
            }
        }
        let passed = self.is_met(setting, &answers)?;
        self.report(
            paper,
            score,
            passed,
            &answers.who(),
            &answers.seen(),
            Some(answers.slowest),
        );
        Ok(last)
    }

    fn is_met(&self, setting: &Setting, answers: &Answers) -> Result<bool> {
        let family = if self.to.0.is_ipv4() { Ip::V4 } else { Ip::V6 };
        let (who, place) = match &self.must {
            Must::All(names, place) => (answers.by.keys().eq(names.iter()), *place),
            Must::One(names, place) => (
                answers.by.len() == 1 && answers.by.keys().all(|name| names.contains(&name.as_str())),
                *place,
            ),
            Must::BeRefused | Must::BeSilent => return Ok(false),
        };
        let expected = setting.addresses(place, family)?;
        Ok(who && answers.sources.iter().all(|source| expected.contains(source)))
    }

    fn patience(&self) -> Duration {
        if matches!(self.must, Must::BeSilent) {
            SILENCE
        } else {
            Duration::from_secs(2)
        }
    }

    fn report(&self, paper: &Paper, score: &mut Score, passed: bool, who: &str, saw: &str, took: Option<Duration>) {
        let from = match self.from {
            Place::Client => "client".to_owned(),
            Place::Node(number) => format!("node{number}"),
            Place::Pod(name) => name.to_owned(),
        };
        let what = if self.count > 1 {
            format!("{} ×{}", self.protocol, self.count)
        } else {
            self.protocol.to_string()
        };
        let to = SocketAddr::from(self.to).to_string();
        let mut line = format!("{from:<6} → {to:<22} {what:<7}  {who:<19}  {saw:<26}");
        if let Some(took) = took {
            let _ = write!(line, "{:>8}", milliseconds(took));
        }
        check(paper, score, passed, &line);
    }
}

/// Prints a line with its mark and counts it.
pub(crate) fn check(paper: &Paper, score: &mut Score, passed: bool, line: &str) {
    let mark = if passed {
        paper.ink(Ink::Good, "✔")
    } else {
        paper.ink(Ink::Bad, "✘")
    };
    paper.line(format!("  {mark} {line}").trim_end());
    if passed {
        score.passed += 1;
    } else {
        score.failed += 1;
    }
}

pub(crate) fn milliseconds(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1e3;
    if milliseconds < 10.0 {
        format!("{milliseconds:.1} ms")
    } else {
        format!("{milliseconds:.0} ms")
    }
}

fn in_words(outcome: &Outcome) -> (String, Option<Duration>) {
    match outcome {
        Outcome::Refused { after } => ("refused at once".to_owned(), Some(*after)),
        Outcome::TimedOut { after } => ("no answer".to_owned(), Some(*after)),
        other => (other.to_string(), None),
    }
}

impl Answers {
    fn add(&mut self, answer: &Answer) {
        *self.by.entry(answer.by.clone()).or_default() += 1;
        let source = answer.source.ip();
        if !self.sources.contains(&source) {
            self.sources.push(source);
        }
        self.slowest = self.slowest.max(answer.elapsed);
    }

    fn who(&self) -> String {
        let names = self.by.iter().map(|(name, count)| match self.by.len() {
            2 => format!("{name} {count}"),
            _ => name.clone(),
        });
        names.collect::<Vec<_>>().join(", ")
    }

    /// All sources, or only the first if all would not fit into a line.
    fn seen(&self) -> String {
        let mut sources: Vec<String> = self.sources.iter().map(ToString::to_string).collect();
        sources.sort_by_key(String::len);
        match &sources[..] {
            [first, others @ ..] if self.sources[0].is_ipv6() && !others.is_empty() => format!("saw {first}, …"),
            _ => format!("saw {}", sources.join(", ")),
        }
    }
}
