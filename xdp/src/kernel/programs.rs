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
use super::object::{self, Object, Sizes};
use super::pin::Pins;
use super::pinned;
use super::sparse::SparseWords;

/// Whose calls programs take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The node's own: the folder is the topmost one.
    Node,
    /// The pods': the folder is kubelet's.
    Pods,
}

/// Why a map was not enlarged.
#[derive(Debug)]
pub(crate) enum NotEnlarged {
    /// A larger one was not to be had, for which the kernel may have given a number. Everything is as it was.
    NoRoom(Option<i32>),
    /// Some programs may have the larger one, and others not.
    Torn(Cause),
}

/// `BPF_F_MMAPABLE` and `BPF_F_NO_PREALLOC`
const MMAPABLE: u32 = 1 << 10;
const NO_PREALLOC: u32 = 1;

/// The programs.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) object: Object,
    pins: Pins,
    /// The links, by the names of their programs. A link that is dropped and not pinned any more is gone.
    links: BTreeMap<&'static str, PinnedLink>,
}

impl Programs {
    pub(crate) fn new(object: Object, pins: Pins) -> Self {
        Self {
            object,
            pins,
            links: BTreeMap::new(),
        }
    }

    /// Attaches the programs to a folder, and to no other one any more.
    pub(crate) fn attach(&mut self, who: Who, folder: &Path) -> Result<Attached, AttachError> {
        let (own, both): (&[_], &[_]) = match who {
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
            self.links.insert(name, link);
        }
        Ok(attached)
    }

    /// Detaches what translates.
    pub(crate) fn detach(&mut self, who: Who) -> Result<(), super::PinError> {
        let own = match who {
            Who::Node => &object::NODE,
            Who::Pods => &object::PODS,
        };
        for name in own {
            self.links.remove(name);
            self.pins.remove_link(name)?;
        }
        Ok(())
    }

    /// Whether each program is attached by a link that is pinned.
    pub(crate) fn is_attached(&self, who: Who) -> bool {
        let (own, both): (&[_], &[_]) = match who {
            Who::Node => (&object::NODE, &object::REVERSE),
            Who::Pods => (&object::PODS, &[]),
        };
        let mut names = own.iter().chain(both);
        names.all(|name| self.links.contains_key(name) && self.pins.links().join(name).exists())
    }

    /// Puts an array of more words in the place of one, with what this holds. Its family must be off meanwhile.
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

    /// Puts a hash with room for more in the place of one, with what this holds. Its family must be off meanwhile.
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

    /// Makes a map, loads the programs with it, puts them in the place of those that run, and pins the map in the old one's place.
    fn enlarge<M>(&mut self, name: &'static str, make: impl Fn(&Path) -> Result<M, Cause>) -> Result<M, NotEnlarged> {
        let new = self.pins.maps().join(format!("{name}-new")); // the file system takes no dots
        forget(&new);
        let (map, object) = self.make(name, &new, make).map_err(|error| {
            forget(&new);
            NotEnlarged::NoRoom(errno(&*error))
        })?;
        let replaced = self
            .give_links(&object)
            .and_then(|()| Ok(fs::rename(&new, self.pins.maps().join(name))?));
        if let Err(error) = replaced {
            forget(&new);
            return match self.give_links(&self.object) {
                Ok(()) => Err(NotEnlarged::NoRoom(errno(&*error))),
                Err(_) => Err(NotEnlarged::Torn(error)),
            };
        }
        self.object = object;
        Ok(map)
    }

    /// Makes the map, and loads the programs with it. Nothing is in another's place yet.
    fn make<M>(
        &self,
        name: &'static str,
        new: &Path,
        make: impl Fn(&Path) -> Result<M, Cause>,
    ) -> Result<(M, Object), Cause> {
        // Maps that are not there would be made anew and empty, while the agent writes to others.
        for map in &pinned::MAPS {
            fs::symlink_metadata(self.pins.maps().join(map.name))?;
        }
        let map = make(new)?;
        Ok((
            map,
            Object::load_with(&Sizes::default(), &self.pins, Some((name, new)))?,
        ))
    }

    /// Gives every link that is pinned its program of this object, also those that this run has not attached.
    fn give_links(&self, object: &Object) -> Result<(), Cause> {
        for name in object::programs() {
            let pin = self.pins.links().join(name);
            let program = object.ebpf.program(name).and_then(|program| program.try_into().ok());
            if let Some(program) = program.filter(|_| pin.exists()) {
                link::replace(program, &pin)?;
            }
        }
        Ok(())
    }

    /// Detaches all programs, and removes all pins.
    pub(crate) fn remove(&mut self) -> Result<(), super::PinError> {
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
