//! `sendto` and `sendmsg` of a UDP socket that is not connected.

use tandem_xdp_layout::{Endpoint, HeldKey, List, PAIRS, Pair, Reason};

use crate::atomic;
use crate::family::{Family, count_taken, taken};
use crate::rows::{Kernel, switch};
use crate::sockets::context::{Call, UDP};
use crate::sockets::rewrite::Rewrite;
use crate::sockets::{Who, find};

/// A program sends a datagram.
pub(crate) struct Send(pub(crate) Who);

impl Rewrite for Send {
    #[inline(always)]
    fn rewrite<A: Family>(&self, call: &Call<'_>, to: Endpoint<A>) -> Option<Endpoint<A>> {
        taken::<A>(choose(call, to, self.0))
    }
}

#[inline(always)]
fn choose<A: Family>(call: &Call<'_>, to: Endpoint<A>, who: Who) -> Result<Endpoint<A>, Reason> {
    let switch = switch::<A>();
    if !switch.is_on() {
        return Err(Reason::NoFrontend);
    }
    let protocol = call.protocol();
    if !call.is_of(who) {
        if who == Who::Node && call.is_no_pod() {
            find::frontend(to, protocol, switch, who)?;
            return Err(Reason::NoPod);
        }
        return Err(Reason::NoFrontend);
    }
    let frontend = find::frontend(to, protocol, switch, who)?;
    if protocol != UDP {
        return Err(Reason::Protocol);
    }
    // It also takes an address with each datagram. Its answers must come from its peer.
    if call.has_peer() {
        return Err(Reason::ConnectedUdp);
    }
    // nftables masquerades such a source where it must.
    if call.has_source() || A::has_message_source(call) {
        return Err(Reason::Bound);
    }
    let list = find::list::<A>(call, frontend, switch, who)?;
    // A socket that nftables served when sockets were switched on, and that it still serves, stays there.
    if switch.has_held() && A::HELD.get_ptr(&HeldKey::new(to, call.own_port())).is_some() {
        return Err(Reason::Held);
    }
    // SAFETY: the socket of the context lives as long as the program runs.
    let known = unsafe { A::PAIRS.get_ptr_mut(call.0) };
    if !known.is_null() {
        return known_socket(call, to, &list, known.cast());
    }
    let (endpoint, slot) = find::endpoint(call, &list)?;
    // SAFETY: as above. Without a value, the memory is all zeros, which are empty pairs.
    let stored = unsafe { A::PAIRS.get_or_insert_ptr_mut(call.0, None) };
    if stored.is_null() {
        return Err(Reason::NoMemory);
    }
    put_first(stored.cast(), 0, Pair::new(to, endpoint, slot));
    count_taken::<A>(list.header.index);
    Ok(endpoint)
}

/// The endpoint of a socket that has sent to frontends before.
#[inline(always)]
fn known_socket<A: Family>(
    call: &Call<'_>,
    to: Endpoint<A>,
    list: &List<A>,
    pairs: *mut Pair<A>,
) -> Result<Endpoint<A>, Reason> {
    let mut at = 0;
    let known = loop {
        // SAFETY: the memory has `PAIRS` pairs, and `at` is less.
        let pair = unsafe { &*pairs.add(at) };
        let known = !pair.is_empty() && pair.frontend() == to;
        if known || pair.is_empty() {
            break known;
        }
        at += 1;
        if at == PAIRS {
            return Err(Reason::FifthFrontend);
        }
    };
    let found = call.unknown(at as u64 | u64::from(known) << 8);
    let (at, known) = (found as usize % PAIRS, found >> 8 & 1 == 1);
    // SAFETY: `at` is less than the number of pairs.
    let pair = unsafe { &*pairs.add(at) };
    if known && pair.is_left() {
        return Err(Reason::SameEndpoint);
    }
    let before = pair.endpoint();
    if known && let Some(slot) = list.slot_again(&Kernel, before, pair.slot()) {
        // Most often it is the newest frontend, and nothing has moved.
        if at > 0 || slot != pair.slot() {
            put_first(pairs, at, Pair::new(to, before, slot));
        }
        return Ok(before);
    }
    // The endpoint does not stand in the list any more: the next datagram goes elsewhere.
    let (endpoint, slot) = find::endpoint(call, list)?;
    // nftables tells answers apart by the port that it gives to the socket there. It keeps the frontend from now on, so that the
    // socket stays with one endpoint.
    if has_endpoint(pairs, to, endpoint) {
        put_first(pairs, at, Pair::left(to));
        return Err(Reason::SameEndpoint);
    }
    put_first(pairs, at, Pair::new(to, endpoint, slot));
    count_taken::<A>(list.header.index);
    Ok(endpoint)
}

/// Whether a socket has an endpoint at another frontend than this one.
#[inline(always)]
fn has_endpoint<A: Family>(pairs: *const Pair<A>, frontend: Endpoint<A>, endpoint: Endpoint<A>) -> bool {
    let mut has = false;
    for at in 0..PAIRS {
        // SAFETY: the memory has `PAIRS` pairs, and `at` is less.
        let pair = unsafe { &*pairs.add(at) };
        has |= !pair.is_empty() && pair.endpoint() == endpoint && pair.frontend() != frontend;
    }
    has
}

/// Puts a pair in the first place, and the first one where this was.
#[inline(always)]
fn put_first<A: Family>(pairs: *mut Pair<A>, at: usize, pair: Pair<A>) {
    if at > 0 && at < PAIRS {
        // SAFETY: the memory has `PAIRS` pairs, and `at` is less.
        atomic::copy(pairs.cast_const(), unsafe { pairs.add(at) });
    }
    atomic::copy(&raw const pair, pairs);
}
