//! Which maps are pinned, and what each must be. aya takes whatever is pinned under a map's name.

use std::path::{Path, PathBuf};

use super::line::line;
use aya::maps::{MapData, MapError, MapType};
use tandem_xdp_layout::{
    Address4, Address6, AffinityKey, BUCKET, DEVICE_WORDS, DeviceKey, DeviceNumber, FlowAddress, FlowKey, FragmentKey,
    FrontendKey, HeldKey, IngressWord, ListIndex, PacketCount, PacketWords, Pair, Pairs, Reason, SourceKey, VisitorKey,
};

/// `BPF_F_MMAPABLE`: all arrays of words are made so.
pub(crate) const MMAPABLE: u32 = 1 << 10;

/// A map that outlives the agent.
#[derive(Debug)]
pub(crate) struct Pinned {
    pub(crate) name: &'static str,
    kind: MapType,
    key: usize,
    value: usize,
    /// How many entries it must have; none if it may be larger than it was made.
    entries: Option<u32>,
}

/// Why a pinned map is not used.
#[derive(Debug, thiserror::Error)]
pub enum Strange {
    /// It is another map.
    #[error("{path} is not the map that Tandem pins there ({what}): remove it, and Tandem makes it anew")]
    Other {
        /// Where it is pinned.
        path: PathBuf,
        /// What differs.
        what: String,
    },
    /// It cannot be opened.
    #[error("open {0}, where Tandem pins a map: {error}: remove it, and Tandem makes the map anew", error = line(.1))]
    Open(PathBuf, MapError),
}

/// The size of a word.
const WORD: usize = size_of::<u64>();
/// The words of the bits of ports: those of TCP, and those of UDP.
pub(crate) const PORT_WORDS: u32 = 2 * 65_536 / 64;
/// The size of the number of bits before a prefix.
const PREFIX: usize = size_of::<u32>();
/// The size of a place in an array, and of the key of socket storage.
const PLACE: usize = size_of::<u32>();

const fn array(name: &'static str, entries: Option<u32>) -> Pinned {
    map(name, MapType::Array, PLACE, WORD, entries)
}

const fn storage(name: &'static str, value: usize) -> Pinned {
    map(name, MapType::SkStorage, PLACE, value, None)
}

const fn map(name: &'static str, kind: MapType, key: usize, value: usize, entries: Option<u32>) -> Pinned {
    Pinned {
        name,
        kind,
        key,
        value,
        entries,
    }
}

const fn lru(name: &'static str, key: usize) -> Pinned {
    map(name, MapType::LruHash, key, WORD, None)
}

/// The maps with rows, which programs for packets read, too.
pub(crate) const ROWS: [&str; 16] = [
    "SWITCH4",
    "SWITCH6",
    "FRONTENDS4",
    "FRONTENDS6",
    "SERVICES4",
    "SERVICES6",
    "LISTS4",
    "LISTS6",
    "ADDRESSES4",
    "ADDRESSES6",
    "PORTS4",
    "PORTS6",
    "SOURCES4",
    "SOURCES6",
    "TAKEN4",
    "TAKEN6",
];

/// The maps of the programs for packets that outlive the agent.
pub(crate) const PACKETS: [Pinned; 15] = [
    map("PACKETS", MapType::Array, PLACE, size_of::<PacketWords>(), Some(1)),
    map(
        "PACKET_COUNTS",
        MapType::PerCpuArray,
        PLACE,
        WORD,
        Some(PacketCount::PLACES),
    ),
    array("DEVICES", Some(DEVICE_WORDS * DeviceNumber::COUNT as u32)),
    map("DEVICE_NUMBERS", MapType::Hash, size_of::<DeviceKey>(), WORD, None),
    array("INGRESS", Some(IngressWord::COUNT)),
    map("FLOWS4", MapType::Array, PLACE, WORD * Address4::WORDS as usize, None),
    map("FLOWS6", MapType::Array, PLACE, WORD * Address6::WORDS as usize, None),
    map("INDEX4", MapType::Array, PLACE, WORD * BUCKET as usize, None),
    map("INDEX6", MapType::Array, PLACE, WORD * BUCKET as usize, None),
    lru("HELD_FLOWS4", size_of::<FlowKey<Address4>>()),
    lru("HELD_FLOWS6", size_of::<FlowKey<Address6>>()),
    lru("VISITORS4", size_of::<VisitorKey<Address4>>()),
    lru("VISITORS6", size_of::<VisitorKey<Address6>>()),
    lru("FRAGMENTS4", size_of::<FragmentKey<Address4>>()),
    lru("FRAGMENTS6", size_of::<FragmentKey<Address6>>()),
];

