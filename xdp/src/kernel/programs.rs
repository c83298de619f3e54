//! The loaded programs and where they are attached. They can be loaded once more with a larger map, while they run.

use std::fs;
use std::path::{Path, PathBuf};

use aya::Pod;
use aya::maps::{Array, HashMap, MapData};
use aya::programs::CgroupSockAddr;
use aya::programs::links::PinnedLink;
use tandem_core::plane::Cause;

use super::link::{self, AttachError, Attached};
use super::memory::Words;
use super::object::{self, Object, Sizes};
use super::pin::Pins;

/// Whose calls programs take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The node's own: the folder is the topmost one.
    Node,
    /// The pods': the folder is kubelet's.
    Pods,
}

/// `BPF_F_MMAPABLE` and `BPF_F_NO_PREALLOC`
const MMAPABLE: u32 = 1 << 10;
const NO_PREALLOC: u32 = 1;

/// The programs.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) object: Object,
    pins: Pins,
    /// Where programs are attached.
    folders: Vec<(Who, PathBuf)>,
    links: Vec<PinnedLink>,
}

impl Programs {
    pub(crate) fn new(object: Object, pins: Pins) -> Self {
        Self {
            object,
            pins,
            folders: Vec::new(),
            links: Vec::new(),
        }
    }

    /// Attaches the programs to a folder, and to no other one any more.
    pub(crate) fn attach(&mut self, who: Who, folder: &Path) -> Result<Attached, AttachError> {
        self.folders.retain(|(other, _)| *other != who);
        let attached = self.tie(who, folder)?;
        self.folders.push((who, folder.to_owned()));
        Ok(attached)
    }

    fn tie(&mut self, who: Who, folder: &Path) -> Result<Attached, AttachError> {
        let (own, both): (&[&str], &[&str]) = match who {
            Who::Node => (&object::NODE, &object::REVERSE),
            Who::Pods => (&object::PODS, &[]),
        };
        let mut attached = Attached::Adopted;
        // What shows frontends comes first: a socket must not be translated before its answers are.
        for name in both.iter().chain(own) {
            let program: Option<&mut CgroupSockAddr> = self
                .object
                .ebpf
                .program_mut(name)
                .and_then(|program| program.try_into().ok());
            // The object was loaded, so it has all programs.
            let Some(program) = program else { continue };
            let (link, how) = link::attach(program, folder, &self.pins.links().join(name))?;
            if how == Attached::Anew {
                attached = how;
            }
            self.links.push(link);
        }
        Ok(attached)
    }

    /// Puts an array of more words in the place of one, with what this holds.
    pub(crate) fn enlarge_words(&mut self, name: &'static str, old: &Words, len: u32) -> Result<Words, Cause> {
        let new = self.pins.maps().join(format!("{name}-new")); // the file system takes no dots
        forget(&new);
        Array::<_, u64>::create(len, MMAPABLE)?.pin(&new)?;
        let words = Words::map(MapData::from_pin(&new)?.fd(), len)?;
        for (at, word) in old.all() {
            words.set(at, word);
        }
        self.replace(name, &new)?;
        Ok(words)
    }

    /// Puts a hash with room for more in the place of one, with what this holds.
    pub(crate) fn enlarge_hash<K: Pod>(
        &mut self,
        name: &'static str,
        old: &HashMap<MapData, K, u64>,
        len: u32,
    ) -> Result<HashMap<MapData, K, u64>, Cause> {
        let new = self.pins.maps().join(format!("{name}-new")); // the file system takes no dots
        forget(&new);
        let mut larger = HashMap::create(len, NO_PREALLOC)?;
        for entry in old {
            let (key, word) = entry?;
            larger.insert(key, word, 0)?;
        }
        larger.pin(&new)?;
        let larger = aya::maps::Map::from_map_data(MapData::from_pin(&new)?)?.try_into()?;
        self.replace(name, &new)?;
        Ok(larger)
    }

    /// Gives a map's place to another one, loads the programs with it, and puts them in the place of those that run. The pin comes
    /// first: whoever starts after a crash in between loads the programs with it.
    fn replace(&mut self, name: &str, new: &Path) -> Result<(), Cause> {
        fs::rename(new, self.pins.maps().join(name))?;
        // Sizes count only for maps that are not there.
        self.object = Object::load(&Sizes::default(), &self.pins)?;
        self.links.clear();
        for (who, folder) in self.folders.clone() {
            self.tie(who, &folder)?;
        }
        Ok(())
    }

    /// Detaches all programs, and removes all pins.
    pub(crate) fn remove(&mut self) -> Result<(), super::PinError> {
        self.links.clear();
        self.folders.clear();
        self.pins.remove()
    }
}

/// Removes what an enlargement that did not end has left.
fn forget(pin: &Path) {
    // Usually there is nothing. If something stays, the next pin fails and says so.
    let _: std::io::Result<()> = fs::remove_file(pin);
}
