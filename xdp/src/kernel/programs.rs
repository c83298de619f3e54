//! The loaded programs and where they are attached. They can be loaded once more with a larger map, while they run.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::{fs, io};

use aya::Pod;
use aya::maps::{Array, HashMap, Map, MapData};
use aya::programs::CgroupSockAddr;
use aya::programs::links::PinnedLink;
use aya::sys::SyscallError;
use tandem_core::plane::Cause;

use super::link::{self, AttachError, Attached};
use super::object::{self, Object};
use super::pin::{PinError, Pins};
use super::pinned::{self, MMAPABLE};
use super::sparse::SparseWords;

/// Whose calls programs take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Everybody's: what shows frontends to sockets that were translated. The folder is the topmost one. Nothing may translate
    /// without it.
    Answers,
    /// The node's own: the folder is the topmost one.
    Node,
    /// The pods': the folder is kubelet's.
    Pods,
}

impl Who {
    /// All of its programs. What shows frontends comes first: a socket must not be translated before its answers are.
    fn programs(self) -> impl Iterator<Item = &'static &'static str> {
        let answers: &[_] = match self {
            Self::Answers | Self::Node => &object::REVERSE,
            Self::Pods => &[],
        };
        answers.iter().chain(self.translators())
    }

    /// Those that translate.
    fn translators(self) -> impl Iterator<Item = &'static &'static str> {
        let own: &[_] = match self {
            Self::Answers => &[],
            Self::Node => &object::NODE,
            Self::Pods => &object::PODS,
        };
        own.iter()
    }
}

/// Why a map was not enlarged.
#[derive(Debug)]
pub(crate) enum NotEnlarged {
    /// A larger one was not to be had, for which the kernel may have given a number. Everything is as it was.
    NoRoom(Option<i32>),
    /// Some programs may have the larger one, and others not.
    Torn(Cause),
}

/// The maps that programs alone write. What the other maps hold is written anew by a later run.
const REMEMBERED: [&str; 6] = ["PEERS4", "PEERS6", "PAIRS4", "PAIRS6", "AFFINITY4", "AFFINITY6"];

/// `BPF_F_NO_PREALLOC`
const NO_PREALLOC: u32 = 1;

/// The programs.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) object: Object,
    pins: Pins,
    /// The links, by the names of their programs. A link that is dropped and not pinned any more is gone.
    links: BTreeMap<&'static str, PinnedLink>,
    /// Whether every link that is pinned is known to have its program of this object. An earlier run may have ended while it
    /// enlarged a map, and an enlargement may have failed half way: then some programs read a copy that nobody writes any more.
    whole: bool,
}

impl Programs {
    pub(crate) fn new(object: Object, pins: Pins) -> Self {
        Self {
            object,
            pins,
            links: BTreeMap::new(),
            whole: false,
        }
    }

    /// Gives every link that is pinned its program of this object, if it is not known to have it: what this run writes, all
    /// programs read afterwards.
    pub(crate) fn make_whole(&mut self) -> Result<(), Cause> {
        if !self.whole {
            self.give_links(&self.object, object::programs())?;
            self.whole = true;
        }
        Ok(())
    }

    /// Forgets that every link has its program, as an enlargement that failed half way does.
    #[cfg(test)]
    pub(crate) fn doubt(&mut self) {
        self.whole = false;
    }

    /// Attaches the programs to a folder, and to no other one any more.
    pub(crate) fn attach(&mut self, who: Who, folder: &Path) -> Result<Attached, AttachError> {
        let mut attached = Attached::Adopted;
        for name in who.programs() {
            let program: Option<&mut CgroupSockAddr> = self
                .object
                .ebpf
                .program_mut(name)
                .and_then(|program| program.try_into().ok());
            // The object was loaded, so it has all programs.
            let Some(program) = program else { continue };
            let (link, how) = link::attach(name, program, folder, &self.pins.links().join(name))?;
            if how == Attached::Anew {
                attached = how;
            }
            self.links.insert(name, link);
        }
        Ok(attached)
    }

    /// Pins again what sockets and clients are remembered in, if somebody deleted the pins. A later run then still knows the
    /// sockets that this one translated.
    pub(crate) fn pin_again(&self) -> Result<(), PinError> {
        self.pins.make()?;
        for name in REMEMBERED {
            let pin = self.pins.maps().join(name);
            if let Some(map) = self.object.ebpf.map(name).filter(|_| !pin.exists()) {
                map.pin(&pin)
                    .map_err(|error| PinError::Folder(pin, io::Error::other(error)))?;
            }
        }
        Ok(())
    }

    /// Detaches what translates.
    pub(crate) fn detach(&mut self, who: Who) -> Result<(), PinError> {
        for name in who.translators() {
            self.links.remove(name);
            self.pins.remove_link(name)?;
        }
        Ok(())
    }

    /// Whether this run attached each program to the folder of this number, by a link that is pinned.
    pub(crate) fn is_attached(&self, who: Who, folder: u64) -> bool {
        who.programs().all(|name| self.links.contains_key(name)) && self.is_linked(who, folder)
    }

    /// Whether each program is attached to the folder of this number, by a link that is pinned. Somebody may have detached one.
    pub(crate) fn is_linked(&self, who: Who, folder: u64) -> bool {
        let at = |name| link::folder_of(&self.pins.links().join(name));
        who.programs().all(|name| at(name) == Some(folder))
    }

