//! The programs for packets as they are embedded, and how they are loaded.

use aya::maps::Map;
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use tandem_xdp_layout::{BUCKET, SLOTS};

use super::PacketsError;
use crate::kernel::object::{LoadError, TRIES, is_interrupted, refused};
use crate::kernel::pin::Pins;
use crate::kernel::pinned;

/// The programs, built by the build script.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tandem-xdp-packets.o"));

/// The programs' names: for packets in one piece, and for packets that may come in parts.
pub(crate) const PROGRAMS: [&str; 2] = ["packets", "packets_in_parts"];

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
        let mut loader = EbpfLoader::new();
        // The programs use no types of the kernel, so its BTF is neither read nor needed.
        loader.btf(None);
        for map in pinned::PACKETS
            .iter()
            .chain(pinned::MAPS.iter().filter(|map| pinned::ROWS.contains(&map.name)))
        {
            let pin = pins.maps().join(map.name);
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
        Ok(Self { ebpf })
    }

    /// A program of any name, loaded if it is not.
    #[cfg(any(test, feature = "samples"))]
    pub(crate) fn sample(&mut self, name: &'static str) -> Result<&mut Xdp, PacketsError> {
        if self.program(name).is_some_and(|program| program.fd().is_err()) {
            load(&mut self.ebpf, name)?;
        }
        let program = self.ebpf.program_mut(name).ok_or(LoadError::Missing(name))?;
        Ok(program.try_into().map_err(|_| LoadError::Missing(name))?)
    }

    /// A map of the object.
    pub(crate) fn take(&mut self, name: &'static str) -> Result<Map, PacketsError> {
        self.ebpf.take_map(name).ok_or(PacketsError::Missing(name))
    }

    /// A map of the object that was not taken.
    pub(crate) fn map(&self, name: &str) -> Option<&Map> {
        self.ebpf.map(name)
    }

    /// The same, to write to.
    #[cfg(any(test, feature = "samples"))]
    pub(crate) fn map_mut(&mut self, name: &str) -> Option<&mut Map> {
        self.ebpf.map_mut(name)
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
