//! What the programs for packets know, as memory of this process: it can be read and written whether this run has loaded the
//! programs or an earlier one.

use std::io;
use std::sync::{Mutex, PoisonError};

use aya::maps::{HashMap, Map, MapData, PerCpuArray};
use tandem_core::family::IpFamily;
use tandem_core::row::{Endpoint, Protocol};
use tandem_xdp_layout::{
    DEVICE_SOURCES, DEVICE_WORDS, Device, DeviceKey, DeviceNumber, DeviceWord, FlowAddress, FlowKey, HeldWord,
    IngressWord, Mac, PacketCount, PacketSettings, PacketWords, Reason, RouteGeneration, SLOTS, Times,
};

use super::clock::now;
use super::error::PacketsError;
use super::records::Records;
use crate::convert::{self, Plane};
use crate::kernel::hash::Raw;
use crate::kernel::memory::Words;
use crate::kernel::pin::Pins;

/// The numbers of devices, as the kernel has them.
type Numbers = HashMap<MapData, Raw<DeviceKey>, u64>;

/// What the programs did with packets of a family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// How many were translated and sent.
    pub sent: u64,
    /// How many were answered, because they were too big.
    pub answered: u64,
    /// How many were passed to nftables, or dropped, by reason.
    pub left: Vec<(Reason, u64)>,
}

/// The maps of the programs for packets.
#[derive(Debug)]
pub struct PacketMaps {
    pins: Pins,
    settings: Words,
    devices: Words,
    ingress: Words,
    numbers: Mutex<Numbers>,
    pages: [u32; 2],
}

impl PacketMaps {
    /// Opens the maps that are pinned.
    pub fn open(pins: &Pins) -> Result<Self, PacketsError> {
        let settings = words(pins, "PACKETS", PacketSettings::WORDS)?;
        let devices = words(pins, "DEVICES", DEVICE_WORDS * u32::from(DeviceNumber::COUNT))?;
        let ingress = words(pins, "INGRESS", IngressWord::COUNT)?;
        let numbers = map(pins, "DEVICE_NUMBERS")?;
        let numbers = numbers
            .try_into()
            .map_err(|error| PacketsError::Map("DEVICE_NUMBERS", error))?;
        Ok(Self {
            pins: pins.clone(),
            settings,
            devices,
            ingress,
            numbers: Mutex::new(numbers),
            pages: pages(pins)?,
        })
    }

    /// How many pages of records IPv4 and IPv6 have.
    pub fn pages(&self) -> [u32; 2] {
        self.pages
    }

    /// Where they are pinned.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// How long flows live without a packet, as the programs have it.
    pub fn times(&self) -> Times {
        self.settings().map_or_else(Times::default, |settings| settings.times)
    }

    /// Writes what the programs ask first.
    pub fn set(&self, settings: &PacketSettings) {
        let words = settings.words();
        // The switches come last: what is read after them is what they were written for.
        for (at, word) in (0..).zip(words).skip(1) {
            self.settings.set(at, word);
        }
        self.settings.publish(0, words[0]);
    }

    /// What the programs ask first, as it stands; none if nobody has written it yet.
    pub fn settings(&self) -> Option<PacketSettings> {
        settings_of(&self.settings)
    }

    /// Writes how long flows live without a packet.
    pub fn set_times(&self, times: &Times) {
        let [udp, tcp] = PacketSettings::times_words(times);
        self.settings.set(3, udp);
        self.settings.set(4, tcp);
    }

    /// Has new flows of each family be taken, or left to nftables. Flows that stand go on. Those that are not taken may be noted as
    /// nftables'.
    pub fn turn(&self, on: [bool; 2], noting: bool) {
        self.change_first(|word| PacketSettings::turned(word, on, noting));
    }

    /// Has the next packet of each flow ask for its way again. Returns the generation that hops are of from now on.
    pub fn raise(&self) -> RouteGeneration {
        PacketSettings::generation(self.change_first(PacketSettings::raised))
    }

