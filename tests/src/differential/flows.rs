//! What stays open over steps, and what may become of it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::case::Case;
use super::history::Specs;
use super::judge::Question;
use super::pairs::Pair;
use super::spec::State;
use super::talk::Seen;

/// The kernel forgets a flow of datagrams after 30 seconds. After so many, this is not judged any more.
const IDLE: Duration = Duration::from_secs(24);

/// A connection or a flow of datagrams that was answered in both worlds.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) pair: Pair,
    pub(super) case: Case,
    life: u32,
    /// Who answered last, and the source that it saw.
    pub(super) before: [(usize, SocketAddr); 2],
    asked: Instant,
}

/// What may become of a flow in one world.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Rule {
    /// It stays with its endpoint.
    Stays,
    /// It stays, or begins anew.
    Either,
    /// It begins anew, as a new client does.
    Anew,
    /// Anything.
    Unknown,
}

impl Flow {
    /// A flow that was answered; none if it was not.
    pub(super) fn new(pair: Pair, case: Case, specs: &Specs) -> Option<Self> {
        let [nft, xdp] = answers(pair.seen());
        Some(Self {
            pair,
            case,
            life: case.spec(specs)?.life,
            before: [nft?, xdp?],
            asked: Instant::now(),
        })
    }

    /// What may become of it in this world. A connection always goes on: nobody ends it, and its pod is there.
    pub(super) fn rule(&self, world: usize, specs: &Specs) -> Rule {
        if !self.case.is_udp {
            return Rule::Stays;
        }
        let other = |life: u32| life != self.life;
        if self.asked.elapsed() > IDLE || specs.get(&self.case.number).is_some_and(|spec| other(spec.life)) {
            return Rule::Unknown;
        }
        let Some(spec) = self.case.spec(specs) else {
            return Rule::Anew;
        };
        let (pod, _) = self.before[world];
        let serves = matches!(spec.endpoints.get(&pod), Some(State::Ready | State::Terminating));
        if self.case.set(specs).contains(&pod) {
            Rule::Stays
        } else if serves {
            // Traffic policies, source ranges and readiness are for new clients.
            Rule::Either
        } else {
            Rule::Anew
        }
    }

    /// Whether a world still sends it to the endpoint that it must have left.
    pub(super) fn is_late(&self, specs: &Specs) -> bool {
        let now = answers(self.pair.seen());
        (0..2).any(|world| self.rule(world, specs) == Rule::Anew && now[world] == Some(self.before[world]))
    }

    /// What is wrong about its last answers.
    pub(super) fn judge(&self, question: &Question<'_>, specs: &Specs) -> Result<(), String> {
        let seen = self.pair.seen();
        let rules = [0, 1].map(|world| self.rule(world, specs));
        if rules == [Rule::Anew; 2] {
            return question.compare(seen);
        }
        for (world, name) in ["nft", "xdp"].into_iter().enumerate() {
            let before = self.before[world];
            let stays = seen[world] == Seen::Answered(before.0, before.1);
            let wrong = match rules[world] {
                Rule::Stays if !stays => Err(format!("{:?}, and not {before:?} as before", seen[world])),
                Rule::Either if !stays => question.check(seen[world]),
                Rule::Anew => question.check(seen[world]),
                _ => Ok(()),
            };
            wrong.map_err(|wrong| format!("{name}: {wrong}"))?;
        }
        Ok(())
    }

    /// The flow for the next step; none if it has ended.
    pub(super) fn next(mut self) -> Option<Self> {
        let [nft, xdp] = answers(self.pair.seen());
        (self.before, self.asked) = ([nft?, xdp?], Instant::now());
        Some(self)
    }
}

/// Who answered, and the source that it saw, in both worlds.
pub(super) fn answers(seen: [Seen; 2]) -> [Option<(usize, SocketAddr)>; 2] {
    seen.map(|seen| match seen {
        Seen::Answered(by, source) => Some((by, source)),
        _ => None,
    })
}