/// The maps that outlive the agent: all but the one by which grace periods are waited for.
pub(crate) const MAPS: [Pinned; 26] = [
    array("NODE", Some(4)),
    map("LEFT", MapType::PerCpuArray, PLACE, WORD, Some(2 * Reason::PLACES)),
    array("SWITCH4", Some(1)),
    array("SWITCH6", Some(1)),
    map(
        "FRONTENDS4",
        MapType::Hash,
        size_of::<FrontendKey<Address4>>(),
        WORD,
        None,
    ),
    map(
        "FRONTENDS6",
        MapType::Hash,
        size_of::<FrontendKey<Address6>>(),
        WORD,
        None,
    ),
    array("SERVICES4", Some(ListIndex::COUNT)),
    array("SERVICES6", Some(ListIndex::COUNT)),
    array("LISTS4", None),
    array("LISTS6", None),
    map("ADDRESSES4", MapType::Hash, size_of::<Address4>(), WORD, None),
    map("ADDRESSES6", MapType::Hash, size_of::<Address6>(), WORD, None),
    array("PORTS4", Some(PORT_WORDS)),
    array("PORTS6", Some(PORT_WORDS)),
    map(
        "SOURCES4",
        MapType::LpmTrie,
        PREFIX + size_of::<SourceKey<Address4>>(),
        WORD,
        None,
    ),
    map(
        "SOURCES6",
        MapType::LpmTrie,
        PREFIX + size_of::<SourceKey<Address6>>(),
        WORD,
        None,
    ),
    map("AFFINITY4", MapType::LruHash, size_of::<AffinityKey>(), WORD, None),
    map("AFFINITY6", MapType::LruHash, size_of::<AffinityKey>(), WORD, None),
    array("TAKEN4", Some(ListIndex::COUNT)),
    array("TAKEN6", Some(ListIndex::COUNT)),
    map("HELD4", MapType::Hash, size_of::<HeldKey<Address4>>(), WORD, None),
    map("HELD6", MapType::Hash, size_of::<HeldKey<Address6>>(), WORD, None),
    storage("PEERS4", size_of::<Pair<Address4>>()),
    storage("PEERS6", size_of::<Pair<Address6>>()),
    storage("PAIRS4", size_of::<Pairs<Address4>>()),
    storage("PAIRS6", size_of::<Pairs<Address6>>()),
];

impl Pinned {
    /// Looks whether what is pinned is this map. Nothing may be pinned yet.
    pub(crate) fn check(&self, pin: &Path) -> Result<(), Strange> {
        if !pin.exists() {
            return Ok(());
        }
        let failed = |error| Strange::Open(pin.to_owned(), error);
        let info = MapData::from_pin(pin).and_then(|map| map.info()).map_err(failed)?;
        let kind = info.map_type().map_err(failed)?;
        let sizes = (info.key_size() as usize, info.value_size() as usize);
        let what = if kind != self.kind {
            format!("it is of the kind {kind:?} instead of {:?}", self.kind)
        } else if sizes != (self.key, self.value) {
            format!(
                "its keys and values have {} and {} bytes instead of {} and {}",
                sizes.0, sizes.1, self.key, self.value
            )
        } else if kind == MapType::Array && info.map_flags() & MMAPABLE == 0 {
            "its memory cannot be mapped".to_owned()
        } else if let Some(entries) = self.entries.filter(|entries| *entries != info.max_entries()) {
            format!("it has {} entries instead of {entries}", info.max_entries())
        } else {
            return Ok(());
        };
        Err(Strange::Other {
            path: pin.to_owned(),
            what,
        })
    }
}
