//! The program's surroundings as memory of a process: maps, routes, and a packet. What the kernel's verifier refuses, ends the process
//! here: a byte that is not there, and a part of a packet that was asked for before the packet grew.

mod judge;
#[cfg(test)]
mod left;
mod side;

use core::cell::{Cell, RefCell};
use std::vec::Vec;

use tandem_xdp_layout::{
    Address4, Address6, DEVICE_WORDS, Device, DeviceKey, DeviceNumber, FlowKey, FragmentKey, FrontendKey, ListIndex,
    Mac, Maps, RecordNumber, SourceKey, Switch, VisitorKey,
};

use crate::frame::{Frame, Part};
use crate::world::{FamilyWorld, Route, Way, World};
pub use judge::try_packets;
use side::{Side, Words};

/// The device that packets come in by, and its MAC address.
const INGRESS: u32 = 2;
const OWN: Mac = Mac(0x01_00_00_00_00_02);

/// A node.
struct Memory {
    packet: RefCell<Vec<u8>>,
    /// How often the packet grew or was cut.
    grown: Cell<u32>,
    settings: [u64; 8],
    now: Cell<u32>,
    four: Side<Address4>,
    six: Side<Address6>,
}

/// A node, as it is handed round.
#[derive(Clone, Copy)]
struct Handle<'a>(&'a Memory);

/// Bytes that were there when they were asked for.
#[derive(Clone, Copy)]
struct Bytes<'a> {
    memory: &'a Memory,
    at: usize,
    len: usize,
    grown: u32,
}

impl<'a> Frame for Handle<'a> {
    type Part = Bytes<'a>;

    fn part(self, at: usize, len: usize) -> Option<Bytes<'a>> {
        let there = self.0.packet.borrow().len();
        (at + len <= there).then(|| Bytes {
            memory: self.0,
            at,
            len,
            grown: self.0.grown.get(),
        })
    }

    fn size(self) -> u32 {
        self.0.packet.borrow().len() as u32
    }
}

impl Bytes<'_> {
    fn read<const N: usize>(self, at: usize) -> [u8; N] {
        assert!(at + N <= self.len, "{N} bytes at {at} of {}", self.len);
        assert_eq!(self.grown, self.memory.grown.get(), "the packet grew meanwhile");
        let packet = self.memory.packet.borrow();
        core::array::from_fn(|byte| packet[self.at + at + byte])
    }

    fn write(self, at: usize, bytes: &[u8]) {
        assert!(
            at + bytes.len() <= self.len,
            "{} bytes at {at} of {}",
            bytes.len(),
            self.len
        );
        assert_eq!(self.grown, self.memory.grown.get(), "the packet grew meanwhile");
        let from = self.at + at;
        self.memory.packet.borrow_mut()[from..from + bytes.len()].copy_from_slice(bytes);
    }
}

impl Part for Bytes<'_> {
    fn u8(self, at: usize) -> u8 {
        let [byte] = self.read(at);
        byte
    }

    fn u16(self, at: usize) -> u16 {
        u16::from_ne_bytes(self.read(at))
    }

    fn u32(self, at: usize) -> u32 {
        u32::from_ne_bytes(self.read(at))
    }

    fn u64(self, at: usize) -> u64 {
        u64::from_ne_bytes(self.read(at))
    }

    fn put_u8(self, at: usize, value: u8) {
        self.write(at, &[value]);
    }

    fn put_u16(self, at: usize, value: u16) {
        self.write(at, &value.to_ne_bytes());
    }

    fn put_u32(self, at: usize, value: u32) {
        self.write(at, &value.to_ne_bytes());
    }

    fn put_u64(self, at: usize, value: u64) {
        self.write(at, &value.to_ne_bytes());
    }
}

/// The devices: where packets come in, where endpoints are, and one of a VLAN.
fn device(number: u8) -> Device {
    Device {
        index: u32::from(number) + 1,
        vlan: if number == 3 { 7 } else { 0 },
        mtu: 1500,
        // Packets with the tag are sent to the node, too.
        mac: if number == 2 { Mac(OWN.0 + 1) } else { OWN },
        returns: number == 1,
    }
}

/// How many devices there are.
const DEVICES: u8 = 3;

