//! What may come out of the programs while several processors run them.
//!
//! Nobody sees the moment at which a flow takes a record. But a packet of a client that is sent on says that the flow had the record at
//! some time between the call's beginning and its end, and only such a call can give a record to a flow. From that follows:
//!
//! 1. An answer goes to a flow that may have the record during the call: a packet of its client began before the call ended, and
//!    nobody else had the record for certain after that packet and before the answer.
//! 2. An answer is not passed if a flow of its endpoint had the record for certain, from before the call until after it.
//! 3. A packet of a client whose flow has a record for certain comes out by that record, if it does not begin another flow.
//! 4. Whoever has a record after the round may have it, as if an answer went to it. The index leads to it, if nothing of its client
//!    may have begun another flow since.

use std::collections::HashMap;

use super::flows::{Flows, is_shared};

/// A call of a program.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) what: What,
    /// The flow whose client sent, or was sent to; of an answer that was passed, the one that had the record before.
    pub(super) flow: u32,
    /// The record, by its place in its page.
    pub(super) slot: u16,
    /// The endpoint.
    pub(super) pod: u8,
    pub(super) start: u64,
    pub(super) end: u64,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A packet of a client was sent to an endpoint.
    Sent {
        /// Whether it is one that may begin another flow.
        may_begin: bool,
    },
    /// A packet of a client was passed.
    Left {
        /// Whether it is one that may have taken a record, and lost it.
        may_begin: bool,
    },
    /// A packet of an endpoint was sent to a client.
    Answered,
    /// A packet of an endpoint was passed.
    Unanswered,
}

impl What {
    fn is_sent(self) -> bool {
        matches!(self, Self::Sent { .. })
    }
}

/// A record while nothing is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) flow: u32,
    pub(super) slot: u16,
    pub(super) pod: u8,
    /// Whether the index leads to it.
    pub(super) is_led_to: bool,
}

/// All that happened in a round.
pub(super) struct Round {
    pub(super) before: Vec<Known>,
    pub(super) events: Vec<Event>,
    pub(super) after: Vec<Known>,
    /// A number after those of all events. Theirs begin at 1.
    pub(super) end: u64,
    /// Whether a flow of datagrams that had one in this round goes on.
    pub(super) datagrams_go_on: bool,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) wrong: Vec<String>,
    /// How often only one outcome was right.
    pub(super) certain: u64,
}

/// A record, and whether it is of IPv6.
type Place = (bool, u16);

/// The calls that tell something about one record, by their beginnings.
#[derive(Default)]
struct Slot {
    /// Who had the record for certain.
    had: Vec<Event>,
    /// Of these, packets of clients: only they may have taken it.
    sent: Vec<Event>,
}

/// All calls, in order.
struct Judge<'a> {
    flows: &'a Flows,
    slots: HashMap<Place, Slot>,
    /// Packets of clients that may have taken any record, and lost it at once.
    wild: Vec<Event>,
    /// The packets of each client.
    of_client: HashMap<u32, Vec<Event>>,
    /// Flows to whose record the index did not lead before the round.
    lost: Vec<(u32, u16)>,
    datagrams_go_on: bool,
}

/// Judges a round.
pub(super) fn judge(flows: &Flows, round: Round) -> Found {
    let mut events = round.events;
    let known = |known: &Known, what, at| Event {
        what,
        flow: known.flow,
        slot: known.slot,
        pod: known.pod,
        start: at,
        end: at,
    };
    events.extend(
        round
            .before
            .iter()
            .map(|one| known(one, What::Sent { may_begin: true }, 0)),
    );
    events.extend(round.after.iter().map(|one| known(one, What::Answered, round.end)));
    events.sort_unstable_by_key(|event| event.start);
    let mut judge = Judge {
        flows,
        slots: HashMap::new(),
        wild: Vec::new(),
        of_client: HashMap::new(),
        lost: round
            .before
            .iter()
            .filter(|one| !one.is_led_to)
            .map(|one| (one.flow, one.slot))
            .collect(),
        datagrams_go_on: round.datagrams_go_on,
    };
    for event in &events {
        judge.learn(event);
    }
    let mut found = Found::default();
    for event in &events {
        if let Err(wrong) = judge.event(event, &mut found.certain) {
            found.wrong.push(format!("{wrong}: {event:?}"));
        }
    }
    for one in &round.after {
        if !one.is_led_to && judge.must_be_led_to(*one) {
            found.wrong.push(format!("the index does not lead to {one:?}"));
        }
    }
    found
}

