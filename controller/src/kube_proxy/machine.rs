//! Decides which of two programs serves the node while a kube-proxy is there beside Tandem. It does no I/O and reads no
//! clock.
//!
//! kube-proxy asks for its health check address every five seconds for as long as it lives. So the address shows
//! whether a kube-proxy lives, whatever rules are there:
//!
//! - Tandem gets the address: no kube-proxy lives. The rules that one left are removed, and Tandem's come first.
//! - Somebody else has it, and rules of a kube-proxy are there: a kube-proxy lives. Its rules stay, and come first. So
//!   whichever of the two ends, the rules of the other one decide from then on.
//! - Rules appear while Tandem has the address: a kube-proxy has started, or somebody has loaded a saved ruleset. Tandem
//!   gives the address away for some seconds, and then sees whether it was taken. Meanwhile, the rules come first, as if
//!   a kube-proxy ran: Tandem may end before it is known.

use std::time::{Duration, Instant};

use super::signs::Signs;
use crate::event::Neighbour;

/// How long Tandem leaves the address alone. kube-proxy tries it every 5 s.
pub(super) const OFFERED_FOR: Duration = Duration::from_secs(7);
/// How soon Tandem sees that the address is free. Until then, nobody keeps the rules of a kube-proxy that has ended.
const TAKEN_EVERY: Duration = Duration::from_millis(200);
/// How soon Tandem sees that rules have appeared.
const HELD_EVERY: Duration = Duration::from_secs(1);
/// If rules appear twice within this time, and nobody takes the address, a program makes them that does not want it.
const AGAIN: Duration = Duration::from_mins(10);

/// Whose the health check address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// The settings name none.
    Off,
    /// Tandem listens there.
    Held,
    /// Tandem does not listen there, and has not tried.
    Left,
    /// Tandem cannot listen there.
    Taken,
}

/// What is seen at one moment.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Whether everything is programmed.
    pub(super) programmed: bool,
    pub(super) address: Address,
    pub(super) signs: Signs,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Todo {
    /// Whether Tandem is to listen at the address.
    pub(super) listen: bool,
    /// Whether kube-proxy's tables are to be removed. [`Machine::removed`] is called afterwards.
    pub(super) remove: bool,
    /// What is known of a kube-proxy. None before it is decided for the first time.
    pub(super) neighbour: Option<Neighbour>,
    /// When to look again.
    pub(super) after: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not everything is programmed, or the address is not Tandem's.
    Undecided,
    Alone,
    Offering {
        until: Instant,
    },
    /// The time of the offer is over.
    Asking,
    Beside,
    Reappears,
}

/// The machine.
#[derive(Debug)]
pub(super) struct Machine {
    state: State,
    /// Whether the settings let kube-proxy's tables be removed.
    removes: bool,
    /// The rules that were there when Tandem last was alone.
    known: Signs,
    /// When rules last appeared and nobody took the address.
    unclaimed: Option<Instant>,
}

impl Machine {
    pub(super) fn new(removes: bool) -> Self {
        Self {
            state: State::Undecided,
            removes,
            known: Signs::default(),
            unclaimed: None,
        }
    }

    /// Says what to do now.
    pub(super) fn step(&mut self, seen: &Seen, now: Instant) -> Todo {
        let mut remove = false;
        self.state = match (self.state, seen.address) {
            (State::Offering { until }, Address::Left) if now < until => self.state,
            (State::Offering { .. }, Address::Left) => State::Asking,
            (_, Address::Taken) if seen.signs.might_be_kept() => State::Beside,
            (_, Address::Taken | Address::Left) => State::Undecided,
            (State::Alone, Address::Held) if seen.signs.appeared_since(&self.known) => State::Offering {
                until: now + OFFERED_FOR,
            },
            (State::Alone, Address::Off) | (State::Reappears, _) if seen.signs.appeared_since(&self.known) => {
                State::Reappears
            }
            (State::Asking, Address::Held) if self.is_unclaimed_again(now) => State::Reappears,
            (State::Alone, _) => State::Alone,
            _ if !seen.programmed => State::Undecided,
            _ => {
                remove = self.removes && seen.signs.has_tables();
                self.known = seen.signs;
                State::Alone
            }
        };
        if self.state == State::Alone && !remove {
            // What goes and comes back is news.
            self.known.keep_only(&seen.signs);
        }
        if self.state == State::Beside {
            self.unclaimed = None;
        }
        self.todo(remove, seen, now)
    }

    /// Takes the signs that are there after kube-proxy's tables were to be removed. What has appeared meanwhile is not
    /// known, and is news.
    pub(super) fn removed(&mut self, after: &Signs) {
        self.known.keep_only(after);
    }

    /// Notes that nobody has taken the address. Gives whether that was so a short time ago, too.
    fn is_unclaimed_again(&mut self, now: Instant) -> bool {
        let before = self.unclaimed.replace(now);
        before.is_some_and(|before| now.saturating_duration_since(before) < AGAIN)
    }

    fn todo(&self, remove: bool, seen: &Seen, now: Instant) -> Todo {
        let listen = !matches!(self.state, State::Offering { .. });
        let (neighbour, after) = match self.state {
            State::Offering { until } => (Some(Neighbour::Appeared), until.saturating_duration_since(now)),
            State::Asking => (Some(Neighbour::Appeared), Duration::ZERO),
            State::Beside => (Some(Neighbour::Runs), TAKEN_EVERY),
            State::Reappears => (Some(Neighbour::Reappears), HELD_EVERY),
            State::Undecided if seen.address == Address::Taken => (Some(Neighbour::AddressTaken), TAKEN_EVERY),
            State::Undecided => (None, TAKEN_EVERY),
            State::Alone => (Some(Neighbour::None), HELD_EVERY),
        };
        Todo {
            listen,
            remove,
            neighbour,
            after,
        }
    }
}

#[cfg(test)]
mod tests;
