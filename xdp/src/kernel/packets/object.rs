//! The programs for packets as they are embedded, and how they are loaded.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use aya::maps::Map;
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use tandem_xdp_layout::{BUCKET, SLOTS};

use crate::kernel::object::{LoadError, TRIES, is_interrupted, refused};
use crate::kernel::pin::Pins;
use crate::kernel::pinned;
use crate::kernel::sys;

/// The programs, built by the build script.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tandem-xdp-packets.o"));

/// The programs' names: for packets in one piece, and for packets that may come in parts.
pub(crate) const PROGRAMS: [&str; 2] = ["packets", "packets_in_parts"];

/// How many answers were sent in this second. It is the only map that is not pinned.
const ANSWERS: &str = "ANSWERS";

/// A program that passes every packet.
#[cfg(any(test, feature = "samples"))]
pub(crate) const PASS: &str = "pass";

/// Programs for measurements: one that redirects every packet, one that makes the packets, and one that drops them.
#[cfg(any(test, feature = "samples"))]
pub(crate) const NOTHING: &str = "nothing";
#[cfg(any(test, feature = "samples"))]
pub(crate) const GENERATE: &str = "generate";
#[cfg(any(test, feature = "samples"))]
pub(crate) const LOSE: &str = "lose";

/// How large the maps are made.
#[derive(Clone, Copy, Debug)]
pub struct PacketSizes {
    /// Pages of records, of IPv4 and IPv6. Each is a power of two.
    pub pages: [u32; 2],
    /// Flows of nftables that are remembered.
    pub held: u32,
    /// Clients of lists with affinity.
    pub visitors: u32,
}

impl PacketSizes {
    /// How many flows of nftables can be noted before the first of them may be forgotten: the kernel makes room in its own time.
    pub fn noted(&self) -> usize {
        self.held as usize / 8 * 7
    }
}

impl Default for PacketSizes {
    fn default() -> Self {
        Self {
            pages: [16, 16],
            held: 65_536,
            visitors: 65_536,
        }
    }
}

/// The loaded programs and their maps.
#[derive(Debug)]
pub(crate) struct PacketsObject {
    ebpf: Ebpf,
}

impl PacketsObject {
    /// Takes the maps that are pinned, makes and pins the others, and loads every program.
    pub(crate) fn load(sizes: &PacketSizes, pins: &Pins) -> Result<Self, LoadError> {
        Self::load_maps(sizes, pins, None)
    }