impl Judge<'_> {
    fn place(&self, event: &Event) -> Place {
        (self.flows.get(event.flow).six, event.slot)
    }

    fn learn(&mut self, event: &Event) {
        let place = self.place(event);
        match event.what {
            What::Sent { .. } => {
                let slot = self.slots.entry(place).or_default();
                slot.had.push(*event);
                slot.sent.push(*event);
                self.of_client.entry(event.flow).or_default().push(*event);
            }
            What::Answered => self.slots.entry(place).or_default().had.push(*event),
            What::Left { may_begin } => {
                if may_begin {
                    self.wild.push(*event);
                }
                self.of_client.entry(event.flow).or_default().push(*event);
            }
            What::Unanswered => {}
        }
    }

    fn event(&self, event: &Event, certain: &mut u64) -> Result<(), &'static str> {
        match event.what {
            What::Answered => {
                if self.flows.pod(event.flow) != Some(event.pod) {
                    return Err("the answer is of another endpoint");
                }
                if !self.may_have(event) {
                    return Err("the answer went to a client that had lost the record");
                }
                *certain += u64::from(self.has_for_certain(event, event.slot).is_some());
            }
            What::Unanswered => {
                if self.has_for_certain(event, event.slot).is_some() {
                    return Err("the answer was passed, and the flow had the record");
                }
            }
            What::Sent { may_begin } | What::Left { may_begin } => {
                let before = self
                    .before(event)
                    .filter(|before| self.goes_on(event, before, may_begin));
                let Some(before) = before else { return Ok(()) };
                if self.has_for_certain(event, before.slot).is_none() {
                    return Ok(());
                }
                *certain += 1;
                if !event.what.is_sent() || event.slot != before.slot {
                    return Err("the flow had a record, and the packet did not come out by it");
                }
            }
        }
        Ok(())
    }

    /// The last packet of the same client before.
    fn before(&self, event: &Event) -> Option<&Event> {
        let all = self.of_client.get(&event.flow)?;
        let at = all.partition_point(|one| one.start < event.start);
        all[..at]
            .last()
            .filter(|before| before.what.is_sent() && before.end < event.start)
    }

    /// Whether a packet of a client belongs to the flow of the packet before it.
    fn goes_on(&self, event: &Event, before: &Event, may_begin: bool) -> bool {
        let same = if self.flows.get(event.flow).tcp {
            !may_begin
        } else {
            self.datagrams_go_on && before.start > 0
        };
        let was_lost = before.start == 0 && self.lost.contains(&(event.flow, before.slot));
        same && !was_lost && !is_shared(event.flow)
    }

    /// Rule 1.
    fn may_have(&self, event: &Event) -> bool {
        let Some(slot) = self.slots.get(&self.place(event)) else {
            return false;
        };
        let own = |list: &[Event]| -> Vec<Event> {
            let at = list.partition_point(|one| one.start <= event.end);
            let own = list[..at].iter().rev().filter(|one| one.flow == event.flow);
            own.take(OVERLAPPING).copied().collect()
        };
        // The packets that may have given it to the flow: the last ones.
        let mut may_begin = own(&slot.sent);
        let passed = self.of_client.get(&event.flow).map_or(&[][..], Vec::as_slice);
        let at = passed.partition_point(|one| one.start <= event.end);
        let passed = passed[..at]
            .iter()
            .rev()
            .filter(|one| one.what == What::Left { may_begin: true });
        may_begin.extend(passed.take(OVERLAPPING));
        let Some(last) = may_begin.iter().map(|one| one.end).max() else {
            return false;
        };
        // Somebody else had it, for all of a call after that and before the answer.
        let at = slot.had.partition_point(|one| one.start < event.start);
        let after = slot.had[..at].iter().rev().take_while(|one| one.start > last);
        !after
            .into_iter()
            .any(|one| one.flow != event.flow && one.end < event.start)
    }

    /// Whether the flow of an event has a record from before the call until after it, whatever happened at the same time: the packet
    /// that says so.
    fn has_for_certain(&self, event: &Event, slot: u16) -> Option<&Event> {
        let sent = &self.slots.get(&(self.flows.get(event.flow).six, slot))?.sent;
        let may_overlap = |list: &[Event], from: u64| {
            let at = list.partition_point(|one| one.start < event.end);
            // The last ones are enough: calls are short.
            let last = list[..at].iter().rev().take(OVERLAPPING);
            last.filter(|one| one.start != event.start).any(|one| one.end > from)
        };
        let at = sent.partition_point(|one| one.start < event.start);
        let last = sent[..at]
            .last()
            .filter(|one| one.flow == event.flow && one.end < event.start)?;
        let others = sent
            .iter()
            .skip(at.saturating_sub(OVERLAPPING))
            .take_while(|one| one.start < event.end);
        let other = others
            .filter(|one| one.start != last.start && one.start != event.start)
            .any(|one| one.end > last.start);
        (!other && !may_overlap(&self.wild, last.start)).then_some(last)
    }

    /// Rule 4.
    fn must_be_led_to(&self, one: Known) -> bool {
        let of_client = self.of_client.get(&one.flow).map_or(&[][..], Vec::as_slice);
        let by_it = |event: &&Event| event.what.is_sent() && event.slot == one.slot;
        let Some(last) = of_client.iter().rev().find(by_it) else {
            return false;
        };
        let was_lost = last.start == 0 && self.lost.contains(&(one.flow, one.slot));
        let began = of_client.iter().any(|event| {
            let other = event.what.is_sent() && event.slot != one.slot;
            (other || event.what == What::Left { may_begin: true }) && event.end > last.start
        });
        !was_lost && !began
    }
}

/// More calls than can run at the same moment.
const OVERLAPPING: usize = 16;
