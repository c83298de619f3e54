//! Fills the map of remembered clients by netlink. With packets it would take minutes, and with `nft` twenty seconds
//! for a million elements. The crate itself cannot do it, because it writes only rows.

use std::ops::Range;

use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with, sockopt,
};
use tandem_core::family::{Family, IpFamily};
use tandem_core::id::ServiceId;

const NEW_ELEMENT: u16 = 0x0a0c;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const CREATE: u16 = 0x400;
/// This many elements fit into one attribute.
const AT_ONCE: u32 = 1000;

fn attribute(kind: u16, content: &[u8]) -> Vec<u8> {
    let len = u16::try_from(content.len() + 4).expect("below 64 KiB");
    let mut bytes = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn nested(kind: u16, parts: &[Vec<u8>]) -> Vec<u8> {
    const NESTED: u16 = 0x8000;
    attribute(kind | NESTED, &parts.concat())
}

fn message(kind: u16, flags: u16, nfproto: u8, resource: u16, content: &[u8]) -> Vec<u8> {
    let len = u32::try_from(content.len() + 20).expect("short");
    let mut bytes = len.to_ne_bytes().to_vec();
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&(REQUEST | flags).to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&[nfproto, 0]);
    bytes.extend_from_slice(&resource.to_be_bytes());
    bytes.extend_from_slice(content);
    bytes
}

/// Remembers the first endpoint of the Service for these shares of clients.
pub(crate) fn fill<F: Family>(service: ServiceId, shares: Range<u32>) {
    let nfproto = if F::FAMILY == IpFamily::V4 { 2 } else { 10 };
    let value = attribute(1, &(service.raw() + 1).to_ne_bytes());
    let mut batch = message(BATCH_BEGIN, 0, 0, 10, &[]);
    let shares: Vec<u32> = shares.collect();
    for part in shares.chunks(AT_ONCE as usize) {
        let element = |share: &u32| {
            let key = attribute(1, &[service.raw().to_ne_bytes(), share.to_ne_bytes()].concat());
            nested(
                1,
                &[
                    nested(1, &[key]),
                    nested(2, std::slice::from_ref(&value)),
                    attribute(4, &3_600_000_u64.to_be_bytes()),
                ],
            )
        };
        let elements: Vec<_> = part.iter().map(element).collect();
        let content = [
            attribute(1, b"tandem\0"),
            attribute(2, b"affinity\0"),
            nested(3, &elements),
        ]
        .concat();
        batch.extend(message(NEW_ELEMENT, CREATE | ACK, nfproto, 0, &content));
    }
    batch.extend(message(BATCH_END, 0, 0, 10, &[]));
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(NETFILTER),
    );
    let socket = socket.expect("a socket");
    bind(&socket, &SocketAddrNetlink::new(0, 0)).expect("bound");
    sockopt::set_socket_send_buffer_size_force(&socket, 16 << 20).expect("a buffer");
    send(&socket, &batch, SendFlags::empty()).expect("sent");
    let mut answer = [0; 4096];
    for _ in 0..shares.len().div_ceil(AT_ONCE as usize) {
        let (_, len) = recv(&socket, &mut answer[..], RecvFlags::DONTWAIT).expect("an answer");
        let error = answer[16..20].try_into().map(i32::from_ne_bytes).expect("a number");
        assert!(len >= 20 && error == 0, "adding elements: {error}");
    }
}
