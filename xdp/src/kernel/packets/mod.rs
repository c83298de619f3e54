//! The programs for packets from outside, and their maps.

mod object;
mod records;
#[cfg(any(test, feature = "samples"))]
mod trial;

use std::io;

use aya::maps::{HashMap, Map, MapData, MapError};
use tandem_xdp_layout::{
    DEVICE_SOURCES, DEVICE_WORDS, Device, DeviceKey, DeviceNumber, DeviceWord, FlowAddress, IngressWord, Mac,
    PacketSettings, Times,
};

use super::hash::Raw;
use super::line::line;
use super::memory::Words;
use super::object::LoadError;
use super::pin::Pins;
pub use object::PacketSizes;
use object::PacketsObject;
pub use records::{Mapped, Records};
#[cfg(any(test, feature = "samples"))]
pub use trial::Answer;

/// Why packets are not taken.
#[derive(Debug, thiserror::Error)]
pub enum PacketsError {
    /// The programs were not loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A map is missing in the object.
    #[error("there is no map {0}")]
    Missing(&'static str),
    /// A map cannot be used.
    #[error("use the map {0}: {error}", error = line(.1))]
    Map(&'static str, MapError),
    /// Its memory cannot be mapped.
    #[error("map the memory of {0}: {1}")]
    Memory(&'static str, #[source] io::Error),
}

/// The loaded programs for packets, and what they know of devices.
#[derive(Debug)]
pub struct Packets {
    object: PacketsObject,
    settings: Words,
    devices: Words,
    ingress: Words,
    numbers: HashMap<MapData, Raw<DeviceKey>, u64>,
}

impl Packets {
    /// Loads the programs, with the maps that are pinned. The maps with rows must be. Those of packets that are not there are made
    /// in these sizes.
    pub fn open(sizes: &PacketSizes, pins: &Pins) -> Result<Self, PacketsError> {
        let mut object = PacketsObject::load(sizes, pins)?;
        let settings = memory("PACKETS", object.take("PACKETS")?, 8)?;
        let devices = memory(
            "DEVICES",
            object.take("DEVICES")?,
            DEVICE_WORDS * u32::from(DeviceNumber::COUNT),
        )?;
        let ingress = memory("INGRESS", object.take("INGRESS")?, IngressWord::COUNT)?;
        let numbers = object.take("DEVICE_NUMBERS")?;
        let numbers = numbers
            .try_into()
            .map_err(|error| PacketsError::Map("DEVICE_NUMBERS", error))?;
        Ok(Self {
            object,
            settings,
            devices,
            ingress,
            numbers,
        })
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

    /// Tells the programs a device by which packets may leave, and its source addresses. It is known by its index, and by that of
    /// the device that carries it and a VLAN.
    pub fn set_device(
        &mut self,
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
        self.devices.publish(first, place);
        let mut keys = vec![DeviceKey { index, vlan: 0 }];
        if device.vlan != 0 {
            keys.push(DeviceKey {
                index: device.index,
                vlan: u32::from(device.vlan),
            });
        }
        for key in keys {
            let word = DeviceWord::new(key, number);
            self.numbers
                .insert(Raw(key), word.0, 0)
                .map_err(|error| PacketsError::Map("DEVICE_NUMBERS", error))?;
        }
        Ok(())
    }

    /// Takes the packets of a device that are sent to this MAC address, or, without one, none.
    pub fn set_ingress(&self, index: u32, mac: Option<Mac>) {
        let word = mac.map_or(IngressWord::default(), |mac| IngressWord::new(index, mac));
        self.ingress.publish(IngressWord::place(index), word.0);
    }

    /// How long flows live without a packet, as the programs have it.
    pub fn times(&self) -> Times {
        // The settings have these words.
        let word = |at| self.settings.get(at).unwrap_or_default();
        PacketSettings::times(word(3), word(4))
    }

    /// The records of one family's flows.
    pub fn records<A: FlowAddress>(&self, six: bool) -> Result<Records<A>, PacketsError> {
        let name = if six { "FLOWS6" } else { "FLOWS4" };
        let Some(Map::Array(data)) = self.object.map(name) else {
            return Err(PacketsError::Missing(name));
        };
        let info = data.info().map_err(|error| PacketsError::Map(name, error))?;
        let words = Words::map(data.fd(), info.max_entries() * A::WORDS);
        let words = words.map_err(|error| PacketsError::Memory(name, error))?;
        Ok(Records::new(words, info.max_entries()))
    }

    /// How many instructions the verifier looked at for each program.
    pub fn verified(&self) -> Vec<(&'static str, u32)> {
        self.object.verified()
    }
}

fn memory(name: &'static str, map: Map, words: u32) -> Result<Words, PacketsError> {
    let Map::Array(data) = map else {
        return Err(PacketsError::Missing(name));
    };
    Words::map(data.fd(), words).map_err(|error| PacketsError::Memory(name, error))
}
