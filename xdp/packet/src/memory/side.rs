//! What there is of one family.

use core::cell::{Cell, RefCell};
use core::hash::Hash;
use std::collections::HashMap;
use std::vec::Vec;

use tandem_xdp_layout::{
    Address, BUCKET, Class, Endpoint, FlowAddress, FlowKey, FragmentKey, FrontendKey, FrontendWord, Generation, Header,
    ListIndex, Mac, Record, RecordNumber, SLOTS, ServiceWord, SourceKey, VisitorKey, Way as Answer, Writer,
};

use crate::world::{Route, Way};

/// Words in a map.
#[derive(Clone, Copy)]
pub(super) struct Words<'a> {
    words: &'a [Cell<u64>],
    /// How often something was published: a flow.
    begun: &'a Cell<u32>,
}

impl Record for Words<'_> {
    fn get(self, at: u32) -> u64 {
        self.words[at as usize].get()
    }

    fn set(self, at: u32, word: u64) {
        self.words[at as usize].set(word);
    }

    fn publish(self, at: u32, word: u64) {
        self.begun.set(self.begun.get() + 1);
        self.set(at, word);
    }

    fn change(self, at: u32, from: u64, to: u64) -> bool {
        let same = self.get(at) == from;
        if same {
            self.set(at, to);
        }
        same
    }

    fn fence(self) {}
}

/// The ports of the frontends: one with two endpoints, one with affinity, one that only some may reach, one without an endpoint, and one
/// whose way out leads nowhere.
pub(super) const PORTS: [u16; 5] = [80, 81, 82, 83, 84];
/// A nodePort.
pub(super) const NODE_PORT: u16 = 30_001;

/// Whether some frontend has this port.
pub(super) fn has_port(port: u16) -> bool {
    PORTS.contains(&port) || port == NODE_PORT
}

/// What there is of one family.
pub(super) struct Side<A: Address> {
    pub(super) frontends: HashMap<FrontendKey<A>, u64>,
    pub(super) services: HashMap<u32, u64>,
    pub(super) lists: Vec<u64>,
    /// How many flows began.
    pub(super) begun: Cell<u32>,
    records: Vec<Cell<u64>>,
    index: Vec<Cell<u64>>,
    pub(super) held: RefCell<HashMap<FlowKey<A>, u64>>,
    pub(super) visitors: RefCell<HashMap<VisitorKey<A>, u64>>,
    pub(super) fragments: RefCell<HashMap<FragmentKey<A>, u64>>,
    pub(super) allowed: Option<SourceKey<A>>,
    /// The node's address, and the first word of the address that endpoints see.
    pub(super) node: A,
    pub(super) source: u64,
    /// Whoever has this address is behind no device.
    nowhere: A,
    /// Whoever has this one is behind the VLAN.
    tagged: A,
}

impl<A: FlowAddress + Hash> Side<A> {
    /// A family whose addresses come of small numbers.
    pub(super) fn new(addr: impl Fn(u8) -> A, source: u64) -> Self {
        let mut side = Self {
            frontends: HashMap::new(),
            services: HashMap::new(),
            lists: std::vec![0],
            begun: Cell::new(0),
            records: (0..SLOTS * A::WORDS).map(|_| Cell::new(0)).collect(),
            index: (0..2 * SLOTS).map(|_| Cell::new(0)).collect(),
            held: RefCell::default(),
            visitors: RefCell::default(),
            fragments: RefCell::default(),
            allowed: None,
            node: addr(1),
            source,
            nowhere: addr(30),
            tagged: addr(21),
        };
        let vip = addr(10);
        let at = |number| Endpoint {
            addr: addr(number),
            port: 8080_u16.to_be(),
        };
        for protocol in [6, 17] {
            for (number, port) in (1..).zip(PORTS) {
                let endpoints: &[_] = match number {
                    4 => &[],
                    5 => &[at(30)],
                    _ => &[at(20), at(21)],
                };
                let key = FrontendKey::new(vip, port.to_be(), protocol);
                side.service(
                    &key,
                    Class::External,
                    2 * number + u32::from(protocol),
                    endpoints,
                    number == 2,
                    number == 3,
                );
                if number == 3 {
                    side.allowed = Some(SourceKey {
                        frontend: key,
                        source: addr(40),
                    });
                }
            }
            let key = FrontendKey::node_port(NODE_PORT.to_be(), protocol);
            side.service(
                &key,
                Class::NodePort,
                100 + u32::from(protocol),
                &[at(20)],
                false,
                false,
            );
        }
        side
    }

    fn service(
        &mut self,
        key: &FrontendKey<A>,
        class: Class,
        number: u32,
        endpoints: &[Endpoint<A>],
        sticky: bool,
        restricted: bool,
    ) {
        let Some(index) = ListIndex::new(2 * number) else {
            return;
        };
        let generation = Generation(1);
        let word = FrontendWord::new(key, index, generation, class, restricted);
        self.frontends.insert(*key, word.0);
        let place = self.lists.len() as u32;
        let way = match (endpoints.is_empty(), sticky) {
            (true, _) => Answer::Refuse,
            (false, true) => Answer::Sticky,
            (false, false) => Answer::Any,
        };
        let place = if endpoints.is_empty() { 0 } else { place };
        self.services
            .insert(index.get(), ServiceWord::new(place, generation, way).0);
        let (numbers, slots): (&[u16], &[u16]) = if sticky { (&[1, 2], &[0, 1, 2]) } else { (&[], &[]) };
        let mut order: Vec<u16> = (0..endpoints.len() as u16).collect();
        order.sort_unstable_by_key(|slot| endpoints[*slot as usize]);
        let header = Header {
            index,
            generation,
            sticky,
            count: endpoints.len() as u16,
            seconds: 100,
            numbers: slots.len() as u16,
            cells: 0,
        };
        let writer = Writer {
            header,
            endpoints,
            order: &order,
            numbers,
            slots,
            cells: &[],
        };
        if !endpoints.is_empty() {
            writer.write(|word| self.lists.push(word));
        }
    }

    pub(super) fn record(&self, number: RecordNumber) -> Option<Words<'_>> {
        self.part(&self.records, number.get(), A::WORDS)
    }

    pub(super) fn bucket(&self, number: u32) -> Option<Words<'_>> {
        self.part(&self.index, number, BUCKET)
    }

    pub(super) fn route(&self, way: &Way<A>) -> Route {
        if way.to == self.nowhere || way.to == self.node {
            return Route::Elsewhere;
        }
        let index = if way.to == self.tagged { 4 } else { 3 };
        Route::Out(index, Mac(0x99))
    }

    fn part<'a>(&'a self, words: &'a [Cell<u64>], number: u32, len: u32) -> Option<Words<'a>> {
        let from = (number as usize).checked_mul(len as usize)?;
        let words = words.get(from..from + len as usize)?;
        let begun = &self.begun;
        Some(Words { words, begun })
    }
}
