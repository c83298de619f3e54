//! `recvmsg` and `getpeername` show the frontend that a program asked for, and not the endpoint.

use aya_ebpf::programs::SockAddrContext;
use tandem_xdp_layout::{Endpoint, PAIRS};

use crate::family::Family;
use crate::sockets::context::{Call, mapped};

/// A datagram from an IPv4 address is read.
#[inline(always)]
pub(crate) fn recvmsg4(ctx: &SockAddrContext) {
    let call = Call(ctx);
    if let Some(frontend) = sender(&call, call.v4()) {
        call.set_v4(frontend);
    }
}

/// A datagram is read by an IPv6 socket, perhaps from an IPv4 address.
#[inline(always)]
pub(crate) fn recvmsg6(ctx: &SockAddrContext) {
    let call = Call(ctx);
    let from = call.v6();
    match mapped(from) {
        Some(from) => {
            if let Some(frontend) = sender(&call, from) {
                call.set_mapped(frontend);
            }
        }
        None => {
            if let Some(frontend) = sender(&call, from) {
                call.set_v6(frontend);
            }
        }
    }
}

/// A program asks for the peer of an IPv4 socket.
#[inline(always)]
pub(crate) fn getpeername4(ctx: &SockAddrContext) {
    let call = Call(ctx);
    if let Some(frontend) = peer(&call, call.v4()) {
        call.set_v4(frontend);
    }
}

/// A program asks for the peer of an IPv6 socket, perhaps an IPv4 address.
#[inline(always)]
pub(crate) fn getpeername6(ctx: &SockAddrContext) {
    let call = Call(ctx);
    let to = call.v6();
    match mapped(to) {
        Some(to) => {
            if let Some(frontend) = peer(&call, to) {
                call.set_mapped(frontend);
            }
        }
        None => {
            if let Some(frontend) = peer(&call, to) {
                call.set_v6(frontend);
            }
        }
    }
}

#[inline(always)]
fn sender<A: Family>(call: &Call<'_>, from: Endpoint<A>) -> Option<Endpoint<A>> {
    // SAFETY: the socket of the context lives as long as the program runs.
    let known = unsafe { A::PAIRS.get_ptr_mut(call.0) };
    if known.is_null() {
        return None;
    }
    // SAFETY: the pointer is not null, and the memory stays until the program ends.
    let pairs = unsafe { &(*known).0 };
    for at in 0..PAIRS {
        if !pairs[at].is_empty() && pairs[at].endpoint() == from {
            return Some(pairs[at].frontend());
        }
    }
    None
}

#[inline(always)]
fn peer<A: Family>(call: &Call<'_>, to: Endpoint<A>) -> Option<Endpoint<A>> {
    // SAFETY: the socket of the context lives as long as the program runs.
    let known = unsafe { A::PEERS.get_ptr_mut(call.0) };
    if known.is_null() {
        return None;
    }
    // SAFETY: the pointer is not null, and the memory stays until the program ends.
    let pair = unsafe { *known };
    (!pair.is_empty() && pair.endpoint() == to).then(|| pair.frontend())
}
