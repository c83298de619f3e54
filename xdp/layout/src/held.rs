//! UDP sockets that stay with nftables.

use crate::address::{Address, Endpoint};

/// What tells a UDP socket that nftables serves: the frontend that it sends to, and its own port. Its address is not in it: another
/// pod's socket of the same port is only left to nftables too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct HeldKey<A: Address> {
    addr: A,
    /// In network order.
    port: u16,
    /// In the processor's order.
    own: u16,
    /// Always 0: the key has no byte without a meaning.
    fill: A::Fill,
}

const _: () = assert!(size_of::<HeldKey<crate::Address4>>() == 8);
const _: () = assert!(size_of::<HeldKey<crate::Address6>>() == 24);

impl<A: Address> HeldKey<A> {
    /// The key of what a socket with this port, in the processor's order, sends to a frontend.
    #[inline(always)]
    pub fn new(frontend: Endpoint<A>, own: u16) -> Self {
        Self {
            addr: frontend.addr,
            port: frontend.port,
            own,
            fill: A::Fill::default(),
        }
    }

    /// The frontend, as the socket names it.
    #[inline(always)]
    pub fn frontend(&self) -> Endpoint<A> {
        Endpoint {
            addr: self.addr,
            port: self.port,
        }
    }
}
