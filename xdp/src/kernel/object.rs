//! The programs as they are embedded, and how they are loaded.

use std::path::Path;

use aya::programs::{CgroupSockAddr, ProgramError};
use aya::{Ebpf, EbpfError, EbpfLoader, VerifierLogLevel};

use super::pin::Pins;
use super::pinned;

/// The programs, built by the build script.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tandem-xdp.o"));

/// The last lines of the verifier's log that are shown.
const LOG_LINES: usize = 12;

/// Why the programs were not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The maps could not be made, or the object is no object.
    #[error("make the maps")]
    Maps(#[source] EbpfError),
    /// A map that is pinned is not one of this layout's.
    #[error(transparent)]
    Pinned(#[from] pinned::Strange),
    /// A program is missing in the object.
    #[error("there is no program {0}")]
    Missing(&'static str),
    /// The kernel's verifier refused a program.
    #[error("the kernel refuses the program {program}; its verifier says last: {log}")]
    Refused {
        /// The program.
        program: &'static str,
        /// The last lines of the verifier's log.
        log: String,
        /// What else went wrong.
        #[source]
        error: ProgramError,
    },
}

/// The programs for the node's own calls.
pub(crate) const NODE: [&str; 4] = ["node_connect4", "node_connect6", "node_sendmsg4", "node_sendmsg6"];
/// The programs for the pods' calls.
pub(crate) const PODS: [&str; 4] = ["pods_connect4", "pods_connect6", "pods_sendmsg4", "pods_sendmsg6"];
/// The programs that show frontends instead of endpoints. One of each is enough, on the topmost folder.
pub(crate) const REVERSE: [&str; 4] = ["recvmsg4", "recvmsg6", "getpeername4", "getpeername6"];

/// The names of all programs.
pub(crate) fn programs() -> impl Iterator<Item = &'static str> {
    NODE.into_iter().chain(PODS).chain(REVERSE)
}

/// How large the maps of each family are made.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Frontends.
    pub frontends: u32,
    /// Words of lists, for IPv4 and IPv6.
    pub words: [u32; 2],
}

impl Sizes {
    /// Room for twice the endpoints of a data plane with so many rows of IPv4 and IPv6. A Service port with one frontend and one
    /// endpoint has four rows, so there is room for twice their frontends, too.
    pub fn of_rows(rows: [usize; 2]) -> Self {
        let Self { frontends, words } = Self::default();
        let twice = |rows: usize| {
            u32::try_from(rows.saturating_mul(2))
                .unwrap_or(u32::MAX)
                .next_multiple_of(4096)
        };
        let [v4, v6] = rows.map(twice);
        Self {
            frontends: frontends.max(v4.max(v6) / 4),
            words: [words[0].max(v4), words[1].max(v6.saturating_mul(3))],
        }
    }
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            frontends: 16_384,
            // 65,536 endpoints: one word each, and three.
            words: [65_536, 3 * 65_536],
        }
    }
}

/// The loaded programs and their maps.
#[derive(Debug)]
pub struct Object {
    pub(crate) ebpf: Ebpf,
}

impl Object {
    /// Takes the maps that are pinned, makes and pins the others, and loads every program.
    pub fn load(sizes: &Sizes, pins: &Pins) -> Result<Self, LoadError> {
        Self::load_with(sizes, pins, None)
    }

    /// The same with another map in the place of one that is pinned: its name, and where it is pinned itself.
    pub(crate) fn load_with(
        sizes: &Sizes,
        pins: &Pins,
        instead: Option<(&'static str, &Path)>,
    ) -> Result<Self, LoadError> {
        let mut loader = EbpfLoader::new();
        // The programs use no types of the kernel, so its BTF is neither read nor needed.
        loader.btf(None);
        for map in &pinned::MAPS {
            let other = instead.filter(|(name, _)| *name == map.name);
            let pin = other.map_or_else(|| pins.maps().join(map.name), |(_, pin)| pin.to_owned());
            map.check(&pin)?;
            loader.map_pin_path(map.name, pin);
        }
        for (frontends, lists, words) in [
            ("FRONTENDS4", "LISTS4", sizes.words[0]),
            ("FRONTENDS6", "LISTS6", sizes.words[1]),
        ] {
            loader.map_max_entries(frontends, sizes.frontends);
            loader.map_max_entries(lists, words);
        }
        loader.verifier_log_level(VerifierLogLevel::STATS);
        let mut ebpf = loader.load(OBJECT).map_err(LoadError::Maps)?;
        for name in programs() {
            let program = ebpf.program_mut(name).ok_or(LoadError::Missing(name))?;
            let program: &mut CgroupSockAddr = program.try_into().map_err(|_| LoadError::Missing(name))?;
            program.load().map_err(|error| refused(name, error))?;
        }
        Ok(Self { ebpf })
    }

    /// How many instructions the verifier looked at for each program.
    pub fn verified(&self) -> Vec<(&'static str, u32)> {
        let count = |name| {
            let info = self.ebpf.program(name)?.info().ok()?;
            Some((name, info.verified_instruction_count()?))
        };
        programs().filter_map(count).collect()
    }
}

fn refused(program: &'static str, error: ProgramError) -> LoadError {
    let log = match &error {
        ProgramError::LoadError { verifier_log, .. } => {
            let text = verifier_log.to_string();
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(LOG_LINES)..].join(" | ")
        }
        other => other.to_string(),
    };
    LoadError::Refused { program, log, error }
}
