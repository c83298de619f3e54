//! A thread that sends packets of both directions, and looks at what becomes of each.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use tandem_xdp_layout::FIRST_PORT;

use super::flows::{Flow, Flows, ends, is_shared};
use super::judge::{Event, What};
use crate::kernel::{Answer, Packets};
use crate::packets::shape::Shape;
use crate::packets::{PASS, REDIRECT};

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// What a thread did.
pub(super) struct Sent {
    pub(super) events: Vec<Event>,
    pub(super) packets: u64,
    pub(super) translated: u64,
    pub(super) wrong: Vec<String>,
}

/// Which packet.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Which {
    Asks,
    Asked(u8, u16),
    Answers(u8, u16),
    Answered,
}

/// A thread.
pub(super) struct Sender<'a> {
    packets: &'a Packets,
    flows: &'a Flows,
    /// The number of what happens next.
    stamps: &'a AtomicU64,
    random: fastrand::Rng,
    bytes: HashMap<(u32, u8, Which), Vec<u8>>,
    sent: Sent,
}

impl<'a> Sender<'a> {
    pub(super) fn new(packets: &'a Packets, flows: &'a Flows, stamps: &'a AtomicU64, seed: u64) -> Self {
        Self {
            packets,
            flows,
            stamps,
            random: fastrand::Rng::with_seed(seed),
            bytes: HashMap::new(),
            sent: Sent {
                events: Vec::new(),
                packets: 0,
                translated: 0,
                wrong: Vec::new(),
            },
        }
    }

    /// Sends so many packets as one of some threads.
    pub(super) fn run(mut self, picked: &[u32], (number, of): (usize, usize), count: usize) -> Result<Sent, String> {
        let is_own = |at: usize, flow: u32| is_shared(flow) || at % of == number;
        let all = picked.iter().copied().enumerate();
        let own: Vec<u32> = all
            .filter(|(at, flow)| is_own(*at, *flow))
            .map(|(_, flow)| flow)
            .collect();
        for _ in 0..count {
            let flow = picked[self.random.usize(..picked.len())];
            let known = self.flows.pod(flow).zip(self.flows.slot(flow));
            match known.filter(|_| own.is_empty() || self.random.bool()) {
                Some((pod, slot)) => self.reply(flow, pod, slot),
                None if own.is_empty() => Ok(()),
                None => {
                    let flow = own[self.random.usize(..own.len())];
                    self.ask(flow)
                }
            }
            .map_err(|error| error.to_string())?;
        }
        Ok(self.sent)
    }

    /// A packet of a client.
    fn ask(&mut self, number: u32) -> std::io::Result<()> {
        let flow = *self.flows.get(number);
        let flags = self.flags(&[(SYN, 30), (ACK, 60), (FIN | ACK, 5), (RST, 5)], flow.tcp);
        self.ask_with(number, flags)?;
        // Only a connection that stands gives its record away.
        if flow.tcp
            && flags == SYN
            && let Some((pod, slot)) = self.flows.pod(number).zip(self.flows.slot(number))
        {
            self.reply_with(number, pod, slot, SYN | ACK)?;
            self.ask_with(number, ACK)?;
        }
        Ok(())
    }

    fn ask_with(&mut self, number: u32, flags: u8) -> std::io::Result<()> {
        let flow = *self.flows.get(number);
        let packet = self.packet(number, flags, Which::Asks);
        let (answer, start, end) = self.call(&packet)?;
        let may_begin = !flow.tcp || flags == SYN;
        let mut event = Event {
            what: What::Left { may_begin },
            flow: number,
            slot: 0,
            pod: 0,
            start,
            end,
        };
        let wrong = match answer.action {
            PASS => (!is_as_it_was(&answer.packet, &packet)).then_some("was changed and passed"),
            REDIRECT => self.sent_on(number, flags, &answer, &mut event).err(),
            _ => Some("was dropped"),
        };
        self.note(event, wrong, &packet, &answer);
        Ok(())
    }

