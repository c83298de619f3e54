//! A model of the kernel in memory: it builds a table from the messages of transactions, and walks every way that a
//! packet can take through it while the table changes. It reads the very bytes that are sent. It knows what an
//! expression does, not what a rule is for.

mod image;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::wire::{attr, attribute};

pub(crate) use image::Image;
use image::{Bytes, Element, Rule, data, number, text, verdict};

/// The first packet of a new connection, as far as rules look at it.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) saddr: Bytes,
    pub(crate) daddr: Bytes,
    pub(crate) protocol: u8,
    pub(crate) port: u16,
    /// Whether the source is an address of this node, and whether the destination is.
    pub(crate) local: [bool; 2],
    /// Its source MAC.
    pub(crate) source_mac: [u8; 6],
}

/// How a packet ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum End {
    /// The packet passed. Says whether a frontend was found for it.
    Accept {
        matched: bool,
    },
    Drop,
    Reject,
    Translated(Bytes),
}

/// A packet between two expressions: its registers, what it carries, and what was decided so far.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    registers: [u8; 64],
    priority: u32,
    mark: u32,
    /// The affinity that the packet itself wrote.
    remembered: BTreeMap<Bytes, Bytes>,
    /// Whether it has seen the new generation. After that it cannot see the old one.
    newer: bool,
    /// Whether a frontend was found for it.
    matched: bool,
}

/// A chain, and the number of a rule in it.
type Place = (Bytes, usize);

/// Every way that a packet can take through a table while it changes from `old` to `new`.
pub(crate) struct Walk<'a> {
    pub(crate) old: &'a Image,
    pub(crate) new: &'a Image,
    /// The affinity that was remembered before.
    pub(crate) affinity: BTreeMap<Bytes, Bytes>,
    /// Whether clients can be remembered. They cannot if the map is full.
    pub(crate) room: bool,
    pub(crate) packet: Packet,
    /// Whether lookups see the generations in the order of time, as those of a real packet do. Otherwise each lookup
    /// sees either.
    pub(crate) in_order: bool,
}

enum Step {
    Next,
    Break,
    Jump(Bytes),
    Goto(Bytes),
    Return,
    End(End),
}

impl Step {
    fn of((code, chain): (i32, Bytes)) -> Self {
        match code {
            1 => Self::End(End::Accept { matched: false }),
            0 => Self::End(End::Drop),
            -3 => Self::Jump(chain),
            -4 => Self::Goto(chain),
            -5 => Self::Return,
            code => panic!("verdict {code}"),
        }
    }
}

impl<'a> Walk<'a> {
    pub(crate) fn new(old: &'a Image, new: &'a Image, packet: Packet) -> Self {
        Self {
            old,
            new,
            affinity: BTreeMap::new(),
            room: true,
            packet,
            in_order: false,
        }
    }

    /// All ends of the packet, over all hooks that a forwarded packet meets and all generations that its lookups can
    /// see.
    pub(crate) fn ends(&self) -> BTreeSet<End> {
        let start = State {
            registers: [0; 64],
            priority: 0,
            mark: 0,
            remembered: BTreeMap::new(),
            newer: false,
            matched: false,
        };
        let mut states = BTreeSet::from([start]);
        let mut ends = BTreeSet::new();
        let local = self.packet.local[1];
        let last = if local { "input-filter" } else { "forward-filter" };
        for chain in ["prerouting-ranges", "prerouting", last] {
            let mut passed = BTreeSet::new();
            for state in states {
                // A packet walks a chain in the generation that the chain had when the packet came to it.
                for (rules, newer) in self.generations(state.newer) {
                    let state = State { newer, ..state.clone() };
                    self.chain(rules, chain, state, &mut passed, &mut ends);
                }
            }
            states = passed;
        }
        ends.extend(states.iter().map(|state| End::Accept { matched: state.matched }));
        ends
    }

    /// The generations that the packet can still see, and whether each is the new one.
    fn generations(&self, newer: bool) -> Vec<(&'a Image, bool)> {
        match (self.in_order, newer) {
            (true, true) => vec![(self.new, true)],
            (in_order, _) => vec![(self.old, false), (self.new, in_order)],
        }
    }

    fn chain(&self, rules: &Image, chain: &str, state: State, passed: &mut BTreeSet<State>, ends: &mut BTreeSet<End>) {
        let mut waiting: Vec<(State, Vec<Place>)> = vec![(state, vec![(chain.into(), 0)])];
        let mut seen = BTreeSet::new();
        while let Some((state, mut stack)) = waiting.pop() {
            if !seen.insert((state.clone(), stack.clone())) {
                continue;
            }
            let Some((chain, at)) = stack.pop() else {
                passed.insert(state);
                continue;
            };
            let Some(rule) = rules.chains.get(&chain).and_then(|rules| rules.get(at)) else {
                // The end of the chain. A chain that has no rules yet in this generation ends here too.
                waiting.push((state, stack));
                continue;
            };
            for (state, step) in self.rule(rule, state) {
                let mut stack = stack.clone();
                match step {
                    Step::Next | Step::Break => stack.push((chain.clone(), at + 1)),
                    Step::Jump(to) => stack.extend([(chain.clone(), at + 1), (to, 0)]),
                    Step::Goto(to) => stack.push((to, 0)),
                    Step::Return => {}
                    Step::End(End::Accept { .. }) => {
                        passed.insert(state);
                        continue;
                    }
                    Step::End(end) => {
                        ends.insert(end);
                        continue;
                    }
                }
                waiting.push((state, stack));
            }
        }
    }

