//! The programs for packets from outside, and their maps.

pub(super) mod attach;
mod carry;
mod clock;
mod error;
mod flows;
mod maps;
pub(super) mod object;
mod records;
#[cfg(any(test, feature = "samples"))]
mod trial;

use std::io;
use std::ops::Deref;
use std::sync::{Arc, Mutex};

use super::pin::{PinError, Pins};
use super::programs::Programs;
pub use attach::{DeviceError, DevicePin, Mode};
pub use carry::{CarryError, OlderFlows};
pub use clock::now;
pub use error::PacketsError;
pub use flows::{FlowFound, FlowState, HeldPort, PageFill};
pub use maps::{PacketMaps, Traffic};
pub use object::PacketSizes;
use object::PacketsObject;
#[cfg(any(test, feature = "samples"))]
pub(crate) use object::{LOSE, NOTHING, PROGRAMS};
pub use records::{Mapped, Records};
#[cfg(any(test, feature = "samples"))]
pub use trial::Answer;

use super::link::Attached;

/// The loaded programs for packets, and what they know.
#[derive(Debug)]
pub struct Packets {
    /// The same as those of sockets: if a map with rows is enlarged, all of them get the larger one.
    programs: Arc<Mutex<Programs>>,
    maps: Arc<PacketMaps>,
}

impl Packets {
    /// Loads the programs, with the maps that are pinned. The maps with rows are. Those of packets that are not there are made in
    /// these sizes.
    pub(super) fn open(programs: Arc<Mutex<Programs>>, sizes: &PacketSizes, pins: &Pins) -> Result<Self, PacketsError> {
        let mut locked = super::lock(&programs);
        let object = PacketsObject::load(sizes, pins)?;
        let maps = Arc::new(PacketMaps::open(pins)?);
        locked.put_packets(object);
        drop(locked);
        Ok(Self { programs, maps })
    }

    /// What the programs know. It can be read and written from other threads.
    pub fn maps(&self) -> Arc<PacketMaps> {
        Arc::clone(&self.maps)
    }

    /// Attaches a program to a device, or gives the link that is pinned this run's program. `parts` says whether packets of this
    /// device may be larger than a page.
    pub fn attach(&self, index: u32, mode: Mode, parts: bool) -> Result<Attached, DeviceError> {
        super::lock(&self.programs).attach_device(index, mode, parts)
    }

    /// The loaded object.
    fn object(&self) -> io::Result<Arc<PacketsObject>> {
        super::lock(&self.programs)
            .packets()
            .ok_or_else(|| io::Error::other("the programs are not loaded"))
    }

    /// Detaches what is attached to a device.
    pub fn detach(&self, index: u32) -> Result<(), PinError> {
        super::lock(&self.programs).detach_device(index)
    }

    /// The links to devices that are pinned, of this run and of earlier ones, and whether each still is attached.
    pub fn attached(&self) -> Vec<(DevicePin, bool)> {
        super::lock(&self.programs).devices()
    }

    /// Pins maps again whose pins somebody deleted.
    pub fn pin_again(&self) -> Result<(), PinError> {
        super::lock(&self.programs).pin_packets_again()
    }

    /// The numbers of the loaded programs, and of those that an earlier run attached.
    pub fn programs(&self) -> Vec<u32> {
        let locked = super::lock(&self.programs);
        let object = locked.packets();
        let loaded = object.map(|object| object.programs()).unwrap_or_default();
        loaded.into_iter().chain(locked.device_programs()).collect()
    }

    /// How many instructions the verifier looked at for each program.
    pub fn verified(&self) -> Vec<(&'static str, u32)> {
        let object = super::lock(&self.programs).packets();
        object.map(|object| object.verified()).unwrap_or_default()
    }
}

/// Detaches the programs for packets from all devices, whoever attached them, and removes the pins of their links and maps. Flows
/// end with that.
pub fn remove_packets(pins: &Pins) -> Result<(), PinError> {
    for (pin, _) in attach::pinned(&pins.links()) {
        attach::detach(pins, pin.index)?;
    }
    for map in &super::pinned::PACKETS {
        let pin = pins.maps().join(map.name);
        match std::fs::remove_file(&pin) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(PinError::Folder(pin, error)),
            _ => {}
        }
    }
    Ok(())
}

impl Deref for Packets {
    type Target = PacketMaps;

    fn deref(&self) -> &PacketMaps {
        &self.maps
    }
}

impl Drop for Packets {
    /// What is attached stays.
    fn drop(&mut self) {
        super::lock(&self.programs).forget_packets();
    }
}
