//! Compares what came out of a case with what was expected.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;

use crate::conntrack::{self, Entry};
use crate::patience;
use crate::traffic::Outcome;

use super::ask::{Question, Seen};
use super::expect::{Case, End, Expected, Form, Took, endpoint_at};
use super::site::Site;
use super::variant::Variant;

/// A case and what was wrong with it.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What was asked.
    pub name: String,
    /// Who translated it.
    pub took: Took,
    /// Each fault, with what was expected and what was found.
    pub wrong: Vec<String>,
}

/// What was seen, from inside and from outside.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    pub(super) seen: Seen,
    pub(super) took: Took,
    /// The reasons that were counted meanwhile, in the family of the address.
    pub(super) reasons: Vec<String>,
    entries: Vec<Entry>,
}

impl fmt::Display for Took {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Sockets => "sockets",
            Self::Nftables => "nftables",
            Self::Nobody => "nobody",
            Self::Unseen => "no packet passed",
        })
    }
}

/// An address without its IPv6 form.
fn plain(at: SocketAddr) -> SocketAddr {
    SocketAddr::new(at.ip().to_canonical(), at.port())
}

impl Site {
    /// Asks, and looks at the node's connection tracking and at Tandem's counters.
    pub(super) fn observe(&self, question: &Question, form: Form, ask: impl FnOnce() -> Seen) -> Result<Observed> {
        let node = self.node()?;
        conntrack::forget(node)?;
        let seen = ask();
        let entries = conntrack::of(node, question.way.protocol())?;
        Ok(Observed {
            took: took(&entries, seen.port, plain(question.to)),
            seen,
            reasons: self.new_reasons(form.family())?,
            entries,
        })
    }

    /// Asks a case on a socket of its own, and judges it.
    pub(super) fn judge(&self, case: &Case) -> Result<Finding> {
        let expected = case.expected(self.variant);
        let usual = match expected.end {
            End::Silent => Duration::from_millis(250),
            _ => Duration::from_secs(2),
        };
        let question = Question {
            way: case.way,
            to: case.to(),
            bound: case.bound_to(self)?,
            hears_refusals: matches!(expected.end, End::Refused | End::Error),
            patience: patience(usual),
        };
        let place = self.place(case.asker)?;
        let observe = || place.run(|| self.observe(&question, case.form, || question.ask()))?;
        let mut observed = observe()?;
        // This machine may stand still for a moment. A refusal that is late for another reason is late again.
        if question.hears_refusals && is_late(&observed.seen.outcome) {
            observed = observe()?;
        }
        self.compare(case, &expected, &observed)
    }

    /// The faults of what was observed.
    pub(super) fn compare(&self, case: &Case, expected: &Expected, observed: &Observed) -> Result<Finding> {
        let mut wrong = Vec::new();
        let mut check = |what: &str, right: bool, wanted: String, found: String| {
            if !right {
                wrong.push(format!("{what}: expected {wanted}, found {found}"));
            }
        };
        let seen = &observed.seen;
        check(
            "end",
            ends(&seen.outcome, expected.end),
            format!("{:?}", expected.end),
            seen.outcome.to_string(),
        );
        let mut took = expected.took;
        if let Some(answer) = seen.outcome.answer() {
            let by = answer.by.as_str();
            check(
                "answered by",
                expected.by.contains(&by),
                format!("{:?}", expected.by),
                by.to_owned(),
            );
            let itself = case.asker.endpoint() == Some(by);
            if itself && took == Took::Sockets {
                took = Took::Unseen; // what a pod asks itself never leaves it
            }
            let source = &expected.source[usize::from(itself)];
            let sources = source.addresses(self, case.asker, by, case.form.family())?;
            let found = answer.source.ip().to_canonical();
            check(
                "source",
                sources.contains(&found),
                format!("{sources:?}"),
                found.to_string(),
            );
            if case.way.connects() {
                let peer = if expected.bare_peer {
                    endpoint_at(by, case.form)
                } else {
                    case.to()
                };
                check(
                    "getpeername",
                    seen.peer == Some(peer),
                    peer.to_string(),
                    format!("{:?}", seen.peer),
                );
            } else {
                check(
                    "getpeername",
                    seen.peer.is_none(),
                    "none".to_owned(),
                    format!("{:?}", seen.peer),
                );
            }
            if case.way.protocol() == crate::traffic::Protocol::Udp {
                let right = seen.sender == Some(case.to());
                check("recvfrom", right, case.to().to_string(), format!("{:?}", seen.sender));
            }
        }
        let entries = || format!("{} ({:?})", observed.took, observed.entries);
        check("taken by", observed.took == took, took.to_string(), entries());
        let wanted: Vec<&str> = expected.reason.into_iter().collect();
        // At the hierarchy's root, the programs see all processes of this machine, and other tests ask the same addresses.
        let others = |reason: &&String| self.variant == Variant::RootFolder && *reason == "container that is no pod";
        let reasons: Vec<&String> = observed.reasons.iter().filter(|reason| !others(reason)).collect();
        check(
            "reason",
            reasons == wanted,
            format!("{wanted:?}"),
            format!("{reasons:?}"),
        );
        Ok(Finding {
            name: format!("{}: {case}", self.variant.title()),
            took: observed.took,
            wrong,
        })
    }
}

/// Whether a refusal, or another error of the network, did not come at once.
fn is_late(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Refused { .. } | Outcome::Unreachable { .. }) && !outcome.failed_at_once()
}

fn ends(outcome: &Outcome, wanted: End) -> bool {
    match wanted {
        End::Answered => outcome.answer().is_some(),
        End::Refused => outcome.refused_at_once(),
        End::Error => outcome.failed_at_once(),
        End::Silent => outcome.timed_out(),
        End::Reset => matches!(outcome, Outcome::Reset { .. }),
    }
}

/// Who translated a connection from this port that was to go to this address.
fn took(entries: &[Entry], port: Option<u16>, asked: SocketAddr) -> Took {
    let own = || {
        entries
            .iter()
            .filter(|entry| port.is_none_or(|port| entry.from.port() == port))
    };
    if let Some(entry) = own().find(|entry| entry.to == asked) {
        return if entry.with == asked {
            Took::Nobody
        } else {
            Took::Nftables
        };
    }
    if own().next().is_some() {
        Took::Sockets
    } else {
        Took::Unseen
    }
}