impl World for Handle<'_> {
    type Frame = Self;

    fn frame(&self) -> Self {
        *self
    }

    fn grow(&self, by: i32) -> Option<Self> {
        let mut packet = self.0.packet.borrow_mut();
        if by >= 0 {
            packet.splice(0..0, (0..by).map(|_| 0xee));
        } else {
            packet.drain(..by.unsigned_abs() as usize);
        }
        self.0.grown.set(self.0.grown.get() + 1);
        Some(*self)
    }

    fn cut(&self, len: u32) -> Option<Self> {
        self.0.packet.borrow_mut().truncate(len as usize);
        self.0.grown.set(self.0.grown.get() + 1);
        Some(*self)
    }

    fn setting(&self, at: usize) -> u64 {
        self.0.settings[at]
    }

    fn now(&self) -> u32 {
        self.0.now.get()
    }

    fn ingress(&self) -> u32 {
        INGRESS
    }

    fn ingress_mac(&self) -> Option<Mac> {
        Some(OWN)
    }

    fn device_number(&self, key: DeviceKey) -> Option<DeviceNumber> {
        let is_it = |number: &u8| {
            let device = device(*number);
            (key.vlan == 0 && device.index == key.index) || (key.index == INGRESS && key.vlan == u32::from(device.vlan))
        };
        DeviceNumber::new((1..=DEVICES).find(is_it)?)
    }

    fn device_word(&self, number: DeviceNumber, at: u32) -> u64 {
        assert!(at < DEVICE_WORDS);
        if number.get() == 0 || number.get() > DEVICES {
            return 0;
        }
        let [first, second] = device(number.get()).words();
        // Its addresses are those that the judge knows.
        [first, second, self.0.four.source, self.0.six.source, 1, 0, 0, 0][at as usize]
    }

    fn may_answer(&self, _: u32) -> bool {
        true
    }
}

macro_rules! family {
    ($address:ty: $side:ident) => {
        impl Maps<$address> for Handle<'_> {
            fn frontend(&self, key: &FrontendKey<$address>) -> Option<u64> {
                self.0.$side.frontends.get(key).copied()
            }

            fn has_address(&self, addr: &$address) -> bool {
                self.0.$side.node == *addr
            }

            fn service(&self, index: ListIndex) -> Option<u64> {
                Some(
                    self.0
                        .$side
                        .services
                        .get(&index.get())
                        .copied()
                        .unwrap_or_default(),
                )
            }

            fn word(&self, place: u32) -> Option<u64> {
                self.0.$side.lists.get(place as usize).copied()
            }
        }

        impl<'a> FamilyWorld<$address> for Handle<'a> {
            type Words = Words<'a>;

            fn switch(&self) -> Switch {
                Switch::on(false, false, false).with_node_ports(Some((30_000, 30_010)))
            }

            fn has_port(&self, port: u16, _: u8) -> bool {
                side::has_port(u16::from_be(port))
            }

            fn record(&self, number: RecordNumber) -> Option<Words<'a>> {
                self.0.$side.record(number)
            }

            fn bucket(&self, number: u32) -> Option<Words<'a>> {
                self.0.$side.bucket(number)
            }

            fn allows(&self, frontend: &FrontendKey<$address>, source: $address) -> bool {
                let key = SourceKey {
                    frontend: *frontend,
                    source,
                };
                self.0.$side.allowed == Some(key)
            }

            fn count(&self, _: ListIndex) {}

            fn held(&self, key: &FlowKey<$address>) -> Option<u64> {
                self.0.$side.held.borrow().get(key).copied()
            }

            fn hold(&self, key: &FlowKey<$address>, word: u64) {
                self.0.$side.held.borrow_mut().insert(*key, word);
            }

            fn visitor(&self, key: &VisitorKey<$address>) -> Option<u64> {
                self.0.$side.visitors.borrow().get(key).copied()
            }

            fn remember(&self, key: &VisitorKey<$address>, word: u64) {
                self.0.$side.visitors.borrow_mut().insert(*key, word);
            }

            fn fragment(&self, key: &FragmentKey<$address>) -> Option<u64> {
                self.0.$side.fragments.borrow().get(key).copied()
            }

            fn remember_fragment(&self, key: &FragmentKey<$address>, word: u64) {
                self.0.$side.fragments.borrow_mut().insert(*key, word);
            }

            fn route(&self, way: &Way<$address>) -> Route {
                self.0.$side.route(way)
            }
        }
    };
}

family!(Address4: four);
family!(Address6: six);