    /// Takes the maps that are pinned, with another one in the place of one of them, which is pinned itself. Loads every program.
    pub(crate) fn load_with(pins: &Pins, instead: (&'static str, &Path)) -> Result<Self, LoadError> {
        Self::load_maps(&PacketSizes::default(), pins, Some(instead))
    }

    fn load_maps(sizes: &PacketSizes, pins: &Pins, instead: Option<(&'static str, &Path)>) -> Result<Self, LoadError> {
        let mut loader = EbpfLoader::new();
        // The programs use no types of the kernel, so its BTF is neither read nor needed.
        loader.btf(None);
        for map in pinned::PACKETS
            .iter()
            .chain(pinned::MAPS.iter().filter(|map| pinned::ROWS.contains(&map.name)))
        {
            let other = instead.filter(|(name, _)| *name == map.name);
            let pin = other.map_or_else(|| pins.maps().join(map.name), |(_, pin)| pin.to_owned());
            map.check(&pin)?;
            loader.map_pin_path(map.name, pin);
        }
        for (family, names) in [["FLOWS4", "INDEX4"], ["FLOWS6", "INDEX6"]].into_iter().enumerate() {
            let records = sizes.pages[family] * SLOTS;
            loader.map_max_entries(names[0], records.max(1));
            loader.map_max_entries(names[1], (2 * records / BUCKET).max(1));
        }
        for (name, entries) in [
            ("HELD_FLOWS4", sizes.held),
            ("HELD_FLOWS6", sizes.held),
            ("VISITORS4", sizes.visitors),
            ("VISITORS6", sizes.visitors),
        ] {
            loader.map_max_entries(name, entries);
        }
        loader.verifier_log_level(VerifierLogLevel::STATS);
        let mut ebpf = loader.load(OBJECT).map_err(LoadError::Maps)?;
        for name in PROGRAMS {
            load(&mut ebpf, name)?;
        }
        // The programs hold them. Here, they would outlive their successors.
        for name in pinned::ROWS {
            drop(ebpf.take_map(name));
        }
        Ok(Self { ebpf })
    }

    /// A program of any name, loaded if it is not.
    #[cfg(any(test, feature = "samples"))]
    pub(crate) fn sample(&mut self, name: &'static str) -> Result<&mut Xdp, super::error::PacketsError> {
        if self.program(name).is_some_and(|program| program.fd().is_err()) {
            load(&mut self.ebpf, name)?;
        }
        let program = self.ebpf.program_mut(name).ok_or(LoadError::Missing(name))?;
        Ok(program.try_into().map_err(|_| LoadError::Missing(name))?)
    }

    /// A map of packets.
    pub(crate) fn map(&self, name: &str) -> Option<&Map> {
        self.ebpf.map(name)
    }

    /// The descriptor of a loaded program.
    pub(crate) fn fd(&self, name: &str) -> io::Result<OwnedFd> {
        let program = self.program(name).ok_or(io::ErrorKind::NotFound)?;
        program.fd().map_err(io::Error::other)?.as_fd().try_clone_to_owned()
    }

    /// The numbers of the loaded programs.
    pub(crate) fn programs(&self) -> Vec<u32> {
        let number = |name| Some(self.program(name)?.info().ok()?.id());
        PROGRAMS.into_iter().filter_map(number).collect()
    }

    /// The maps that a program uses, by their numbers.
    fn maps_of(&self, name: &str) -> io::Result<Vec<u32>> {
        let mut ids = sys::maps_of(self.fd(name)?.as_fd())?;
        ids.sort_unstable();
        Ok(ids)
    }

    /// Whether a program uses the map of this number.
    pub(crate) fn uses(&self, map: u32) -> io::Result<bool> {
        for name in PROGRAMS {
            if self.maps_of(name)?.contains(&map) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether each program uses the same maps as that of another object: the same numbers, by `same`, and those that no run after
    /// this one reads.
    pub(crate) fn has_same_maps(&self, other: &Self, same: impl Fn(Vec<u32>, Vec<u32>) -> bool) -> io::Result<bool> {
        // It is not pinned: each object has its own.
        let own = |object: &Self| match object.map(ANSWERS) {
            Some(Map::PerCpuArray(data)) => data.info().map(|info| info.id()).map_err(io::Error::other),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        let without = |mut maps: Vec<u32>, id: u32| {
            maps.retain(|map| *map != id);
            maps
        };
        let (before, after) = (own(other)?, own(self)?);
        for name in PROGRAMS {
            if !same(
                without(other.maps_of(name)?, before),
                without(self.maps_of(name)?, after),
            ) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The loaded program of this name.
    pub(crate) fn program(&self, name: &str) -> Option<&Xdp> {
        self.ebpf.program(name)?.try_into().ok()
    }

    /// How many instructions the verifier looked at for each program.
    pub(crate) fn verified(&self) -> Vec<(&'static str, u32)> {
        let count = |name| Some((name, self.program(name)?.info().ok()?.verified_instruction_count()?));
        PROGRAMS.into_iter().filter_map(count).collect()
    }
}

/// Has the kernel verify and load a program.
fn load(ebpf: &mut Ebpf, name: &'static str) -> Result<(), LoadError> {
    let program = ebpf.program_mut(name).ok_or(LoadError::Missing(name))?;
    let program: &mut Xdp = program.try_into().map_err(|_| LoadError::Missing(name))?;
    let mut loaded = program.load();
    for _ in 1..TRIES {
        if !matches!(&loaded, Err(error) if is_interrupted(error)) {
            break;
        }
        loaded = program.load();
    }
    loaded.map_err(|error| refused(name, &error))
}