    /// All outcomes of one rule.
    fn rule(&self, rule: &Rule, state: State) -> Vec<(State, Step)> {
        let mut running = vec![state];
        let mut done = Vec::new();
        for (name, data) in &rule.0 {
            let mut next = Vec::new();
            for state in running {
                for (state, step) in self.expression(name, data, state) {
                    match step {
                        Step::Next => next.push(state),
                        step => done.push((state, step)),
                    }
                }
            }
            running = next;
        }
        done.extend(running.into_iter().map(|state| (state, Step::Next)));
        done
    }

    #[expect(clippy::too_many_lines, reason = "a line or two for each kind of expression")]
    fn expression(&self, name: &[u8], data: &[u8], mut state: State) -> Vec<(State, Step)> {
        let register = |kind| number(data, kind).map(|register| (register as usize - 8) * 4);
        let load = |state: &mut State, at: usize, bytes: &[u8]| {
            state.registers[at..at + bytes.len().next_multiple_of(4)].fill(0);
            state.registers[at..at + bytes.len()].copy_from_slice(bytes);
        };
        let word = |state: &State, at: usize| u32::from_ne_bytes(state.registers[at..at + 4].try_into().unwrap());
        let step = match name {
            b"meta" => {
                let key = number(data, 2).unwrap();
                if let Some(at) = register(1) {
                    let bytes = match key {
                        2 => state.priority.to_ne_bytes().to_vec(),
                        3 => state.mark.to_ne_bytes().to_vec(),
                        8 => 1_u16.to_ne_bytes().to_vec(), // a device with Ethernet headers
                        16 => vec![self.packet.protocol],
                        _ => panic!("meta {key}"),
                    };
                    load(&mut state, at, &bytes);
                } else {
                    let value = word(&state, register(3).unwrap());
                    match key {
                        2 => state.priority = value,
                        3 => state.mark = value,
                        _ => panic!("meta set {key}"),
                    }
                }
                Step::Next
            }
            b"payload" => {
                let (base, offset) = (number(data, 2).unwrap(), number(data, 3).unwrap());
                let v4 = self.packet.saddr.len() == 4;
                let bytes = match (base, offset) {
                    (0, 6..12) => {
                        self.packet.source_mac[offset as usize - 6..][..number(data, 4).unwrap() as usize].to_vec()
                    }
                    (2, _) => self.packet.port.to_be_bytes().to_vec(),
                    (_, 12) if v4 => self.packet.saddr.clone(),
                    (_, 8) if !v4 => self.packet.saddr.clone(),
                    _ => self.packet.daddr.clone(),
                };
                load(&mut state, register(1).unwrap(), &bytes);
                Step::Next
            }
            b"ct" => {
                let bytes = match number(data, 2).unwrap() {
                    0 => 8_u32.to_ne_bytes().to_vec(),
                    1 => vec![0],
                    // A packet that was translated has ended before this is asked.
                    2 => vec![0; 4],
                    23 => 4711_u32.to_ne_bytes().to_vec(),
                    key => panic!("ct {key}"),
                };
                load(&mut state, register(1).unwrap(), &bytes);
                Step::Next
            }
            b"fib" => {
                const SADDR: u32 = 1;
                let local = self.packet.local[usize::from(number(data, 3).unwrap() & SADDR == 0)];
                let kind = if local { 2_u32 } else { 1 };
                load(&mut state, register(1).unwrap(), &kind.to_ne_bytes());
                Step::Next
            }
            b"hash" => {
                load(&mut state, register(attr::hash::DREG).unwrap(), &99_u32.to_ne_bytes());
                Step::Next
            }
            b"bitwise" => {
                let (from, to) = (register(1).unwrap(), register(2).unwrap());
                let masks = self::data(data, 4).into_iter().zip(self::data(data, 5));
                let bytes = state.registers[from..].iter().zip(masks);
                let bytes: Bytes = bytes.map(|(byte, (and, xor))| byte & and ^ xor).collect();
                load(&mut state, to, &bytes);
                Step::Next
            }
            b"cmp" => {
                const EQ: u32 = 0;
                let wanted = self::data(data, 3);
                let at = register(1).unwrap();
                let equal = state.registers[at..at + wanted.len()] == wanted[..];
                if equal == (number(data, 2).unwrap() == EQ) {
                    Step::Next
                } else {
                    Step::Break
                }
            }
            b"numgen" => {
                let modulus = number(data, 2).unwrap();
                let at = register(1).unwrap();
                return (0..modulus)
                    .map(|drawn| {
                        let mut state = state.clone();
                        load(&mut state, at, &drawn.to_ne_bytes());
                        (state, Step::Next)
                    })
                    .collect();
            }
            // Others may have used up what it lets pass.
            b"limit" => return vec![(state.clone(), Step::Next), (state, Step::Break)],
            b"immediate" => verdict(attribute(data, attr::immediate::DATA).unwrap()).map_or_else(
                || {
                    load(
                        &mut state,
                        register(1).unwrap(),
                        &self::data(data, attr::immediate::DATA),
                    );
                    Step::Next
                },
                Step::of,
            ),
            b"lookup" => return self.lookup(data, state),
            b"dynset" => {
                self.dynset(data, &mut state);
                Step::Next
            }
            b"nat" => {
                let (address, port) = (register(3).unwrap(), register(5).unwrap());
                let len = self.packet.daddr.len();
                let mut to = state.registers[address..address + len].to_vec();
                to.extend_from_slice(&state.registers[port..port + 2]);
                Step::End(End::Translated(to))
            }
            b"reject" => Step::End(End::Reject),
            b"objref" | b"counter" => Step::Next,
            other => panic!("{}", String::from_utf8_lossy(other)),
        };
        vec![(state, step)]
    }

