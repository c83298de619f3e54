//! The maps of one family.

use aya_ebpf::btf_maps::SkStorage;
use aya_ebpf::maps::{Array, HashMap, LruHashMap};
use tandem_xdp_layout::{
    Address, Address4, Address6, AffinityKey, Endpoint, FrontendKey, HeldKey, ListIndex, Maps, Pair, Pairs, Reason,
    Switch,
};

use crate::atomic;
use crate::maps::{
    ADDRESSES4, ADDRESSES6, AFFINITY4, AFFINITY6, FRONTENDS4, FRONTENDS6, HELD4, HELD6, LEFT, LISTS4, LISTS6, PAIRS4,
    PAIRS6, PEERS4, PEERS6, REASONS, SERVICES4, SERVICES6, SWITCH4, SWITCH6, TAKEN4, TAKEN6,
};
use crate::sockets::context::Call;

/// An address family, by its addresses.
pub(crate) trait Family: Address + 'static {
    const SWITCH: &'static Array<u64>;
    const FRONTENDS: &'static HashMap<FrontendKey<Self>, u64>;
    const SERVICES: &'static Array<u64>;
    const LISTS: &'static Array<u64>;
    const ADDRESSES: &'static HashMap<Self, u64>;
    const AFFINITY: &'static LruHashMap<AffinityKey, u64>;
    const TAKEN: &'static Array<u64>;
    const HELD: &'static HashMap<HeldKey<Self>, u64>;
    const PEERS: &'static SkStorage<Pair<Self>>;
    const PAIRS: &'static SkStorage<Pairs<Self>>;
    /// Where its counts begin.
    const COUNTS: u32;

    /// Whether a datagram is given a source of its own. Only programs for `sendmsg` may ask.
    fn has_message_source(call: &Call<'_>) -> bool;
}

macro_rules! family {
    ($address:ty, $counts:expr, $switch:ident $frontends:ident $services:ident $lists:ident $addresses:ident $affinity:ident
     $taken:ident $held:ident $peers:ident $pairs:ident $source:ident) => {
        impl Family for $address {
            const SWITCH: &'static Array<u64> = &$switch;
            const FRONTENDS: &'static HashMap<FrontendKey<Self>, u64> = &$frontends;
            const SERVICES: &'static Array<u64> = &$services;
            const LISTS: &'static Array<u64> = &$lists;
            const ADDRESSES: &'static HashMap<Self, u64> = &$addresses;
            const AFFINITY: &'static LruHashMap<AffinityKey, u64> = &$affinity;
            const TAKEN: &'static Array<u64> = &$taken;
            const HELD: &'static HashMap<HeldKey<Self>, u64> = &$held;
            const PEERS: &'static SkStorage<Pair<Self>> = &$peers;
            const PAIRS: &'static SkStorage<Pairs<Self>> = &$pairs;
            const COUNTS: u32 = $counts;

            #[inline(always)]
            fn has_message_source(call: &Call<'_>) -> bool {
                call.$source()
            }
        }
    };
}

family!(Address4, 0, SWITCH4 FRONTENDS4 SERVICES4 LISTS4 ADDRESSES4 AFFINITY4 TAKEN4 HELD4 PEERS4 PAIRS4
        has_message_source4);
family!(Address6, REASONS, SWITCH6 FRONTENDS6 SERVICES6 LISTS6 ADDRESSES6 AFFINITY6 TAKEN6 HELD6 PEERS6 PAIRS6
        has_message_source6);

/// The switch of a family.
#[inline(always)]
pub(crate) fn switch<A: Family>() -> Switch {
    A::SWITCH
        .get_ptr(0)
        .map_or(Switch::OFF, |word| Switch(atomic::read(word)))
}

/// The endpoint of a connection that is taken. One that is left to nftables is counted, unless it goes to no frontend.
#[inline(always)]
pub(crate) fn taken<A: Family>(result: Result<Endpoint<A>, Reason>) -> Option<Endpoint<A>> {
    let reason = match result {
        Ok(endpoint) => return Some(endpoint),
        Err(reason) => reason,
    };
    if reason != Reason::NoFrontend
        && let Some(count) = LEFT.get_ptr_mut(A::COUNTS + reason.number())
    {
        // SAFETY: the count is this processor's own.
        unsafe { *count += 1 };
    }
    None
}

/// Counts a connection that is taken.
#[inline(always)]
pub(crate) fn count_taken<A: Family>(list: ListIndex) {
    if let Some(count) = A::TAKEN.get_ptr_mut(list.port()) {
        atomic::add_one(count);
    }
}

/// The maps of one family, as the layout's readers see them.
pub(crate) struct Kernel;

impl<A: Family> Maps<A> for Kernel {
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
