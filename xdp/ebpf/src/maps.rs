//! What only the programs for sockets have.

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::btf_maps::{self, ArrayOfMaps, SkStorage};
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray};
use tandem_xdp_layout::{Address4, Address6, AffinityKey, HeldKey, Pair, Pairs, Reason};

/// How many reasons there may be.
pub(crate) const REASONS: u32 = Reason::PLACES;

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
    ($address:ty: $affinity:ident $held:ident $peers:ident $pairs:ident) => {
        #[map]
        pub(crate) static $affinity: LruHashMap<AffinityKey, u64> = LruHashMap::with_max_entries(16_384, 0);
        #[map]
        pub(crate) static $held: HashMap<HeldKey<$address>, u64> = HashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);
        #[btf_map]
        pub(crate) static $peers: SkStorage<Pair<$address>> = SkStorage::new();
        #[btf_map]
        pub(crate) static $pairs: SkStorage<Pairs<$address>> = SkStorage::new();
    };
}

family!(Address4: AFFINITY4 HELD4 PEERS4 PAIRS4);
family!(Address6: AFFINITY6 HELD6 PEERS6 PAIRS6);
