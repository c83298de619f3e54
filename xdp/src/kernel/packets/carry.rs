//! Carries flows over from an older layout: its maps are copied, its links get the programs of this one, and what changed meanwhile is
//! copied again.
//!
//! A connection's packet that belongs to no flow would be passed, and nftables would choose another endpoint. So from the moment at
//! which a device has the new program until everything is copied, the program drops such packets if they go to a frontend
//! ([`PacketSettings::moving`]): their sender repeats them.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use aya::maps::{HashMap, MapData};
use tandem_xdp_layout::{
    Address4, Address6, BUCKET, DEVICE_WORDS, DeviceKey, DeviceNumber, FLOWS_SINCE, FlowAddress, FlowKey, IngressWord,
    PacketSettings, SLOTS, StateWord, VERSION, VisitorKey, record,
};

use super::Packets;
use super::attach::{self, DeviceError};
use super::error::PacketsError;
use super::maps::{PacketMaps, map, settings_of, words};
use super::records::Mapped;
use crate::kernel::hash::Raw;
use crate::kernel::memory::Words;
use crate::kernel::pin::Pins;
use crate::kernel::pinned::PORT_WORDS;
use crate::kernel::sys;

/// The flows of an older layout.
#[derive(Debug)]
pub struct OlderFlows {
    pins: Pins,
    pages: [u32; 2],
    settings: PacketSettings,
}

