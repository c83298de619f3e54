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
    fill: A::Fill,
}

const _: () = assert!(size_of::<Pair<crate::Address4>>() == 12);
const _: () = assert!(size_of::<Pair<crate::Address6>>() == 40);

impl<A: Address> Pair<A> {
    /// A pair that stands for nothing.
    #[inline(always)]
    pub fn empty() -> Self {
        let none = Endpoint { addr: A::NONE, port: 0 };
        Self::new(none, none)
    }

    /// The pair of a frontend and its endpoint.
    #[inline(always)]
    pub fn new(frontend: Endpoint<A>, endpoint: Endpoint<A>) -> Self {
        Self {
            frontend: frontend.addr,
            endpoint: endpoint.addr,
            frontend_port: frontend.port,
            endpoint_port: endpoint.port,
            fill: A::Fill::default(),
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
