//! The ports of a packet.

use tandem_xdp_layout::{Endpoint, FlowKey};

use crate::ip::{Header, Ip};

/// How much of a transport header there must be.
pub(crate) const TCP_LEN: usize = 20;
pub(crate) const UDP_LEN: usize = 8;

/// The key of a packet with these ports.
#[inline(always)]
pub(crate) fn key<A: Ip>(header: &Header<A>, source: u16, destination: u16) -> FlowKey<A> {
    let client = Endpoint {
        addr: header.source,
        port: source,
    };
    let frontend = Endpoint {
        addr: header.destination,
        port: destination,
    };
    FlowKey::new(client, frontend, header.protocol)
}
