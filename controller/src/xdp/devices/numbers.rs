//! The numbers of the ways out. Records of flows hold them.
//!
//! Invariant: as long as a way out is used, it keeps its number.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use tandem_xdp::{Device, DeviceNumber, Mac};

use super::facts::Sources;
use super::plan::{Planned, Use};

/// A way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The index by which routes name it: of a VLAN, that of the VLAN device.
    pub index: u32,
    /// The device that carries it, and how packets leave.
    pub device: Device,
    /// The source addresses that packets may have.
    pub sources: Sources,
}

/// What a way out is known by: the index of the device that carries it, and the VLAN.
type Key = (u32, u16);

/// A change of what stands about a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberChange {
    /// The number is of this way out. What stood about the number before is replaced, with all names for it.
    Set(DeviceNumber, Exit),
    /// The number is nobody's.
    Clear(DeviceNumber),
}

/// Who has which number.
#[derive(Clone, Debug)]
pub struct Numbers {
    /// What stands about the numbers. The exit is none if an earlier run wrote it.
    held: BTreeMap<DeviceNumber, (Key, Option<Exit>)>,
    /// All other numbers. The one that was freed first is given out first, because records may still name the others.
    free: VecDeque<DeviceNumber>,
}

impl Exit {
    /// The way out by a device that is used.
    pub fn of(planned: &Planned) -> Option<Self> {
        let index = planned.index;
        let (carrier, vlan, mac, mtu, returns, sources) = match planned.usage {
            Use::Attach {
                mac,
                mtu,
                native_return,
                sources,
            } => (index, 0, mac, mtu, native_return, sources),
            // Whether a packet may return by the way it came is asked of the carrier alone.
            Use::WayOut {
                carrier,
                vlan,
                mac,
                mtu,
                sources,
            } => (carrier, vlan, mac, mtu, false, sources),
            Use::Refused(_) => return None,
        };
        let device = Device {
            index: carrier,
            vlan,
            mtu,
            mac: Mac::of_bytes(mac),
            returns,
        };
        Some(Self { index, device, sources })
    }

    fn key(&self) -> Key {
        (self.device.index, self.device.vlan)
    }
}

impl Default for Numbers {
    fn default() -> Self {
        Self::adopt([])
    }
}

impl Numbers {
    /// Takes over the numbers that stand in the map: each with the index of the carrier, and the VLAN. What else stands
    /// about them is not known, so it is written again.
    ///
    /// This is also the way on if a change could not be written.
    pub fn adopt(found: impl IntoIterator<Item = (DeviceNumber, u32, u16)>) -> Self {
        let held = found
            .into_iter()
            .map(|(number, index, vlan)| (number, ((index, vlan), None)));
        let held: BTreeMap<_, _> = held.collect();
        // Nobody knows which numbers were freed lately. As they are given out in turn, it is not those after the last.
        let last = held.keys().next_back().map_or(0, |number| number.get());
        let numbers = (last + 1..DeviceNumber::COUNT).chain(1..=last);
        let free = numbers
            .filter_map(DeviceNumber::new)
            .filter(|number| !held.contains_key(number));
        Self {
            free: free.collect(),
            held,
        }
    }

    /// The number of a way out.
    pub fn number(&self, index: u32, vlan: u16) -> Option<DeviceNumber> {
        let mut held = self.held.iter();
        held.find(|(_, (key, _))| *key == (index, vlan))
            .map(|(number, _)| *number)
    }

    /// Numbers these ways out and no others. Returns what has to be changed, in this order. Those for which no number is
    /// left get none.
    #[must_use = "these changes have to be written"]
    pub fn bring(&mut self, wanted: &[Exit]) -> Vec<NumberChange> {
        let mut missing: BTreeMap<Key, Exit> = wanted.iter().map(|exit| (exit.key(), *exit)).collect();
        let mut changes = Vec::new();
        let mut freed = Vec::new();
        for (number, (key, said)) in &mut self.held {
            match missing.remove(key) {
                Some(exit) if *said == Some(exit) => {}
                Some(exit) => {
                    *said = Some(exit);
                    changes.push(NumberChange::Set(*number, exit));
                }
                None => freed.push(*number),
            }
        }
        for number in freed {
            self.held.remove(&number);
            self.free.push_back(number);
            changes.push(NumberChange::Clear(number));
        }
        for (key, exit) in missing {
            let Some(number) = self.free.pop_front() else { break };
            self.held.insert(number, (key, Some(exit)));
            changes.push(NumberChange::Set(number, exit));
        }
        changes
    }
}