    /// Several threads change the first word: one turns the programs on, and another one raises the generation.
    fn change_first(&self, change: impl Fn(u64) -> u64) -> u64 {
        loop {
            let before = self.settings.get(0).unwrap_or_default();
            let after = change(before);
            if before == after || self.settings.change(0, before, after) {
                return after;
            }
        }
    }

    /// Tells the programs a device by which packets may leave, and its source addresses. It is known by its index, and by that of
    /// the device that carries it and a VLAN.
    pub fn set_device(
        &self,
        number: DeviceNumber,
        index: u32,
        device: Device,
        sources: [u64; 3],
    ) -> Result<(), PacketsError> {
        let first = u32::from(number.get()) * DEVICE_WORDS;
        let [place, own] = device.words();
        self.devices.set(first + 1, own);
        for (at, word) in (DEVICE_SOURCES[0]..).zip(sources) {
            self.devices.set(first + at, word);
        }
        self.devices.set(first + OWN_INDEX, u64::from(index));
        self.devices.publish(first, place);
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys(index, device) {
            let word = DeviceWord::new(key, number);
            numbers
                .insert(Raw(key), word.0, 0)
                .map_err(|error| PacketsError::Map("DEVICE_NUMBERS", error))?;
        }
        Ok(())
    }

    /// Has no packet leave by this device any more. Packets of flows that went by it ask for another way, and are dropped if there
    /// is none.
    pub fn clear_device(&self, number: DeviceNumber) -> Result<(), PacketsError> {
        let first = u32::from(number.get()) * DEVICE_WORDS;
        let Some((index, device)) = self.device(number) else {
            return Ok(());
        };
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys(index, device) {
            // Another device may have taken the key over.
            let is_its = matches!(numbers.get(&Raw(key), 0), Ok(word) if DeviceWord(word).device(key) == Some(number));
            if is_its {
                match numbers.remove(&Raw(key)) {
                    Err(error) if !crate::kernel::hash::is_missing(&error) => {
                        return Err(PacketsError::Map("DEVICE_NUMBERS", error));
                    }
                    _ => {}
                }
            }
        }
        self.devices.publish(first, 0);
        for at in 1..DEVICE_WORDS {
            self.devices.set(first + at, 0);
        }
        Ok(())
    }

    /// A device by which packets may leave: its own index, and what the programs know of it.
    fn device(&self, number: DeviceNumber) -> Option<(u32, Device)> {
        let first = u32::from(number.get()) * DEVICE_WORDS;
        let word = |at| self.devices.get(first + at);
        let device = Device::of_words(word(0)?, word(1)?);
        let index = u32::try_from(word(OWN_INDEX)?).ok()?;
        (device.index != 0).then_some((index, device))
    }

    /// The devices by which packets may leave, each with its number and its own index.
    pub fn devices(&self) -> Vec<(DeviceNumber, u32, Device)> {
        let numbers = (0..DeviceNumber::COUNT).filter_map(DeviceNumber::new);
        let device = |number| self.device(number).map(|(index, device)| (number, index, device));
        numbers.filter_map(device).collect()
    }

    /// Takes the packets of a device that are sent to this MAC address, or, without one, none.
    pub fn set_ingress(&self, index: u32, mac: Option<Mac>) {
        let word = mac.map_or(IngressWord::default(), |mac| IngressWord::new(index, mac));
        self.ingress.publish(IngressWord::place(index), word.0);
    }

    /// The records of one family's flows.
    pub fn records<A: FlowAddress>(&self, six: bool) -> Result<Records<A>, PacketsError> {
        let name = if six { "FLOWS6" } else { "FLOWS4" };
        let count = self.pages[usize::from(six)] * SLOTS;
        Ok(Records::new(words(&self.pins, name, count * A::WORDS)?, count))
    }

