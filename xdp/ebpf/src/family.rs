//! The maps of one family that only the programs for sockets have.

use aya_ebpf::btf_maps::SkStorage;
use aya_ebpf::maps::{HashMap, LruHashMap};
use tandem_xdp_layout::{Address4, Address6, AffinityKey, Endpoint, HeldKey, ListIndex, Pair, Pairs, Reason};

use crate::maps::{AFFINITY4, AFFINITY6, HELD4, HELD6, LEFT, PAIRS4, PAIRS6, PEERS4, PEERS6, REASONS};
use crate::rows::{self, Rows};
use crate::sockets::context::Call;

/// An address family, by its addresses.
pub(crate) trait Family: Rows {
    const AFFINITY: &'static LruHashMap<AffinityKey, u64>;
    const HELD: &'static HashMap<HeldKey<Self>, u64>;
    const PEERS: &'static SkStorage<Pair<Self>>;
    const PAIRS: &'static SkStorage<Pairs<Self>>;
    /// Where its counts begin.
    const COUNTS: u32;

    /// Whether a datagram is given a source of its own. Only programs for `sendmsg` may ask.
    fn has_message_source(call: &Call<'_>) -> bool;
}

macro_rules! family {
    ($address:ty, $counts:expr, $affinity:ident $held:ident $peers:ident $pairs:ident $source:ident) => {
        impl Family for $address {
            const AFFINITY: &'static LruHashMap<AffinityKey, u64> = &$affinity;
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

family!(Address4, 0, AFFINITY4 HELD4 PEERS4 PAIRS4 has_message_source4);
family!(Address6, REASONS, AFFINITY6 HELD6 PEERS6 PAIRS6 has_message_source6);

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
    rows::count::<A>(list.port());
}
