//! How large the maps are, how full, and how much memory they take. Asked for by people, and never on the way of a change.

use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::PathBuf;
use std::{fs, io};

use aya::maps::{HashMap, Map, MapData, MapError};
use tandem_core::family::IpFamily;
use tandem_xdp_layout::{Address, Address4, Address6, AffinityKey, FrontendKey, HeldKey, List, ListIndex, ServiceWord};

use super::hash::Raw;
use super::memory::Words;
use super::pin::Pins;
use super::pinned;
use crate::store::Lists;

/// A map as it is at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapUse {
    /// Its name, as `bpftool map` shows it too.
    pub name: &'static str,
    /// The family that it serves; none if it serves both.
    pub family: Option<IpFamily>,
    /// The largest number of elements; for lists, of words. None for what sockets remember, which grows with them.
    pub room: Option<u32>,
    /// The elements in use; for lists, the words of lists that something leads to. None if nobody can tell.
    pub used: Option<u32>,
    /// The bytes of memory that the kernel counts for it. What sockets remember is counted for the sockets.
    pub bytes: u64,
}

/// Why a map cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// It cannot be opened or read.
    #[error("look at the pinned map {0}")]
    Map(PathBuf, #[source] MapError),
    /// Its memory cannot be mapped, or the kernel does not say how much it is.
    #[error("look at the pinned map {0}")]
    Memory(PathBuf, #[source] io::Error),
}

/// All maps that outlive the agent, in the order of their names' list. They are opened by their pins, so this holds nobody up.
pub(crate) fn all(pins: &Pins) -> Result<Vec<MapUse>, UsageError> {
    pinned::MAPS.iter().map(|map| one(pins, map.name)).collect()
}

fn one(pins: &Pins, name: &'static str) -> Result<MapUse, UsageError> {
    let pin = pins.maps().join(name);
    let wrong = |error| UsageError::Map(pin.clone(), error);
    let data = MapData::from_pin(&pin).map_err(wrong)?;
    let room = data.info().map_err(wrong)?.max_entries();
    let bytes = memory(&data).map_err(|error| UsageError::Memory(pin.clone(), error))?;
    let family = match name.as_bytes().last() {
        Some(b'4') => Some(IpFamily::V4),
        Some(b'6') => Some(IpFamily::V6),
        _ => None,
    };
    let used = match name.trim_end_matches(['4', '6']) {
        "FRONTENDS" if family == Some(IpFamily::V4) => Some(keys::<FrontendKey<Address4>>(data, room).map_err(wrong)?),
        "FRONTENDS" => Some(keys::<FrontendKey<Address6>>(data, room).map_err(wrong)?),
        "ADDRESSES" if family == Some(IpFamily::V4) => Some(keys::<Address4>(data, room).map_err(wrong)?),
        "ADDRESSES" => Some(keys::<Address6>(data, room).map_err(wrong)?),
        "HELD" if family == Some(IpFamily::V4) => Some(keys::<HeldKey<Address4>>(data, room).map_err(wrong)?),
        "HELD" => Some(keys::<HeldKey<Address6>>(data, room).map_err(wrong)?),
        "AFFINITY" => Some(keys::<AffinityKey>(data, room).map_err(wrong)?),
        "SERVICES" => Some(lists(&open(pins, name)?).count()),
        "LISTS" if family == Some(IpFamily::V4) => Some(words::<Address4>(pins, "SERVICES4", name)?),
        "LISTS" => Some(words::<Address6>(pins, "SERVICES6", name)?),
        "TAKEN" => Some(open(pins, name)?.all().filter(|(_, count)| *count > 0).count()),
        _ => None,
    };
    Ok(MapUse {
        name,
        family,
        room: (room > 0).then_some(room),
        used: used.map(|used| u32::try_from(used).unwrap_or(u32::MAX)),
        bytes,
    })
}

/// How many keys there are. A key that goes while it is asked for what follows it has the kernel begin again, so the count ends
/// at what there is room for.
fn keys<K: Copy + 'static>(data: MapData, room: u32) -> Result<usize, MapError> {
    let map = match data.info()?.map_type()? {
        aya::maps::MapType::LruHash => Map::LruHashMap(data),
        _ => Map::HashMap(data),
    };
    let map: HashMap<MapData, Raw<K>, u64> = map.try_into()?;
    let mut count = 0;
    for key in map.keys().take(room as usize) {
        key?;
        count += 1;
    }
    Ok(count)
}

/// Maps the memory of an array.
fn open(pins: &Pins, name: &str) -> Result<Words, UsageError> {
    let pin = pins.maps().join(name);
    let wrong = |error| UsageError::Map(pin.clone(), error);
    let data = MapData::from_pin(&pin).map_err(wrong)?;
    let len = data.info().map_err(wrong)?.max_entries();
    Words::map(data.fd(), len).map_err(|error| UsageError::Memory(pin, error))
}

/// The words of numbers that have a list or another answer.
fn lists(services: &Words) -> impl Iterator<Item = (u32, ServiceWord)> + '_ {
    let words = services.all().map(|(at, word)| (at, ServiceWord(word)));
    words.filter(|(_, word)| word.way().is_some())
}

/// How many words lists take to which numbers lead.
fn words<A: Address>(pins: &Pins, services: &str, lists_of: &str) -> Result<usize, UsageError> {
    let services = open(pins, services)?;
    let of_lists = open(pins, lists_of)?;
    let read = Lists(|place| of_lists.get(place));
    let mut used = 0;
    for (at, word) in lists(&services) {
        let list: Option<List<A>> = List::at(&read, word.place()).filter(|_| word.place() > 0);
        // A list that was replaced a moment ago may be another one's by now.
        let own = list.filter(|list| Some(list.header.index) == ListIndex::new(at));
        used += own.map_or(0, |list| list.header.size::<A>() as usize);
    }
    Ok(used)
}

/// The bytes that the kernel counts for a map. Before 6.4 it counts hashes as if they were full.
pub(super) fn memory(map: &MapData) -> io::Result<u64> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd()))?;
    let line = info.lines().find_map(|line| line.strip_prefix("memlock:"));
    let bytes = line.and_then(|line| line.trim().parse().ok());
    bytes.ok_or_else(|| io::Error::other("the kernel does not say how much memory it takes"))
}
