//! The rows of nftables, as both kinds of programs read them.

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LpmTrie};
use tandem_xdp_layout::{Address, Address4, Address6, FrontendKey, ListIndex, Maps, SourceKey, Switch};

use crate::atomic;

/// The words of the bits of ports: those of TCP, and those of UDP.
const PORT_WORDS: u32 = 2 * 65_536 / 64;
/// The most source ranges. Those that are not there take no memory.
const MOST_SOURCES: u32 = 262_144;

/// An address family, by its addresses: the maps with its rows.
pub(crate) trait Rows: Address + 'static {
    const SWITCH: &'static Array<u64>;
    const FRONTENDS: &'static HashMap<FrontendKey<Self>, u64>;
    const SERVICES: &'static Array<u64>;
    const LISTS: &'static Array<u64>;
    const ADDRESSES: &'static HashMap<Self, u64>;
    /// A bit for each port of TCP, then of UDP: whether a frontend for packets from outside may have it.
    const PORTS: &'static Array<u64>;
    /// The sources that may reach frontends which only some may reach.
    const SOURCES: &'static LpmTrie<SourceKey<Self>, u64>;
    /// How many connections each Service port has taken: those of sockets, then those from outside.
    const TAKEN: &'static Array<u64>;
}

// The sizes here are only the smallest: the agent makes the maps as large as they must be.
macro_rules! family {
    ($address:ty: $switch:ident $frontends:ident $services:ident $lists:ident $addresses:ident $ports:ident $sources:ident $taken:ident) => {
        #[map]
        static $switch: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);
        #[map]
        static $frontends: HashMap<FrontendKey<$address>, u64> = HashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);
        #[map]
        static $services: Array<u64> = Array::with_max_entries(ListIndex::COUNT, BPF_F_MMAPABLE);
        #[map]
        static $lists: Array<u64> = Array::with_max_entries(1024, BPF_F_MMAPABLE);
        #[map]
        static $addresses: HashMap<$address, u64> = HashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);
        #[map]
        static $ports: Array<u64> = Array::with_max_entries(PORT_WORDS, BPF_F_MMAPABLE);
        #[map]
        static $sources: LpmTrie<SourceKey<$address>, u64> =
            LpmTrie::with_max_entries(MOST_SOURCES, BPF_F_NO_PREALLOC);
        #[map]
        static $taken: Array<u64> = Array::with_max_entries(ListIndex::COUNT, BPF_F_MMAPABLE);

        impl Rows for $address {
            const SWITCH: &'static Array<u64> = &$switch;
            const FRONTENDS: &'static HashMap<FrontendKey<Self>, u64> = &$frontends;
            const SERVICES: &'static Array<u64> = &$services;
            const LISTS: &'static Array<u64> = &$lists;
            const ADDRESSES: &'static HashMap<Self, u64> = &$addresses;
            const PORTS: &'static Array<u64> = &$ports;
            const SOURCES: &'static LpmTrie<SourceKey<Self>, u64> = &$sources;
            const TAKEN: &'static Array<u64> = &$taken;
        }
    };
}

family!(Address4: SWITCH4 FRONTENDS4 SERVICES4 LISTS4 ADDRESSES4 PORTS4 SOURCES4 TAKEN4);
family!(Address6: SWITCH6 FRONTENDS6 SERVICES6 LISTS6 ADDRESSES6 PORTS6 SOURCES6 TAKEN6);

/// Counts a connection at this place.
#[inline(always)]
pub(crate) fn count<A: Rows>(place: u32) {
    if let Some(count) = A::TAKEN.get_ptr_mut(place) {
        atomic::add_one(count);
    }
}

/// The switch of a family.
#[inline(always)]
pub(crate) fn switch<A: Rows>() -> Switch {
    A::SWITCH
        .get_ptr(0)
        .map_or(Switch::OFF, |word| Switch(atomic::read(word)))
}

/// The maps of one family, as the layout's readers see them.
pub(crate) struct Kernel;

impl<A: Rows> Maps<A> for Kernel {
    #[inline(always)]
    fn frontend(&self, key: &FrontendKey<A>) -> Option<u64> {
        A::FRONTENDS.get_ptr(key).map(atomic::read)
    }

    #[inline(always)]
    fn has_address(&self, addr: &A) -> bool {
        A::ADDRESSES.get_ptr(addr).is_some()
    }

    #[inline(always)]
    fn service(&self, index: ListIndex) -> Option<u64> {
        A::SERVICES.get_ptr(index.get()).map(atomic::read)
    }

    #[inline(always)]
    fn word(&self, place: u32) -> Option<u64> {
        A::LISTS.get_ptr(place).map(atomic::read)
    }
}
