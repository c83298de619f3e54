//! The programs as they are embedded, and how they are loaded.

use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

use aya::programs::{CgroupSockAddr, ProgramError};
use aya::{Ebpf, EbpfError, EbpfLoader, VerifierLogLevel};

use super::line::line;
use super::pin::Pins;
use super::pinned;
use super::sys;

/// The programs, built by the build script.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tandem-xdp.o"));

/// How often it is tried to load a program, if signals come meanwhile.
pub(crate) const TRIES: usize = 20;

/// The last lines of the verifier's log that are shown.
const LOG_LINES: usize = 12;

/// Why the programs were not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The maps could not be made, or the object is no object.
    #[error("make the maps: {error}", error = line(.0))]
    Maps(EbpfError),
    /// The kernel refused to take types, when it was asked first.
    #[error(
        "the kernel refuses types of maps (BTF), which socket storage needs; it is asked once in each run of Tandem: restart Tandem to ask again"
    )]
    NoTypes,
    /// A map that is pinned is not one of this layout's.
    #[error(transparent)]
    Pinned(#[from] pinned::Strange),
    /// A program is missing in the object.
    #[error("there is no program {0}")]
    Missing(&'static str),
    /// The kernel's verifier refused a program.
    #[error("the kernel refuses the program {program} ({error}); its verifier says last: {last}", last = last(.log))]
    Refused {
        /// The program.
        program: &'static str,
        /// The verifier's log.
        log: String,
        /// What the system call said.
        error: String,
    },
    /// The kernel did not load a program, and its verifier said nothing.
    #[error("the kernel does not load the program {program}: {error}")]
    NotLoaded {
        /// The program.
        program: &'static str,
        /// What the system call said.
        error: String,
    },
}

impl LoadError {
    /// The last lines of the verifier's log, if it has refused a program.
    pub fn details(&self) -> Option<String> {
        let Self::Refused { log, .. } = self else { return None };
        let lines: Vec<&str> = log.lines().collect();
        Some(lines[lines.len().saturating_sub(LOG_LINES)..].join("\n"))
    }
}

/// The last line of a verifier's log that is no figure.
fn last(log: &str) -> &str {
    const FIGURES: [&str; 4] = ["processed ", "verification time ", "stack depth ", "mark_precise"];
    let is_figure = |line: &&str| line.trim().is_empty() || FIGURES.iter().any(|start| line.starts_with(start));
    log.lines().rev().find(|line| !is_figure(line)).unwrap_or_default()
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
        let mut ebpf = maps(OBJECT, sizes, pins, None)?;
        load(&mut ebpf, programs())?;
        Ok(Self { ebpf })
    }

    /// Takes the maps that are pinned, with another one in the place of one of them, which is pinned itself. Loads these programs.
    pub(crate) fn load_with(
        pins: &Pins,
        instead: (&'static str, &Path),
        programs: &[&'static str],
    ) -> Result<Self, LoadError> {
        let mut ebpf = maps(OBJECT, &Sizes::default(), pins, Some(instead))?;
        load(&mut ebpf, programs.iter().copied())?;
        Ok(Self { ebpf })
    }

    /// The loaded program of this name.
    pub(crate) fn program(&self, name: &str) -> Option<&CgroupSockAddr> {
        self.ebpf.program(name)?.try_into().ok()
    }

    /// The maps that a program uses, by their numbers.
    pub(crate) fn maps_of(&self, name: &str) -> io::Result<Vec<u32>> {
        let program = self.program(name).ok_or(io::ErrorKind::NotFound)?;
        let mut ids = sys::maps_of(program.fd().map_err(io::Error::other)?.as_fd())?;
        ids.sort_unstable();
        Ok(ids)
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

/// Takes the maps that are pinned, and makes and pins the others. `instead` stands in the place of one that is pinned: its name,
/// and where it is pinned itself.
fn maps(object: &[u8], sizes: &Sizes, pins: &Pins, instead: Option<(&'static str, &Path)>) -> Result<Ebpf, LoadError> {
    // aya asks once, and would make socket storage without types from then on.
    if aya::features().btf().is_none() {
        return Err(LoadError::NoTypes);
    }
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
    loader.load(object).map_err(LoadError::Maps)
}

/// Has the kernel verify and load these programs.
fn load(ebpf: &mut Ebpf, names: impl Iterator<Item = &'static str>) -> Result<(), LoadError> {
    for name in names {
        let program = ebpf.program_mut(name).ok_or(LoadError::Missing(name))?;
        let program: &mut CgroupSockAddr = program.try_into().map_err(|_| LoadError::Missing(name))?;
        let mut loaded = program.load();
        for _ in 1..TRIES {
            if !matches!(&loaded, Err(error) if is_interrupted(error)) {
                break;
            }
            loaded = program.load();
        }
        loaded.map_err(|error| refused(name, &error))?;
    }
    Ok(())
}

/// Whether the kernel stopped to look at a program because a signal came for this process.
pub(crate) fn is_interrupted(error: &ProgramError) -> bool {
    matches!(error, ProgramError::LoadError { io_error, .. } if io_error.kind() == io::ErrorKind::WouldBlock)
}

pub(crate) fn refused(program: &'static str, error: &ProgramError) -> LoadError {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let (log, error) = (verifier_log.to_string(), io_error.to_string());
            // Whatever else refuses a program, its verifier has not begun.
            if last(&log).is_empty() {
                return LoadError::NotLoaded { program, error };
            }
            LoadError::Refused { program, log, error }
        }
        other => LoadError::NotLoaded {
            program,
            error: line(other),
        },
    }
}

#[cfg(test)]
pub(crate) mod bad {
    //! Programs that the verifier refuses.

    use super::*;

    /// Loads the programs as if each answered 7, which is no answer.
    pub(crate) fn load(pins: &Pins) -> Result<(), LoadError> {
        let mut object = OBJECT.to_vec();
        // r0 = 1, or w0 = 1; then exit
        for set in [0xb7, 0xb4] {
            let answer = [set, 0, 0, 0, 1, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
            for at in (0..object.len() - answer.len()).step_by(8) {
                if object[at..].starts_with(&answer) {
                    object[at + 4] = 7;
                }
            }
        }
        let mut ebpf = maps(&object, &Sizes::default(), pins, None)?;
        super::load(&mut ebpf, programs())
    }
}
