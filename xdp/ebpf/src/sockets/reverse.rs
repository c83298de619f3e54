//! `recvmsg` and `getpeername` show the frontend that a program asked for, and not the endpoint.

use tandem_xdp_layout::{Endpoint, PAIRS};

use crate::family::Family;
use crate::sockets::context::Call;
use crate::sockets::rewrite::Rewrite;

/// A program reads a datagram, and who sent it.
pub(crate) struct Sender;

impl Rewrite for Sender {
    #[inline(always)]
    fn rewrite<A: Family>(&self, call: &Call<'_>, from: Endpoint<A>) -> Option<Endpoint<A>> {
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
}

/// A program asks for the peer of a socket.
pub(crate) struct Peer;

impl Rewrite for Peer {
    #[inline(always)]
    fn rewrite<A: Family>(&self, call: &Call<'_>, to: Endpoint<A>) -> Option<Endpoint<A>> {
        // SAFETY: the socket of the context lives as long as the program runs.
        let known = unsafe { A::PEERS.get_ptr_mut(call.0) };
        if known.is_null() {
            return None;
        }
        // SAFETY: the pointer is not null, and the memory stays until the program ends.
        let pair = unsafe { *known };
        (!pair.is_empty() && pair.endpoint() == to).then(|| pair.frontend())
    }
}
