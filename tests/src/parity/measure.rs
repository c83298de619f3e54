//! Sends the requests of a flow.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use super::answer::Answer;
use super::flow::{Expect, Flow};
use super::sender::Sender;
use crate::traffic::{Protocol, Request};

/// How long a request waits if no answer is expected. Packets here take less than a millisecond.
const SILENCE: Duration = Duration::from_millis(400);
/// The same if the answer may be an ICMPv6 error for a TCP socket that is still in its call to connect. The kernel
/// ignores that error, and the first packet is sent again after a second.
const LATE: Duration = Duration::from_millis(1400);
/// The same for a request with a size. On a slow machine, many large requests at once slow each other down. If one was
/// given up soon, more would follow, and none would finish.
const BULKY: Duration = Duration::from_secs(4);
/// After this many requests with the same error, no more are sent.
const REFUSED: usize = 8;
/// After this many requests without an answer, the flow counts as silent.
const SILENT: usize = 3;
/// Endpoints are picked at random. If one of them has not answered yet, the requests are sent up to this many times.
const PATIENCE: usize = 4;

/// The expected result, which decides how to ask in the shortest time. Only the real result counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Likely {
    /// Answers, each of which comes soon.
    Answers,
    /// Results that take some time.
    Delays,
    /// No result at all.
    Silence,
}

/// A flow of one family in one world.
#[derive(Clone, Debug)]
pub(super) struct Question {
    request: Request,
    requests: usize,
    one_at_a_time: bool,
    bulky: bool,
    rest: Option<Duration>,
    likely: Likely,
    names: BTreeSet<String>,
}

impl Question {
    pub(super) fn new(flow: &Flow, sender: Sender, to: IpAddr, from: Option<IpAddr>) -> Self {
        let may_be_late = flow.protocol == Protocol::Tcp && to.is_ipv6() && flow.expect.names().is_none();
        let silence = if may_be_late { LATE } else { SILENCE };
        let mut request = Request::new(flow.protocol, SocketAddr::new(to, flow.port)).timeout(silence);
        let any = if to.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        if let Some(port) = flow.port_of(sender) {
            request = request.from_port(SocketAddr::new(from.unwrap_or(any), port));
        } else if let Some(address) = from {
            request = request.from(address);
        }
        if sender == Sender::Unconnected {
            request = request.unconnected();
        }
        if let Some(size) = flow.size {
            request = request.size(size).timeout(BULKY);
        }
        Self {
            request,
            rest: flow.rest.map(Duration::from_millis),
            requests: match flow.expect {
                Expect::Refused | Expect::Unreachable => flow.requests.min(REFUSED),
                _ => flow.requests,
            },
            one_at_a_time: flow.source_port.is_some(),
            bulky: flow.size.is_some(),
            likely: match flow.expect {
                Expect::Dropped => Likely::Silence,
                Expect::Partly(_) | Expect::Refused | Expect::Unreachable => Likely::Delays,
                _ => Likely::Answers,
            },
            names: match &flow.expect {
                Expect::Answers(names) | Expect::Partly(names) => names.clone(),
                _ => BTreeSet::new(),
            },
        }
    }

    /// Sends the requests from the namespace of the calling thread.
    pub(super) fn ask(&self) -> Answer {
        let mut answer = Answer::default();
        if self.one_at_a_time {
            self.one_by_one(self.requests, &mut answer);
            return answer;
        }
        match self.likely {
            Likely::Delays => self.all_at_once(self.requests, &mut answer),
            Likely::Silence => self.all_at_once(SILENT.min(self.requests), &mut answer),
            Likely::Answers => {
                let left = self.requests - self.until_silence(self.requests, &mut answer);
                self.all_at_once(SILENT.min(left), &mut answer);
            }
        }
        if answer.count("timed out") > 0 && !answer.by.is_empty() {
            self.all_at_once(self.requests, &mut answer); // some get an answer, and all of these servers should be seen
        }
        for _ in 1..PATIENCE {
            let seen = answer.names();
            if !answer.failed.is_empty() || !seen.is_subset(&self.names) || seen == self.names {
                break;
            }
            self.until_silence(self.requests, &mut answer);
        }
        answer
    }

    /// Sends up to this number, one after the other, and stops after one that was not answered. Returns their number.
    fn until_silence(&self, count: usize, answer: &mut Answer) -> usize {
        for number in 1..=count {
            if let Some(rest) = self.rest {
                thread::sleep(rest);
            }
            self.once(answer);
            if answer.count("timed out") > 0 {
                return number;
            }
        }
        count
    }

    fn one_by_one(&self, count: usize, answer: &mut Answer) {
        for _ in 0..count {
            self.once(answer);
            if answer.count("timed out") >= SILENT {
                break;
            }
        }
    }

    /// Sends them on threads, which begin in the namespace of the calling thread. Large requests are sent one after the
    /// other.
    fn all_at_once(&self, count: usize, answer: &mut Answer) {
        if self.bulky {
            return self.one_by_one(count, answer);
        }
        let outcomes: Vec<_> = thread::scope(|scope| {
            let send = || {
                let mut own = None;
                (self.request.send_here_from(&mut own), own)
            };
            let threads: Vec<_> = (0..count).map(|_| scope.spawn(send)).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
        });
        for (outcome, own) in &outcomes {
            answer.add(outcome, *own);
        }
    }

    fn once(&self, answer: &mut Answer) {
        let mut own = None;
        let outcome = self.request.send_here_from(&mut own);
        answer.add(&outcome, own);
    }
}