    /// Puts an array of more words in the place of one, with what this holds.
    pub(crate) fn enlarge_words(
        &mut self,
        name: &'static str,
        old: &SparseWords,
        len: u32,
    ) -> Result<SparseWords, NotEnlarged> {
        let make = |new: &Path| {
            Array::<_, u64>::create(len, MMAPABLE)?.pin(new)?;
            let words = SparseWords::open(MapData::from_pin(new)?.fd(), len)?;
            for (at, word) in old.all() {
                words.set(at, word)?;
            }
            Ok(words)
        };
        self.enlarge(name, make)
    }

    /// Puts a hash with room for more in the place of one, with what this holds.
    pub(crate) fn enlarge_hash<K: Pod>(
        &mut self,
        name: &'static str,
        old: &HashMap<MapData, K, u64>,
        len: u32,
    ) -> Result<HashMap<MapData, K, u64>, NotEnlarged> {
        let make = |new: &Path| {
            let mut larger = HashMap::create(len, NO_PREALLOC)?;
            for entry in old {
                let (key, word) = entry?;
                larger.insert(key, word, 0)?;
            }
            larger.pin(new)?;
            Ok(Map::from_map_data(MapData::from_pin(new)?)?.try_into()?)
        };
        self.enlarge(name, make)
    }

    /// Makes a map, loads the programs that use it once more with it, puts them in the place of those that run, and pins the map
    /// in the old one's place. Both maps hold the same meanwhile, so it does not matter which one a program reads.
    fn enlarge<M>(&mut self, name: &'static str, make: impl Fn(&Path) -> Result<M, Cause>) -> Result<M, NotEnlarged> {
        let new = self.pins.maps().join(format!("{name}-new")); // the file system takes no dots
        forget(&new);
        let (map, mut object, users) = self.make(name, &new, make).map_err(|error| {
            forget(&new);
            NotEnlarged::NoRoom(errno(&*error))
        })?;
        let replaced = self
            .give_links(&object, users.iter().copied())
            .and_then(|()| Ok(fs::rename(&new, self.pins.maps().join(name))?));
        if let Err(error) = replaced {
            forget(&new);
            self.whole = false;
            return match self.make_whole() {
                Ok(()) => Err(NotEnlarged::NoRoom(errno(&*error))),
                Err(_) => Err(NotEnlarged::Torn(error)),
            };
        }
        for user in users {
            // Both objects have it: it was loaded from both.
            if let (Some(old), Some(new)) = (self.object.ebpf.program_mut(user), object.ebpf.program_mut(user)) {
                std::mem::swap(old, new);
            }
        }
        Ok(map)
    }

    /// Makes the map, and loads the programs with it that use the old one. Nothing is in another's place yet.
    fn make<M>(
        &mut self,
        name: &'static str,
        new: &Path,
        make: impl Fn(&Path) -> Result<M, Cause>,
    ) -> Result<(M, Object, Vec<&'static str>), Cause> {
        self.make_whole()?;
        // Maps that are not there would be made anew and empty, while the agent writes to others.
        for map in &pinned::MAPS {
            fs::symlink_metadata(self.pins.maps().join(map.name))?;
        }
        let old_id = MapData::from_pin(self.pins.maps().join(name))?.info()?.id();
        let mut users = Vec::new();
        for program in object::programs() {
            if self.object.maps_of(program)?.contains(&old_id) {
                users.push(program);
            }
        }
        if users.is_empty() {
            return Err("what is pinned is not what the programs use".into());
        }
        let map = make(new)?;
        let object = Object::load_with(&self.pins, (name, new), &users)?;
        let new_id = MapData::from_pin(new)?.info()?.id();
        for user in &users {
            let mut wanted = self.object.maps_of(user)?;
            wanted.retain(|id| *id != old_id);
            let mut found = object.maps_of(user)?;
            found.retain(|id| *id != new_id);
            if found != wanted {
                return Err("another map is pinned than the programs use".into());
            }
        }
        Ok((map, object, users))
    }

    /// Gives every link of these programs that is pinned its program of this object, also those that this run has not attached.
    fn give_links(&self, object: &Object, names: impl Iterator<Item = &'static str>) -> Result<(), Cause> {
        for name in names {
            let pin = self.pins.links().join(name);
            if let Some(program) = object.program(name).filter(|_| pin.exists()) {
                link::replace(program, &pin)?;
            }
        }
        Ok(())
    }

    /// Detaches all programs, and removes all pins.
    pub(crate) fn remove(&mut self) -> Result<(), PinError> {
        for name in object::NODE.iter().chain(&object::PODS) {
            self.links.remove(name);
        }
        self.pins.remove(&[object::NODE, object::PODS].concat())?;
        self.links.clear();
        Ok(())
    }
}

/// The kernel's number of an error, or of what caused it.
fn errno(error: &(dyn Error + 'static)) -> Option<i32> {
    let of = |error: &(dyn Error + 'static)| {
        let call = error.downcast_ref::<SyscallError>().map(|error| &error.io_error);
        call.or_else(|| error.downcast_ref::<io::Error>())?.raw_os_error()
    };
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(errno) = of(error) {
            return Some(errno);
        }
        cause = error.source();
    }
    None
}

/// Removes what an enlargement that did not end has left.
fn forget(pin: &Path) {
    // Usually there is nothing. If something stays, the next pin fails and says so.
    let _: io::Result<()> = fs::remove_file(pin);
}