    /// A packet of a client that was sent on.
    fn sent_on(&mut self, number: u32, flags: u8, answer: &Answer, event: &mut Event) -> Result<(), &'static str> {
        let flow = *self.flows.get(number);
        let (from, to) = ends(&answer.packet).ok_or("has no addresses")?;
        let pod = flow.number_of(to).ok_or("went to no endpoint of its Service")?;
        if !self.flows.learn(number, pod) {
            return Err("went to another endpoint than those before");
        }
        let slot = from.port().checked_sub(FIRST_PORT).ok_or("has a port of no record")?;
        self.flows.set_slot(number, slot);
        let may_begin = !flow.tcp || flags == SYN;
        (event.what, event.slot, event.pod) = (What::Sent { may_begin }, slot, pod);
        if answer.packet != self.packet(number, flags, Which::Asked(pod, from.port())) {
            return Err("is not as it must be behind the node");
        }
        Ok(())
    }

    /// A packet of an endpoint to the port that a flow had a moment ago.
    fn reply(&mut self, number: u32, pod: u8, slot: u16) -> std::io::Result<()> {
        let shares = [(SYN | ACK, 30), (ACK, 60), (FIN | ACK, 5), (RST, 5)];
        let flags = self.flags(&shares, self.flows.get(number).tcp);
        self.reply_with(number, pod, slot, flags)
    }

    fn reply_with(&mut self, number: u32, pod: u8, slot: u16, flags: u8) -> std::io::Result<()> {
        let flow = *self.flows.get(number);
        let packet = self.packet(number, flags, Which::Answers(pod, FIRST_PORT + slot));
        let (answer, start, end) = self.call(&packet)?;
        let mut event = Event {
            what: What::Unanswered,
            flow: number,
            slot,
            pod,
            start,
            end,
        };
        let wrong = match answer.action {
            PASS => (answer.packet != packet).then_some("was changed and passed"),
            REDIRECT => self.answered(&flow, flags, &answer, &mut event).err(),
            _ => Some("was dropped"),
        };
        self.note(event, wrong, &packet, &answer);
        Ok(())
    }

    /// A packet of an endpoint that was sent on. The flow of the event becomes the one that it was sent to.
    fn answered(&mut self, to: &Flow, flags: u8, answer: &Answer, event: &mut Event) -> Result<(), &'static str> {
        let (frontend, client) = ends(&answer.packet).ok_or("has no addresses")?;
        let owner = self.flows.of(client, frontend, to.tcp).ok_or("went to nobody")?;
        (event.what, event.flow) = (What::Answered, owner);
        if self.flows.get(owner).out != to.out {
            return Err("went to a client of another endpoint");
        }
        if answer.packet != self.packet(owner, flags, Which::Answered) {
            return Err("is not as it must be behind the node");
        }
        Ok(())
    }

    fn note(&mut self, event: Event, wrong: Option<&str>, before: &[u8], answer: &Answer) {
        self.sent.events.push(event);
        self.sent.packets += 1;
        self.sent.translated += u64::from(answer.action == REDIRECT);
        if let Some(wrong) = wrong {
            let [before, after] = [before, &answer.packet].map(super::super::hex);
            let line = format!("a packet {wrong}: {event:?}\n    {before}\n    {after}");
            self.sent.wrong.push(line);
        }
    }

    /// Gives a packet to one of both programs.
    fn call(&mut self, packet: &[u8]) -> std::io::Result<(Answer, u64, u64)> {
        let parts = self.random.bool();
        let start = self.stamps.fetch_add(1, Ordering::SeqCst);
        let answer = self.packets.try_packet(parts, packet)?;
        Ok((answer, start, self.stamps.fetch_add(1, Ordering::SeqCst)))
    }

    /// One of some flags, each as often as its share of a hundred says.
    fn flags(&mut self, shares: &[(u8, u8)], tcp: bool) -> u8 {
        let mut left = self.random.u8(..100);
        for (flags, share) in shares {
            if !tcp || left < *share {
                return *flags;
            }
            left -= share;
        }
        ACK
    }

    fn packet(&mut self, number: u32, flags: u8, which: Which) -> Vec<u8> {
        let flow = *self.flows.get(number);
        let make = || {
            let shape: Shape = match which {
                Which::Asks => flow.asks(flags),
                Which::Asked(pod, port) => flow.asked(flags, pod, port),
                Which::Answers(pod, port) => flow.answers(flags, pod, port),
                Which::Answered => flow.answered(flags),
            };
            shape.bytes()
        };
        self.bytes.entry((number, flags, which)).or_insert_with(make).clone()
    }
}

/// Whether a passed packet is as it was, but for the choice that it may carry in its source MAC address.
fn is_as_it_was(after: &[u8], before: &[u8]) -> bool {
    let source = 6..12;
    let marked = after.get(6..10) == Some(&[0x02, 0x74, 0x61, 0x6e]);
    after.len() == before.len()
        && after[..source.start] == before[..source.start]
        && after[source.end..] == before[source.end..]
        && (marked || after[source.clone()] == before[source])
}
