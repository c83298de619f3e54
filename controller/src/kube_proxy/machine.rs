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

use tandem_core::plane::Place;

use super::signs::Signs;
use crate::event::Neighbour;

/// How long Tandem leaves the address alone. kube-proxy tries it every 5 s.
pub(super) const OFFERED_FOR: Duration = Duration::from_secs(7);
/// How soon Tandem sees that the address is free. Until then, nobody keeps the rules of a kube-proxy that has ended.
const TAKEN_EVERY: Duration = Duration::from_millis(200);
/// How soon Tandem looks at the address again after an offer.
const ASKING_EVERY: Duration = Duration::from_millis(20);
/// How soon Tandem sees that rules have appeared.
const HELD_EVERY: Duration = Duration::from_secs(1);
/// If rules appear twice within this time, and nobody takes the address, a program makes them that does not want it.
/// After this time, that is found out anew.
const AGAIN: Duration = Duration::from_mins(10);
/// How long until a table that could not be removed is removed again.
const REMOVE_EVERY: Duration = Duration::from_secs(10);

/// Whose the health check address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// The settings name none, or it cannot be used. It shows nothing.
    Off,
    /// Tandem listens there.
    Held,
    /// Tandem does not listen there, and it is not known who does.
    Left,
    /// Somebody else listens there.
    Taken,
}

/// What is seen at one moment.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Whether every list is complete.
    pub(super) complete: bool,
    /// Whether everything is programmed: IPv4, IPv6.
    pub(super) programmed: [bool; 2],
    pub(super) address: Address,
    pub(super) signs: Signs,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Todo {
    /// Whether Tandem is to listen at the address.
    pub(super) listen: bool,
    /// Whether kube-proxy's table is to be removed: IPv4, IPv6. [`Machine::removed`] is called afterwards.
    pub(super) remove: [bool; 2],
    /// What is known of a kube-proxy. None before it is decided for the first time.
    pub(super) neighbour: Option<Neighbour>,
    /// When to look again.
    pub(super) after: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is not known whose the address is.
    Undecided,
    /// Somebody else has the address, and no rules are there.
    Stranger,
    /// Tandem has the address, or none is to be had. Not every list is complete.
    Waiting,
    Alone,
    Offering {
        until: Instant,
    },
    /// The time of the offer is over.
    Asking,
    Beside,
    Reappears {
        since: Instant,
    },
}

/// Where Tandem's rules stand beside this neighbour, while Tandem runs or when it ends. The rules of a kube-proxy that runs,
/// or may run, come first: if Tandem ended, nobody would keep Tandem's up to date.
pub(super) fn place(neighbour: Neighbour, at_the_end: bool) -> Place {
    match neighbour {
        Neighbour::Runs | Neighbour::Appeared => Place::Second,
        // Nothing shows when that program ends. So its rules come first only if Tandem ends before it.
        Neighbour::Reappears if at_the_end => Place::Second,
        Neighbour::None | Neighbour::AddressTaken | Neighbour::AddressUnusable | Neighbour::Reappears => Place::First,
    }
}

/// The machine.
#[derive(Debug)]
pub(super) struct Machine {
    state: State,
    /// Whether the settings let kube-proxy's tables be removed.
    removes: bool,
    /// The rules that were there when Tandem got the address.
    known: Signs,
    /// When rules last appeared and nobody took the address.
    unclaimed: Option<Instant>,
    /// When each family's table was last to be removed.
    removing: [Option<Instant>; 2],
}

impl Machine {
    pub(super) fn new(removes: bool) -> Self {
        Self {
            state: State::Undecided,
            removes,
            known: Signs::default(),
            unclaimed: None,
            removing: [None; 2],
        }
    }

    /// Says what to do now.
    pub(super) fn step(&mut self, seen: &Seen, now: Instant) -> Todo {
        let news = seen.signs.appeared_since(&self.known);
        let offer = State::Offering {
            until: now + OFFERED_FOR,
        };
        let before = self.state;
        self.state = match (before, seen.address) {
            (State::Offering { until }, Address::Left) if now < until => before,
            // The first look after an offer may be too early.
            (State::Offering { .. } | State::Asking, Address::Left) => State::Asking,
            (_, Address::Taken) if seen.signs.might_be_kept() => State::Beside,
            (_, Address::Taken) => State::Stranger,
            (_, Address::Left) => State::Undecided,
            (State::Reappears { since }, _) if news && now.saturating_duration_since(since) < AGAIN => before,
            (State::Waiting | State::Alone | State::Reappears { .. }, Address::Held) if news => offer,
            (State::Alone, Address::Off) if news => State::Reappears { since: now },
            (State::Asking, _) if self.is_unclaimed_again(now) => State::Reappears { since: now },
            (State::Alone, _) => State::Alone,
            _ if seen.complete => State::Alone,
            _ => State::Waiting,
        };
        match self.state {
            State::Alone | State::Waiting if self.state != before => {
                self.known = seen.signs;
                self.removing = [None; 2];
            }
            // What goes and comes back is news.
            State::Alone | State::Waiting => self.known.keep_only(&seen.signs),
            State::Beside => self.unclaimed = None,
            _ => {}
        }
        let remove = self.what_goes(seen, now);
        self.todo(remove, now)
    }

    /// Takes the signs that are there after kube-proxy's tables were to be removed. What has appeared meanwhile is not
    /// known, and is news.
    pub(super) fn removed(&mut self, after: &Signs) {
        self.known.keep_only(after);
    }

    /// The families whose table of kube-proxy is to be removed. Before a family is programmed, its table serves.
    fn what_goes(&mut self, seen: &Seen, now: Instant) -> [bool; 2] {
        if self.state != State::Alone || !self.removes {
            return [false; 2];
        }
        let tables = seen.signs.tables();
        [0, 1].map(|family| {
            let last = &mut self.removing[family];
            let is_due = last.is_none_or(|then| now.saturating_duration_since(then) >= REMOVE_EVERY);
            let goes = is_due && seen.programmed[family] && tables[family];
            if goes {
                *last = Some(now);
            }
            goes
        })
    }

    /// Notes that nobody has taken the address. Gives whether that was so a short time ago, too.
    fn is_unclaimed_again(&mut self, now: Instant) -> bool {
        let before = self.unclaimed.replace(now);
        before.is_some_and(|before| now.saturating_duration_since(before) < AGAIN)
    }

    fn todo(&self, remove: [bool; 2], now: Instant) -> Todo {
        let (neighbour, after) = match self.state {
            State::Offering { until } => (Some(Neighbour::Appeared), until.saturating_duration_since(now)),
            State::Asking => (Some(Neighbour::Appeared), ASKING_EVERY),
            State::Beside => (Some(Neighbour::Runs), TAKEN_EVERY),
            State::Stranger => (Some(Neighbour::AddressTaken), TAKEN_EVERY),
            State::Reappears { .. } => (Some(Neighbour::Reappears), HELD_EVERY),
            State::Undecided | State::Waiting => (None, TAKEN_EVERY),
            State::Alone => (Some(Neighbour::None), HELD_EVERY),
        };
        Todo {
            listen: !matches!(self.state, State::Offering { .. }),
            remove,
            neighbour,
            after,
        }
    }
}

#[cfg(test)]
mod tests;