/// Why flows were not carried over.
#[derive(Debug, thiserror::Error)]
pub enum CarryError {
    /// A map cannot be read or written.
    #[error(transparent)]
    Packets(#[from] PacketsError),
    /// A link did not get its new program.
    #[error("give the link {0} the program of this layout: {1}")]
    Link(PathBuf, #[source] DeviceError),
    /// A link was not pinned in its new place.
    #[error("pin the link {0}: {1}")]
    Pin(PathBuf, #[source] io::Error),
}

/// The words of a family's records and of its index, as they were copied.
struct Copied {
    records: Vec<u64>,
}

impl OlderFlows {
    /// The flows of the newest older layout whose programs are attached to devices, and whose records this layout reads.
    pub fn find(pins: &Pins) -> Option<Self> {
        Self::find_since(pins, FLOWS_SINCE)
    }

    pub(crate) fn find_since(pins: &Pins, since: u32) -> Option<Self> {
        let mut layouts: Vec<u32> = (since..VERSION)
            .filter(|layout| pins.of_layout(*layout).links().is_dir())
            .collect();
        layouts.reverse();
        layouts.into_iter().find_map(|layout| {
            let pins = pins.of_layout(layout);
            if attach::pinned(&pins.links()).iter().all(|(_, attached)| !attached) {
                return None;
            }
            let pages = super::maps::pages(&pins).ok()?;
            let settings = settings_of(&words(&pins, "PACKETS", PacketSettings::WORDS).ok()?)?;
            Some(Self { pins, pages, settings })
        })
    }

    /// How many pages its families have. The maps that it is carried over to must have as many.
    pub fn pages(&self) -> [u32; 2] {
        self.pages
    }

    /// Carries everything over. New flows are neither taken nor passed until it is done, and are noted as nftables' from then on.
    pub fn carry(&self, packets: &Packets) -> Result<(), CarryError> {
        let to = packets.maps();
        to.set(&PacketSettings {
            on: [false; 2],
            noting: false,
            moving: true,
            ..self.settings
        });
        self.devices(&to)?;
        self.ports(&to)?;
        let copied = [self.copy::<Address4>(&to, false)?, self.copy::<Address6>(&to, true)?];
        self.hashes(&to)?;
        let moved = self.links(packets);
        // If a link kept its program, all of them go on by what they knew.
        let [four, six] = copied;
        self.again::<Address4>(&to, false, &four)?;
        self.again::<Address6>(&to, true, &six)?;
        to.turn([false; 2], true);
        moved
    }

    fn devices(&self, to: &PacketMaps) -> Result<(), PacketsError> {
        let count = DEVICE_WORDS * u32::from(DeviceNumber::COUNT);
        copy_words(
            &words(&self.pins, "DEVICES", count)?,
            &words(to.pins(), "DEVICES", count)?,
        );
        copy_words(
            &words(&self.pins, "INGRESS", IngressWord::COUNT)?,
            &words(to.pins(), "INGRESS", IngressWord::COUNT)?,
        );
        copy_hash::<DeviceKey>(&self.pins, to.pins(), "DEVICE_NUMBERS")
    }

    /// The ports of frontends: a packet to any other port is not asked for its flow. The ports of this layout's own rows are added.
    fn ports(&self, to: &PacketMaps) -> Result<(), PacketsError> {
        ["PORTS4", "PORTS6"].into_iter().try_for_each(|name| {
            let (old, new) = (
                words(&self.pins, name, PORT_WORDS)?,
                words(to.pins(), name, PORT_WORDS)?,
            );
            for (at, word) in old.all() {
                while let Some(own) = new.get(at)
                    && own | word != own
                    && !new.change(at, own, own | word)
                {}
            }
            Ok(())
        })
    }

    fn hashes(&self, to: &PacketMaps) -> Result<(), PacketsError> {
        copy_hash::<FlowKey<Address4>>(&self.pins, to.pins(), "HELD_FLOWS4")?;
        copy_hash::<FlowKey<Address6>>(&self.pins, to.pins(), "HELD_FLOWS6")?;
        copy_hash::<VisitorKey<Address4>>(&self.pins, to.pins(), "VISITORS4")?;
        copy_hash::<VisitorKey<Address6>>(&self.pins, to.pins(), "VISITORS6")
    }

    /// Where records and index words are, before and after.
    fn places<A: FlowAddress>(&self, to: &PacketMaps, six: bool) -> Result<[[Words; 2]; 2], PacketsError> {
        let records = self.pages[usize::from(six)] * SLOTS;
        let (flows, index) = if six {
            ("FLOWS6", "INDEX6")
        } else {
            ("FLOWS4", "INDEX4")
        };
        let flow_words = records * A::WORDS;
        let index_words = (2 * records / BUCKET).max(1) * BUCKET;
        Ok([
            [
                words(&self.pins, flows, flow_words)?,
                words(to.pins(), flows, flow_words)?,
            ],
            [
                words(&self.pins, index, index_words)?,
                words(to.pins(), index, index_words)?,
            ],
        ])
    }

    fn copy<A: FlowAddress>(&self, to: &PacketMaps, six: bool) -> Result<Copied, PacketsError> {
        let [[old, new], [old_index, new_index]] = self.places::<A>(to, six)?;
        let mut records = Vec::new();
        let count = self.pages[usize::from(six)] * SLOTS;
        for record in 0..count {
            let state = old.get(record * A::WORDS).unwrap_or_default();
            records.push(state);
            // After an attempt that failed, some devices have the new programs already: what those wrote stays.
            if StateWord(state) != StateWord::default() && !is_newer::<A>(&new, &old, record) {
                copy_record::<A>(&old, &new, record);
            }
        }
        add_words(&old_index, &new_index);
        Ok(Copied { records })
    }

    /// Copies what changed since. What the new programs have touched is newer.
    fn again<A: FlowAddress>(&self, to: &PacketMaps, six: bool, copied: &Copied) -> Result<(), PacketsError> {
        let [[old, new], [old_index, new_index]] = self.places::<A>(to, six)?;
        for (record, before) in (0..).zip(&copied.records) {
            let at = record * A::WORDS;
            if old.get(at) != Some(*before) && new.get(at) == Some(*before) {
                copy_record::<A>(&old, &new, record);
            }
        }
        add_words(&old_index, &new_index);
        Ok(())
    }

    /// Gives the links to devices the programs of this layout, and pins them there.
    fn links(&self, packets: &Packets) -> Result<(), CarryError> {
        for (pin, attached) in attach::pinned(&self.pins.links()) {
            let old = self.pins.links().join(pin.to_string());
            if attached {
                let new = packets.pins().links().join(pin.to_string());
                let object = packets.object().map_err(|error| CarryError::Pin(new.clone(), error))?;
                attach::update(&object, &old, pin).map_err(|error| CarryError::Link(old.clone(), error))?;
                let link = sys::open(&old).map_err(|error| CarryError::Pin(new.clone(), error))?;
                sys::pin(link.as_fd(), &new).map_err(|error| CarryError::Pin(new.clone(), error))?;
            }
            fs::remove_file(&old).map_err(|error| CarryError::Pin(old, error))?;
        }
        Ok(())
    }
}

/// Whether a record had a packet here after its last one there.
fn is_newer<A: FlowAddress>(here: &Words, there: &Words, record: u32) -> bool {
    let [here, there] = [here, there].map(|words| Mapped::new(words, record * A::WORDS));
    let used = [here, there].map(record::used::<A>);
    record::state(here) != StateWord::default() && used[0].wrapping_sub(used[1]).cast_signed() >= 0
}

/// Copies what has no word yet.
fn add_words(old: &Words, new: &Words) {
    for (at, word) in old.all() {
        if word != 0 && new.get(at) == Some(0) {
            new.publish(at, word);
        }
    }
}

/// Copies a record. Its state comes last, so that nobody reads half of it.
fn copy_record<A: FlowAddress>(old: &Words, new: &Words, record: u32) {
    let first = record * A::WORDS;
    for at in (0..A::WORDS).rev() {
        if let Some(word) = old.get(first + at) {
            new.publish(first + at, word);
        }
    }
}

fn copy_words(old: &Words, new: &Words) {
    for (at, word) in old.all() {
        if word != 0 {
            new.publish(at, word);
        }
    }
}

fn copy_hash<K: Copy + 'static>(old: &Pins, new: &Pins, name: &'static str) -> Result<(), PacketsError> {
    let wrong = |error| PacketsError::Map(name, error);
    let from: HashMap<MapData, Raw<K>, u64> = map(old, name)?.try_into().map_err(wrong)?;
    let mut to: HashMap<MapData, Raw<K>, u64> = map(new, name)?.try_into().map_err(wrong)?;
    // An element that goes while it is read is not missed.
    for (key, word) in from.iter().flatten() {
        to.insert(key, word, 0).map_err(wrong)?;
    }
    Ok(())
}
