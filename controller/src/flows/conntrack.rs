//! The kernel's connection tracking over netlink. Only this file reads and deletes entries, always for one family.

use std::io;
use std::marker::PhantomData;
use std::net::IpAddr;

use netlink_bindings::conntrack::{
    ConntrackAttrs, IterableConntrackAttrs, IterableProtoinfoAttrs, IterableTupleAttrs, NfCtSctpState, NfCtTcpState,
    Nfgenmsg, OpGetDump, PushConntrackAttrs, Request, TupleAttrs, TupleIpAttrs, TupleProtoAttrs,
};
use netlink_bindings::traits::{NetlinkRequest, Protocol as Netlink, Pusher};
use netlink_socket2::{NetlinkSocket, ReplyError};
use tandem_core::family::{Family, IpFamily};
use tandem_core::flows::{Destination, Flow};
use tandem_core::row::{Endpoint, Port, Protocol};

/// `NETLINK_NETFILTER`
const NETFILTER: u16 = 12;
/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE`
const DELETE: u16 = 1 << 8 | 2;
/// `CTA_FILTER_F_…` of the kernel's nf_conntrack_netlink.c: which parts of a tuple `CTA_FILTER` compares.
const BY_SOURCE: u32 = 1 << 0;
const BY_DESTINATION: u32 = 1 << 1;
const BY_PROTOCOL: u32 = 1 << 3;
const BY_SOURCE_PORT: u32 = 1 << 4;
const BY_DESTINATION_PORT: u32 = 1 << 5;
/// `IPS_SEEN_REPLY`
const ANSWERED: u32 = 1 << 1;
/// How often entries are read again if some were lost on the way.
const ATTEMPTS: usize = 3;

/// Why flows could not be read or cut.
#[derive(Debug, thiserror::Error)]
pub(super) enum EntriesError {
    #[error("connection tracking cannot be read: {0}")]
    Read(io::Error),
    #[error("connection tracking cannot be read: entries were lost {ATTEMPTS} times in a row: {0}")]
    Lost(io::Error),
    #[error("an entry of connection tracking cannot be deleted: {0}")]
    Delete(io::Error),
}

/// The entries that are wanted. Since Linux 5.8, the kernel leaves out the others. Older kernels return all, so the
/// caller must still check each entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Filter<F: Family> {
    /// All UDP entries.
    Udp,
    /// All TCP entries.
    Tcp,
    /// UDP entries whose first datagram went to this port; to any address if there is none.
    To(Option<F::Addr>, Port),
    /// UDP entries whose first datagram came from this port; from any address if there is none.
    From(Option<F::Addr>, Port),
    /// Entries of this protocol that nobody answered.
    Unanswered(Protocol),
}

impl<F: Family> Filter<F> {
    /// The filter for entries to this destination. It lets through as few others as the kernel allows.
    pub(super) fn to(destination: &Destination<F>) -> Self {
        match *destination {
            Destination::Address(addr, port) => Self::To(comparable::<F>(addr), port),
            Destination::NodePort(port) => Self::To(None, port),
        }
    }

    /// The filter for entries from this server. It lets through as few others as the kernel allows.
    pub(super) fn from(server: &Endpoint<F>) -> Self {
        Self::From(comparable::<F>(server.addr), server.port)
    }

    fn protocol(&self) -> Protocol {
        match self {
            Self::Udp | Self::To(..) | Self::From(..) => Protocol::Udp,
            Self::Tcp => Protocol::Tcp,
            Self::Unanswered(protocol) => *protocol,
        }
    }
}

/// The address, if the kernel can compare it. If it compares IPv6 addresses, it returns exactly those that differ (seen
/// with Linux 6.18), so for IPv6 only ports are usable.
fn comparable<F: Family>(addr: F::Addr) -> Option<F::Addr> {
    (F::FAMILY == IpFamily::V4).then_some(addr)
}

/// What identifies an entry in the kernel: its addresses, zone and number. So it never means a later entry.
#[derive(Debug)]
pub(super) struct Name(Vec<u8>);

/// Where entries are read and deleted.
pub(super) trait Tracking<F: Family> {
    /// Calls `each` with every entry that matches, and with a function that returns its name. After a loss, some
    /// entries come again.
    fn read(&mut self, filter: &Filter<F>, each: &mut Each<'_, F>) -> Result<(), EntriesError>;

    /// Deletes an entry. Returns false if it was gone already.
    fn delete(&mut self, name: &Name) -> Result<bool, EntriesError>;
}

/// What is called with each entry.
pub(super) type Each<'a, F> = dyn FnMut(&Flow<F>, &dyn Fn() -> Name) + 'a;

/// An open socket for the entries of one family.
pub(super) struct Entries<F: Family> {
    socket: NetlinkSocket,
    family: PhantomData<F>,
}

impl<F: Family> Default for Entries<F> {
    fn default() -> Self {
        Self {
            socket: NetlinkSocket::new(),
            family: PhantomData,
        }
    }
}

impl<F: Family> Tracking<F> for Entries<F> {
    fn read(&mut self, filter: &Filter<F>, each: &mut Each<'_, F>) -> Result<(), EntriesError> {
        let protocol = filter.protocol();
        let mut each = |flow: &Flow<F>, name: &dyn Fn() -> Name| {
            if flow.protocol == protocol {
                each(flow, name);
            }
        };
        let mut filter = Some(filter);
        let mut attempt = 1;
        loop {
            let Err(error) = self.dump(&encode(filter), &mut each) else {
                return Ok(());
            };
            // The rest of the old answer is dropped with its socket.
            self.socket = NetlinkSocket::new();
            match error.raw_os_error() {
                Some(libc::EINTR | libc::ENOBUFS | libc::EAGAIN) if attempt < ATTEMPTS => attempt += 1,
                Some(libc::EINTR | libc::ENOBUFS | libc::EAGAIN) => return Err(EntriesError::Lost(error)),
                // The kernel knows filters, but not this one.
                Some(libc::EINVAL | libc::EOPNOTSUPP) if filter.is_some() => filter = None,
                _ => return Err(EntriesError::Read(error)),
            }
        }
    }

    fn delete(&mut self, name: &Name) -> Result<bool, EntriesError> {
        let mut reply = self.socket.request(name).map_err(EntriesError::Delete)?;
        match reply.recv_ack().map_err(os_error) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => {
                self.socket = NetlinkSocket::new();
                Err(EntriesError::Delete(error))
            }
        }
    }
}

impl<F: Family> Entries<F> {
    fn dump(&mut self, request: &OpGetDump<'_>, each: &mut impl FnMut(&Flow<F>, &dyn Fn() -> Name)) -> io::Result<()> {
        let mut reply = self.socket.request(request)?;
        while let Some((_, attributes)) = reply.recv().transpose().map_err(os_error)? {
            if let Some(entry) = Entry::of(attributes)
                && let Some(flow) = entry.flow()
            {
                each(&flow, &|| entry.name::<F>());
            }
        }
        Ok(())
    }
}

/// The kernel's own error, without the words of the library.
fn os_error(error: ReplyError) -> io::Error {
    error.into()
}

fn header<F: Family>() -> Nfgenmsg {
    let mut header = Nfgenmsg::new();
    let family = match F::FAMILY {
        IpFamily::V4 => libc::AF_INET,
        IpFamily::V6 => libc::AF_INET6,
    };
    header.nfgen_family = u8::try_from(family).unwrap_or_default();
    header
}

/// A request for the entries that match, or for all if there is no filter.
fn encode<F: Family>(filter: Option<&Filter<F>>) -> OpGetDump<'static> {
    let mut request = Request::new().op_get_dump(&header::<F>());
    let Some(filter) = filter else { return request };
    let mut flags = BY_PROTOCOL;
    let mut attributes = request.encode();
    if let Filter::Unanswered(_) = filter {
        attributes = attributes.push_status(0).push_status_mask(ANSWERED);
    }
    let tuple = attributes.nested_tuple_orig();
    let tuple = match *filter {
        Filter::To(Some(addr), _) => {
            flags |= BY_DESTINATION;
            let ip = tuple.nested_tuple_ip();
            match addr.into() {
                IpAddr::V4(addr) => ip.push_ip_v4_dst(addr),
                IpAddr::V6(addr) => ip.push_ip_v6_dst(addr),
            }
            .end_nested()
        }
        Filter::From(Some(addr), _) => {
            flags |= BY_SOURCE;
            let ip = tuple.nested_tuple_ip();
            match addr.into() {
                IpAddr::V4(addr) => ip.push_ip_v4_src(addr),
                IpAddr::V6(addr) => ip.push_ip_v6_src(addr),
            }
            .end_nested()
        }
        Filter::Udp | Filter::Tcp | Filter::To(None, _) | Filter::From(None, _) | Filter::Unanswered(_) => tuple,
    };
    let mut proto = tuple.nested_tuple_proto().push_proto_num(filter.protocol().number());
    match *filter {
        Filter::To(_, port) => {
            flags |= BY_DESTINATION_PORT;
            proto = proto.push_proto_dst_port(port.get());
        }
        Filter::From(_, port) => {
            flags |= BY_SOURCE_PORT;
            proto = proto.push_proto_src_port(port.get());
        }
        Filter::Udp | Filter::Tcp | Filter::Unanswered(_) => {}
    }
    let tuple = proto.end_nested();
    tuple.end_nested().nested_filter().push_orig_flags(flags).end_nested();
    request
}

/// The parts of an entry that Tandem uses, as the kernel wrote them.
struct Entry<'a> {
    original: IterableTupleAttrs<'a>,
    reply: IterableTupleAttrs<'a>,
    status: u32,
    state: Option<IterableProtoinfoAttrs<'a>>,
    zone: Option<u16>,
    id: u32,
}

impl<'a> Entry<'a> {
    fn of(attributes: IterableConntrackAttrs<'a>) -> Option<Self> {
        let (mut original, mut reply, mut zone, mut id) = (None, None, None, None);
        let (mut status, mut state) = (0, None);
        for attribute in attributes.flatten() {
            match attribute {
                ConntrackAttrs::TupleOrig(tuple) => original = Some(tuple),
                ConntrackAttrs::TupleReply(tuple) => reply = Some(tuple),
                ConntrackAttrs::Status(value) => status = value,
                ConntrackAttrs::Protoinfo(value) => state = Some(value),
                ConntrackAttrs::Zone(value) => zone = Some(value),
                ConntrackAttrs::Id(value) => id = Some(value),
                _ => {}
            }
        }
        Some(Self {
            original: original?,
            reply: reply?,
            status,
            state,
            zone,
            id: id?,
        })
    }

    /// The flow of the entry; none if it is of another family, or of a protocol without ports.
    fn flow<F: Family>(&self) -> Option<Flow<F>> {
        let (protocol, from, to) = ends(self.original)?;
        let (_, with, back) = ends::<F>(self.reply)?;
        Some(Flow {
            protocol,
            from,
            to,
            with,
            back,
            answered: self.status & ANSWERED != 0,
            opening: self.is_opening(),
        })
    }

    /// Whether it is a connection of which only the first packet was seen, once or repeatedly. An SCTP association that
    /// its client gave up counts too, because the next one from that port continues it.
    fn is_opening(&self) -> bool {
        const COOKIE_WAIT: u8 = NfCtSctpState::CookieWait as u8;
        // This is `SCTP_CONNTRACK_CLOSED`, whatever the specification calls it.
        const CLOSED: u8 = NfCtSctpState::Cloned as u8;
        let Some(state) = self.state else { return false };
        let tcp = || state.get_protoinfo_tcp().ok()?.get_tcp_state().ok();
        let sctp = || state.get_protoinfo_sctp().ok()?.get_sctp_state().ok();
        tcp().is_some_and(|state| state == NfCtTcpState::SynSent as u8)
            || sctp().is_some_and(|state| matches!(state, COOKIE_WAIT | CLOSED))
    }

    fn name<F: Family>(&self) -> Name {
        let mut bytes = header::<F>().as_slice().to_vec();
        let mut tuple = PushConntrackAttrs::new(&mut bytes).nested_tuple_orig();
        tuple.as_vec_mut().extend(self.original.get_buf());
        let name = tuple.end_nested();
        let name = match self.zone {
            None => name,
            Some(zone) => name.push_zone(zone),
        };
        name.push_id(self.id);
        Name(bytes)
    }
}

/// Protocol, source and destination of a tuple.
fn ends<F: Family>(tuple: IterableTupleAttrs<'_>) -> Option<(Protocol, Endpoint<F>, Endpoint<F>)> {
    let (mut protocol, mut addrs, mut ports) = (None, (None, None), (None, None));
    for attribute in tuple.flatten() {
        match attribute {
            TupleAttrs::TupleIp(ip) => {
                for attribute in ip.flatten() {
                    match attribute {
                        TupleIpAttrs::IpV4Src(value) => addrs.0 = F::addr(IpAddr::V4(value)),
                        TupleIpAttrs::IpV4Dst(value) => addrs.1 = F::addr(IpAddr::V4(value)),
                        TupleIpAttrs::IpV6Src(value) => addrs.0 = F::addr(IpAddr::V6(value)),
                        TupleIpAttrs::IpV6Dst(value) => addrs.1 = F::addr(IpAddr::V6(value)),
                    }
                }
            }
            TupleAttrs::TupleProto(proto) => {
                for attribute in proto.flatten() {
                    match attribute {
                        TupleProtoAttrs::ProtoNum(number) => protocol = Protocol::from_number(number),
                        TupleProtoAttrs::ProtoSrcPort(value) => ports.0 = Port::new(value),
                        TupleProtoAttrs::ProtoDstPort(value) => ports.1 = Port::new(value),
                        _ => {}
                    }
                }
            }
            TupleAttrs::TupleZone(_) => {}
        }
    }
    let end = |addr: Option<F::Addr>, port: Option<Port>| {
        Some(Endpoint {
            addr: addr?,
            port: port?,
        })
    };
    Some((protocol?, end(addrs.0, ports.0)?, end(addrs.1, ports.1)?))
}

impl NetlinkRequest for Name {
    type ReplyType<'buf> = ();

    fn protocol(&self) -> Netlink {
        Netlink::Raw {
            protonum: NETFILTER,
            request_type: DELETE,
        }
    }

    fn flags(&self) -> u16 {
        0
    }

    fn payload(&self) -> &[u8] {
        &self.0
    }

    fn decode_reply(_: &[u8]) {}
}
