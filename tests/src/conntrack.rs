//! Lists and makes the entries of a namespace's connection tracking over netlink, without another tool.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use netlink_bindings::conntrack::{
    IterableTupleAttrs, Nfgenmsg, OpGetDump, PushConntrackAttrs, PushTupleAttrs, Request, TupleAttrs, TupleIpAttrs,
    TupleProtoAttrs,
};
use netlink_bindings::traits::{NetlinkRequest, Protocol, Pusher};
use netlink_socket2::NetlinkSocket;

use crate::netns::Namespace;
use crate::traffic;

const FAMILIES: [u8; 2] = [2, 10];
/// `NLM_F_CREATE | NLM_F_EXCL`
const CREATE: u16 = 0x400 | 0x200;
/// `NETLINK_NETFILTER`
const NETFILTER: u16 = 12;
/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW`
const NEW: u16 = 1 << 8;
/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE`
const DELETE: u16 = 1 << 8 | 2;
/// `IPS_SEEN_REPLY | IPS_ASSURED | IPS_CONFIRMED`
const STATUS: u32 = 1 << 1 | 1 << 2 | 1 << 3;

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The client.
    pub from: SocketAddr,
    /// The destination of its packets.
    pub to: SocketAddr,
    /// The source of the answers: the endpoint, or `to` again if nothing is translated.
    pub with: SocketAddr,
    /// The kernel's number for it. Another entry between the same ends has another number.
    pub id: u32,
}

/// Every UDP entry of the namespace, both families, sorted.
pub fn udp(namespace: &Namespace) -> Result<Vec<Entry>> {
    namespace.run(udp_here)?
}

/// The same in the namespace of the calling thread.
pub fn udp_here() -> Result<Vec<Entry>> {
    here(traffic::Protocol::Udp)
}

/// Every entry of this transport, both families, sorted.
pub fn of(namespace: &Namespace, protocol: traffic::Protocol) -> Result<Vec<Entry>> {
    namespace.run(|| here(protocol))?
}

fn here(protocol: traffic::Protocol) -> Result<Vec<Entry>> {
    let all = all_here()?.into_iter();
    Ok(all
        .filter_map(|(of, entry)| (of == protocol).then_some(entry))
        .collect())
}

/// Every entry of the namespace, of the transports that requests have, both families, sorted.
pub fn all(namespace: &Namespace) -> Result<Vec<(traffic::Protocol, Entry)>> {
    namespace.run(all_here)?
}

fn all_here() -> Result<Vec<(traffic::Protocol, Entry)>> {
    let mut socket = NetlinkSocket::new();
    let mut entries = Vec::new();
    for family in FAMILIES {
        let request = Request::new().op_get_dump(&header(family));
        let mut reply = socket.request(&request).context("ask for connection tracking")?;
        while let Some((_, attributes)) = reply.recv().transpose().context("read connection tracking")? {
            let (Some((protocol, from, to)), Some((_, with, _))) = (
                attributes.get_tuple_orig().ok().and_then(ends),
                attributes.get_tuple_reply().ok().and_then(ends),
            ) else {
                continue;
            };
            let id = attributes.get_id().context("an entry without a number")?;
            entries.push((protocol, Entry { from, to, with, id }));
        }
    }
    entries.sort_unstable();
    Ok(entries)
}

/// Makes UDP entries in a namespace; see [`make_here`].
pub fn make(namespace: &Namespace, entries: &[Entry], seconds: u32) -> Result<()> {
    namespace.run(|| make_here(entries.iter().copied(), seconds))?
}

/// Makes UDP entries in the namespace of the calling thread, as if these flows had been answered. Their ids are
/// ignored.
pub fn make_here(entries: impl IntoIterator<Item = Entry>, seconds: u32) -> Result<()> {
    let mut socket = NetlinkSocket::new();
    for entry in entries {
        let family = FAMILIES[usize::from(entry.to.is_ipv6())];
        let mut bytes = header(family).as_slice().to_vec();
        let tuple = write(
            PushConntrackAttrs::new(&mut bytes).nested_tuple_orig(),
            entry.from,
            entry.to,
        );
        let tuple = write(tuple.end_nested().nested_tuple_reply(), entry.with, entry.from);
        tuple.end_nested().push_status(STATUS).push_timeout(seconds);
        let request = Raw {
            kind: NEW,
            flags: CREATE,
            bytes,
        };
        let made = socket.request(&request).context("ask for a new entry")?.recv_ack();
        made.with_context(|| format!("make {entry:?}"))?;
    }
    Ok(())
}