    /// Leaves flows to nftables that it has already: the client of each, what it asked for, and the protocol.
    pub fn hold_flows<F: Plane>(
        &self,
        flows: impl Iterator<Item = (Endpoint<F>, Endpoint<F>, Protocol)>,
    ) -> Result<(), PacketsError> {
        let Some(settings) = self.settings() else { return Ok(()) };
        let name = if F::FAMILY == IpFamily::V6 {
            "HELD_FLOWS6"
        } else {
            "HELD_FLOWS4"
        };
        let wrong = |error| PacketsError::Map(name, error);
        let mut held: HashMap<MapData, Raw<FlowKey<F::Mapped>>, u64> =
            map(&self.pins, name)?.try_into().map_err(wrong)?;
        let now = now();
        for (client, frontend, protocol) in flows {
            let key = convert::flow_key::<F>(client, frontend, protocol);
            let word = HeldWord::new(key.hash(settings.index_seed), now);
            held.insert(Raw(key), word.0, 0).map_err(wrong)?;
        }
        Ok(())
    }

    /// What the programs did with packets of a family.
    pub fn traffic(&self, family: IpFamily) -> Result<Traffic, PacketsError> {
        let six = usize::from(family == IpFamily::V6);
        let counts = self.all_counts()?;
        let count = |at: PacketCount| counts.get(at.place() as usize).copied().unwrap_or_default();
        let left = Reason::ALL.map(|reason| (reason, count(PacketCount::left(six, reason.number()))));
        Ok(Traffic {
            sent: count(PacketCount::sent(six)),
            answered: count(PacketCount::answered(six)),
            left: left.into_iter().filter(|(_, packets)| *packets > 0).collect(),
        })
    }

    /// The counts of the programs, all processors' together.
    fn all_counts(&self) -> Result<Vec<u64>, PacketsError> {
        let wrong = |error| PacketsError::Map("PACKET_COUNTS", error);
        let counts: PerCpuArray<MapData, u64> = map(&self.pins, "PACKET_COUNTS")?.try_into().map_err(wrong)?;
        let count = |at| Ok(counts.get(&at, 0).map_err(wrong)?.iter().sum());
        (0..PacketCount::PLACES).map(count).collect()
    }

    /// The same, for tests.
    #[cfg(any(test, feature = "samples"))]
    pub fn counts(&self) -> Result<Vec<u64>, PacketsError> {
        self.all_counts()
    }
}

/// The settings that stand in these words; none if nobody has written any.
pub(super) fn settings_of(from: &Words) -> Option<PacketSettings> {
    let mut words = PacketWords::default();
    for (at, word) in (0..).zip(&mut words) {
        *word = from.get(at)?;
    }
    PacketSettings::of_words(&words)
}

/// How many pages of records the maps have that are pinned there.
pub(super) fn pages(pins: &Pins) -> Result<[u32; 2], PacketsError> {
    Ok([entries(pins, "FLOWS4")? / SLOTS, entries(pins, "FLOWS6")? / SLOTS])
}

/// Where a device's own index is among its words. The programs do not read it.
const OWN_INDEX: u32 = DEVICE_SOURCES[1] + 2;

const _: () = assert!(OWN_INDEX < DEVICE_WORDS);

/// By which keys the programs find a device.
fn keys(index: u32, device: Device) -> impl Iterator<Item = DeviceKey> {
    let tagged = (device.vlan != 0).then_some(DeviceKey {
        index: device.index,
        vlan: u32::from(device.vlan),
    });
    std::iter::once(DeviceKey { index, vlan: 0 }).chain(tagged)
}

fn data(pins: &Pins, name: &'static str) -> Result<MapData, PacketsError> {
    MapData::from_pin(pins.maps().join(name)).map_err(|error| PacketsError::Map(name, error))
}

fn entries(pins: &Pins, name: &'static str) -> Result<u32, PacketsError> {
    let info = data(pins, name)?
        .info()
        .map_err(|error| PacketsError::Map(name, error))?;
    Ok(info.max_entries())
}

pub(super) fn map(pins: &Pins, name: &'static str) -> Result<Map, PacketsError> {
    Map::from_map_data(data(pins, name)?).map_err(|error| PacketsError::Map(name, error))
}

/// Maps the memory of an array.
pub(super) fn words(pins: &Pins, name: &'static str, len: u32) -> Result<Words, PacketsError> {
    Words::map(data(pins, name)?.fd(), len).map_err(|error: io::Error| PacketsError::Memory(name, error))
}