    fn lookup(&self, data: &[u8], state: State) -> Vec<(State, Step)> {
        let set = text(data, attr::lookup::SET);
        let at = (number(data, attr::lookup::SREG).unwrap() as usize - 8) * 4;
        let inverted = number(data, attr::lookup::FLAGS).is_some_and(|flags| flags & 1 != 0);
        let to = number(data, attr::lookup::DREG);
        let key_len = self.key_len(&set);
        let key = state.registers[at..at + key_len].to_vec();
        if set == b"affinity" || set == b"priorities" {
            let value = state.remembered.get(&key).or_else(|| self.affinity.get(&key)).cloned();
            return vec![take(
                state,
                to,
                value.map(|value| Element {
                    value,
                    ..Element::default()
                }),
                false,
            )];
        }
        let mut found: Vec<(Option<Element>, bool)> = Vec::new();
        for (image, newer) in self.generations(state.newer) {
            let element = image.find(&set, &key).cloned();
            let same = |(other, _): &(Option<Element>, bool)| match (other, &element) {
                (None, None) => true,
                (Some(a), Some(b)) => (&a.value, &a.verdict) == (&b.value, &b.verdict),
                _ => false,
            };
            // If the old generation holds the same element, the packet has seen nothing of the new one yet.
            if !found.iter().any(same) {
                found.push((element, newer));
            }
        }
        let frontends: [&[u8]; 3] = [b"cluster-frontends", b"external-frontends", b"node-ports"];
        let is_frontend = frontends.contains(&&set[..]);
        let seen = found.into_iter().map(|(element, newer)| {
            let matched = state.matched || is_frontend && element.is_some();
            let (mut state, step) = take(state.clone(), to, element, inverted);
            (state.newer, state.matched) = (newer, matched);
            (state, step)
        });
        seen.collect()
    }

    fn dynset(&self, data: &[u8], state: &mut State) {
        const DELETE: u32 = 2;
        let at = |kind| number(data, kind).map(|register| (register as usize - 8) * 4);
        let key_len = self.key_len(&text(data, attr::dynset::SET));
        let key = state.registers[at(attr::dynset::SREG_KEY).unwrap()..][..key_len].to_vec();
        if number(data, attr::dynset::OP) == Some(DELETE) {
            state.remembered.remove(&key);
        } else if self.room && !state.remembered.contains_key(&key) && !self.affinity.contains_key(&key) {
            let value = state.registers[at(attr::dynset::SREG_DATA).unwrap()..][..4].to_vec();
            state.remembered.insert(key, value);
        }
    }

    fn key_len(&self, set: &[u8]) -> usize {
        let address = self.packet.daddr.len();
        let lengths: HashMap<&[u8], usize> = HashMap::from([
            (&b"cluster-frontends"[..], address + 8),
            (b"external-frontends", address + 8),
            (b"restricted-frontends", address + 8),
            (b"allowed-sources", 2 * address + 8),
            (b"node-ports", 8),
            (b"endpoints", 8),
            (b"sticky-endpoints", 8),
            (b"affinity", 8),
            (b"cluster-ips", address),
            (b"service-cidrs", address),
            (b"local-pods", address),
            (b"node-addresses", address),
        ]);
        match lengths.get(set) {
            Some(length) => *length,
            None if set.starts_with(b"__set") => 1,
            None => 4,
        }
    }
}

/// What a lookup does with what it found.
fn take(mut state: State, to: Option<u32>, element: Option<Element>, inverted: bool) -> (State, Step) {
    let step = match (element, to) {
        (None, _) if inverted => Step::Next,
        (None, _) => Step::Break,
        (Some(_), _) if inverted => Step::Break,
        (Some(element), Some(0)) => element.verdict.map_or(Step::Break, Step::of),
        (Some(element), Some(to)) => {
            let at = (to as usize - 8) * 4;
            state.registers[at..at + element.value.len()].copy_from_slice(&element.value);
            Step::Next
        }
        (Some(_), None) => Step::Next,
    };
    (state, step)
}