/// Removes every entry of the namespace, of all transports and both families.
pub fn forget(namespace: &Namespace) -> Result<()> {
    namespace.run(|| {
        let request = Raw {
            kind: DELETE,
            flags: 0,
            bytes: header(0).as_slice().to_vec(), // without a family and a tuple, all are meant
        };
        let gone = NetlinkSocket::new()
            .request(&request)
            .context("empty connection tracking")?
            .recv_ack();
        gone.context("empty connection tracking")
    })?
}

fn header(family: u8) -> Nfgenmsg {
    let mut header = Nfgenmsg::new();
    header.nfgen_family = family;
    header
}

fn number(protocol: traffic::Protocol) -> u8 {
    match protocol {
        traffic::Protocol::Tcp => 6,
        traffic::Protocol::Udp => 17,
        traffic::Protocol::Sctp => 132,
    }
}

/// Transport, source and destination of a tuple, if requests have this transport.
fn ends(tuple: IterableTupleAttrs<'_>) -> Option<(traffic::Protocol, SocketAddr, SocketAddr)> {
    let (mut source, mut destination, mut ports, mut protocol) = (None, None, (None, None), 0);
    for attribute in tuple.flatten() {
        match attribute {
            TupleAttrs::TupleIp(ip) => {
                for attribute in ip.flatten() {
                    match attribute {
                        TupleIpAttrs::IpV4Src(addr) => source = Some(IpAddr::V4(addr)),
                        TupleIpAttrs::IpV4Dst(addr) => destination = Some(IpAddr::V4(addr)),
                        TupleIpAttrs::IpV6Src(addr) => source = Some(IpAddr::V6(addr)),
                        TupleIpAttrs::IpV6Dst(addr) => destination = Some(IpAddr::V6(addr)),
                    }
                }
            }
            TupleAttrs::TupleProto(proto) => {
                for attribute in proto.flatten() {
                    match attribute {
                        TupleProtoAttrs::ProtoNum(number) => protocol = number,
                        TupleProtoAttrs::ProtoSrcPort(port) => ports.0 = Some(port),
                        TupleProtoAttrs::ProtoDstPort(port) => ports.1 = Some(port),
                        _ => {}
                    }
                }
            }
            TupleAttrs::TupleZone(_) => {}
        }
    }
    let protocols = [traffic::Protocol::Tcp, traffic::Protocol::Udp, traffic::Protocol::Sctp];
    let protocol = protocols.into_iter().find(|known| number(*known) == protocol)?;
    Some((
        protocol,
        SocketAddr::new(source?, ports.0?),
        SocketAddr::new(destination?, ports.1?),
    ))
}

fn write<P: Pusher>(tuple: PushTupleAttrs<P>, from: SocketAddr, to: SocketAddr) -> PushTupleAttrs<P> {
    let ip = tuple.nested_tuple_ip();
    let ip = match from.ip() {
        IpAddr::V4(addr) => ip.push_ip_v4_src(addr),
        IpAddr::V6(addr) => ip.push_ip_v6_src(addr),
    };
    let ip = match to.ip() {
        IpAddr::V4(addr) => ip.push_ip_v4_dst(addr),
        IpAddr::V6(addr) => ip.push_ip_v6_dst(addr),
    };
    let proto = ip
        .end_nested()
        .nested_tuple_proto()
        .push_proto_num(number(traffic::Protocol::Udp));
    proto
        .push_proto_src_port(from.port())
        .push_proto_dst_port(to.port())
        .end_nested()
}

/// A request that the library has no name for.
struct Raw {
    kind: u16,
    flags: u16,
    bytes: Vec<u8>,
}

impl NetlinkRequest for Raw {
    type ReplyType<'buf> = <OpGetDump<'static> as NetlinkRequest>::ReplyType<'buf>;

    fn protocol(&self) -> Protocol {
        Protocol::Raw {
            protonum: NETFILTER,
            request_type: self.kind,
        }
    }

    fn flags(&self) -> u16 {
        self.flags
    }

    fn payload(&self) -> &[u8] {
        &self.bytes
    }

    fn decode_reply(bytes: &[u8]) -> Self::ReplyType<'_> {
        OpGetDump::decode_request(bytes)
    }
}
