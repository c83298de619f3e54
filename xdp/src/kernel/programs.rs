//! The loaded programs and where they are attached. They can be loaded once more with a larger map, while they run.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::{fs, io};

use aya::Pod;
use aya::maps::{Array, HashMap, Map, MapData};
use aya::programs::CgroupSockAddr;
use aya::programs::links::PinnedLink;
use aya::sys::SyscallError;
use tandem_core::plane::Cause;

use super::link::{self, AttachError, Attached};
use super::object::{self, Object};
use super::packets::attach::{self, DeviceError, DevicePin, Mode};
use super::packets::object::PacketsObject;
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
    /// The programs for packets, if they are loaded.
    packets: Option<Arc<PacketsObject>>,
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
            packets: None,
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
            self.packets
                .as_ref()
                .map_or(Ok(()), |packets| attach::give(packets, &self.pins))?;
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
        let Larger {
            map,
            mut object,
            users,
            packets,
        } = self.make(name, &new, make).map_err(|error| {
            forget(&new);
            NotEnlarged::NoRoom(errno(&*error))
        })?;
        let replaced = self
            .give_links(&object, users.iter().copied())
            .and_then(|()| {
                packets
                    .as_ref()
                    .map_or(Ok(()), |packets| Ok(attach::give(packets, &self.pins)?))
            })
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
        if packets.is_some() {
            self.packets = packets;
        }
        Ok(map)
    }

    /// Makes the map, and loads the programs with it that use the old one. Nothing is in another's place yet.
    fn make<M>(
        &mut self,
        name: &'static str,
        new: &Path,
        make: impl Fn(&Path) -> Result<M, Cause>,
    ) -> Result<Larger<M>, Cause> {
        self.make_whole()?;
        // Maps that are not there would be made anew and empty, while the agent writes to others.
        let of_packets = self.packets.iter().flat_map(|_| &pinned::PACKETS);
        for map in pinned::MAPS.iter().chain(of_packets) {
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
        let same = |mut before: Vec<u32>, mut after: Vec<u32>| {
            before.retain(|id| *id != old_id);
            after.retain(|id| *id != new_id);
            before == after
        };
        let others = || Err("another map is pinned than the programs use".into());
        for user in &users {
            if !same(self.object.maps_of(user)?, object.maps_of(user)?) {
                return others();
            }
        }
        let packets = match &self.packets {
            Some(before) if before.uses(old_id)? => {
                let after = PacketsObject::load_with(&self.pins, (name, new))?;
                if !after.has_same_maps(before, same)? {
                    return others();
                }
                Some(Arc::new(after))
            }
            _ => None,
        };
        Ok(Larger {
            map,
            object,
            users,
            packets,
        })
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

    /// Takes the loaded programs for packets.
    pub(crate) fn put_packets(&mut self, object: PacketsObject) {
        self.packets = Some(Arc::new(object));
        // An earlier run may have ended while it enlarged a map.
        self.whole = false;
    }

    /// The loaded programs for packets.
    pub(crate) fn packets(&self) -> Option<Arc<PacketsObject>> {
        self.packets.clone()
    }

    /// Lets go of the programs for packets. What is attached stays.
    pub(crate) fn forget_packets(&mut self) {
        self.packets = None;
    }

    /// The same, to load more of them. Nobody else may use them at this moment.
    #[cfg(any(test, feature = "samples"))]
    pub(crate) fn packets_mut(&mut self) -> Option<&mut PacketsObject> {
        self.packets.as_mut().and_then(Arc::get_mut)
    }

    /// Attaches a program to a device.
    pub(crate) fn attach_device(&self, index: u32, mode: Mode, parts: bool) -> Result<Attached, DeviceError> {
        let wanted = DevicePin { index, mode, parts };
        match &self.packets {
            Some(packets) => attach::attach(packets, &self.pins, wanted),
            None => Err(DeviceError::Refused("the programs are not loaded".to_owned())),
        }
    }

    /// Detaches what is attached to a device.
    pub(crate) fn detach_device(&self, index: u32) -> Result<(), PinError> {
        attach::detach(&self.pins, index)
    }

    /// The links to devices that are pinned, and whether each still is attached.
    pub(crate) fn devices(&self) -> Vec<(DevicePin, bool)> {
        attach::pinned(&self.pins.links())
    }

    /// The numbers of the programs of these links.
    pub(crate) fn device_programs(&self) -> Vec<u32> {
        attach::programs(&self.pins.links())
    }

    /// Pins maps of packets again whose pins somebody deleted.
    pub(crate) fn pin_packets_again(&self) -> Result<(), PinError> {
        self.pins.make()?;
        let Some(packets) = &self.packets else { return Ok(()) };
        for map in &pinned::PACKETS {
            let pin = self.pins.maps().join(map.name);
            if let Some(map) = packets.map(map.name).filter(|_| !pin.exists()) {
                map.pin(&pin)
                    .map_err(|error| PinError::Folder(pin, io::Error::other(error)))?;
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

/// What an enlargement made.
struct Larger<M> {
    map: M,
    object: Object,
    /// The programs of it that are loaded.
    users: Vec<&'static str>,
    /// The programs for packets, if they use the map.
    packets: Option<Arc<PacketsObject>>,
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
