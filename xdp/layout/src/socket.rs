//! What a socket remembers.

use crate::address::{Address, Endpoint};

/// A frontend that a program asked for, and the endpoint that it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Pair<A: Address> {
    frontend: A,
    endpoint: A,
    frontend_port: u16,
    /// 0 if the pair is empty.
    endpoint_port: u16,
    /// Where the endpoint was in its list when it was last looked for. It is most often there still.
    slot: u16,
    /// Always 0: the pair has no byte without a meaning.
    zero: u16,
}

const _: () = assert!(size_of::<Pair<crate::Address4>>() == 16);
const _: () = assert!(size_of::<Pair<crate::Address6>>() == 40);

impl<A: Address> Pair<A> {
    /// A pair that stands for nothing.
    #[inline(always)]
    pub fn empty() -> Self {
        let none = Endpoint { addr: A::NONE, port: 0 };
        Self::new(none, none, 0)
    }

    /// The pair of a frontend and its endpoint, which is in this slot of the frontend's list.
    #[inline(always)]
    pub fn new(frontend: Endpoint<A>, endpoint: Endpoint<A>, slot: u16) -> Self {
        Self {
            frontend: frontend.addr,
            endpoint: endpoint.addr,
            frontend_port: frontend.port,
            endpoint_port: endpoint.port,
            slot,
            zero: 0,
        }
    }

    /// A frontend that is left to nftables for as long as the socket lives.
    #[inline(always)]
    pub fn left(frontend: Endpoint<A>) -> Self {
        // No endpoint has this address. The port says that the pair stands for something.
        Self::new(
            frontend,
            Endpoint {
                addr: A::NONE,
                port: u16::MAX,
            },
            0,
        )
    }

    /// Whether its frontend is left to nftables.
    #[inline(always)]
    pub fn is_left(&self) -> bool {
        !self.is_empty() && self.endpoint == A::NONE
    }

    /// Whether it stands for nothing.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.endpoint_port == 0
    }

    /// What the program asked for.
    #[inline(always)]
    pub fn frontend(&self) -> Endpoint<A> {
        Endpoint {
            addr: self.frontend,
            port: self.frontend_port,
        }
    }

    /// Where the endpoint was in its list.
    #[inline(always)]
    pub fn slot(&self) -> u16 {
        self.slot
    }

    /// What it was given.
    #[inline(always)]
    pub fn endpoint(&self) -> Endpoint<A> {
        Endpoint {
            addr: self.endpoint,
            port: self.endpoint_port,
        }
    }
}

/// What a UDP socket remembers: the frontends that it sent to, the newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Pairs<A: Address>(pub [Pair<A>; PAIRS]);

/// How many frontends a UDP socket remembers.
pub const PAIRS: usize = 4;
