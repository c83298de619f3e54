//! The maps. Their sizes here are only the smallest: the agent makes them as large as they must be.

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::btf_maps::{self, ArrayOfMaps, SkStorage};
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray};
use tandem_xdp_layout::{Address4, Address6, AffinityKey, FrontendKey, HeldKey, ListIndex, Pair, Pairs};

/// How many reasons there may be.
pub(crate) const REASONS: u32 = 32;
/// How many Service ports there may be.
const PORTS: u32 = ListIndex::COUNT / 2;

/// What the programs know of the node: see [`tandem_xdp_layout::Node`].
#[map]
pub(crate) static NODE: Array<u64> = Array::with_max_entries(4, BPF_F_MMAPABLE);

/// How many connections were left to nftables, by reason: IPv4's, then IPv6's.
#[map]
pub(crate) static LEFT: PerCpuArray<u64> = PerCpuArray::with_max_entries(2 * REASONS, 0);

/// No program uses it. An update of it waits until no program runs any more that ran before.
#[btf_map]
pub(crate) static GRACE: ArrayOfMaps<btf_maps::Array<u64, 1>, 1> = ArrayOfMaps::new();

macro_rules! family {
    ($address:ty: $switch:ident $frontends:ident $services:ident $lists:ident $addresses:ident $affinity:ident $taken:ident
     $held:ident $peers:ident $pairs:ident) => {
        #[map]
        pub(crate) static $switch: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);
        #[map]
        pub(crate) static $frontends: HashMap<FrontendKey<$address>, u64> =
            HashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);
        #[map]
        pub(crate) static $services: Array<u64> = Array::with_max_entries(ListIndex::COUNT, BPF_F_MMAPABLE);
        #[map]
        pub(crate) static $lists: Array<u64> = Array::with_max_entries(1024, BPF_F_MMAPABLE);
        #[map]
        pub(crate) static $addresses: HashMap<$address, u64> = HashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);
        #[map]
        pub(crate) static $affinity: LruHashMap<AffinityKey, u64> = LruHashMap::with_max_entries(16_384, 0);
        #[map]
        pub(crate) static $taken: Array<u64> = Array::with_max_entries(PORTS, BPF_F_MMAPABLE);
        #[map]
        pub(crate) static $held: HashMap<HeldKey<$address>, u64> = HashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);
        #[btf_map]
        pub(crate) static $peers: SkStorage<Pair<$address>> = SkStorage::new();
        #[btf_map]
        pub(crate) static $pairs: SkStorage<Pairs<$address>> = SkStorage::new();
    };
}

family!(Address4: SWITCH4 FRONTENDS4 SERVICES4 LISTS4 ADDRESSES4 AFFINITY4 TAKEN4 HELD4 PEERS4 PAIRS4);
family!(Address6: SWITCH6 FRONTENDS6 SERVICES6 LISTS6 ADDRESSES6 AFFINITY6 TAKEN6 HELD6 PEERS6 PAIRS6);
