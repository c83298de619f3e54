//! The routes and the rule in the kernel, over rtnetlink.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use netlink_bindings::rt_route::{self, Rtmsg};
use netlink_bindings::rt_rule::{self, FibRuleHdr, PushFibRuleAttrs};
use netlink_bindings::traits::NetlinkRequest;
use netlink_socket2::{NetlinkSocket, ReplyError};
use tandem_core::family::IpFamily;

use super::Routes;

/// The routing table of these routes: `ip route show table 7473`.
pub const TABLE: u32 = 7473;
/// Behind `main` (32766) and `default` (32767): asked where nothing else leads anywhere.
const PRIORITY: u32 = 32_800;
/// The protocol number by which `ip route` tells whose routes these are. Not one that any routing daemon has.
const PROTOCOL: u8 = 116;
/// `lo` is the first interface of every network namespace.
const LOOPBACK: u32 = 1;
/// The wait after a failure.
pub(super) const RETRY: Duration = Duration::from_secs(10);

const FAMILIES: [IpFamily; 2] = [IpFamily::V4, IpFamily::V6];

/// Why routes are not as they are to be.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct RoutesError {
    what: String,
    source: io::Error,
}

/// The routes of this network namespace.
#[derive(Default)]
pub struct KernelRoutes {
    socket: Option<NetlinkSocket>,
    /// The routes that are there; none before they were read.
    there: Option<BTreeSet<IpNet>>,
}

impl KernelRoutes {
    /// Makes the routes as they are to be, and the rule of each family that has any. Tells whether that took a route or a
    /// rule that was not there, or took one away.
    pub fn bring(&mut self, wanted: &Routes) -> Result<bool, RoutesError> {
        let result = self.attempt(wanted);
        if result.is_err() {
            // Whatever of an answer is still to come goes with its socket.
            self.socket = None;
        }
        result
    }

    fn attempt(&mut self, wanted: &Routes) -> Result<bool, RoutesError> {
        let socket = self.socket.get_or_insert_with(NetlinkSocket::new);
        let there = match self.there.take() {
            Some(there) => there,
            None => read(socket)?,
        };
        let mut changed = false;
        for (range, source) in wanted {
            // Also those that are there: the kernel drops them with their source address.
            add(socket, *range, *source)?;
            changed |= !there.contains(range);
        }
        for range in there.iter().filter(|range| !wanted.contains_key(range)) {
            remove(socket, *range)?;
            changed = true;
        }
        for family in FAMILIES {
            changed |= rule(socket, family, wanted.keys().any(|range| family_of(*range) == family))?;
        }
        self.there = Some(wanted.keys().copied().collect());
        Ok(changed)
    }
}

fn family_of(range: IpNet) -> IpFamily {
    IpFamily::of(range.addr())
}

fn number(family: IpFamily) -> u8 {
    let number = match family {
        IpFamily::V4 => libc::AF_INET,
        IpFamily::V6 => libc::AF_INET6,
    };
    number.to_le_bytes()[0]
}

fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> RoutesError {
    let what = what.into();
    move |source| RoutesError { what, source }
}

/// An answer that says that there is nothing to do any more is as good as one that says it was done; false for the first.
fn settled(result: Result<(), ReplyError>, settled: &[i32]) -> io::Result<bool> {
    match result.map_err(io::Error::from) {
        Err(error) if error.raw_os_error().is_some_and(|errno| settled.contains(&errno)) => Ok(false),
        result => result.map(|()| true),
    }
}

/// The routes that an earlier run left in the table.
fn read(socket: &mut NetlinkSocket) -> Result<BTreeSet<IpNet>, RoutesError> {
    let mut there = BTreeSet::new();
    for family in FAMILIES {
        let what = || failed(format!("reading {family} routes"));
        let header = Rtmsg {
            rtm_family: number(family),
            ..Rtmsg::new()
        };
        let request = rt_route::Request::new().op_getroute_dump(&header);
        let mut reply = socket.request(&request).map_err(what())?;
        while let Some(route) = reply.recv() {
            let (header, route) = route.map_err(|error| what()(error.into()))?;
            let ours = header.rtm_protocol == PROTOCOL && route.get_table().is_ok_and(|table| table == TABLE);
            let address: Option<IpAddr> = route.get_dst().ok().filter(|_| ours);
            there.extend(address.and_then(|address| IpNet::new(address, header.rtm_dst_len).ok()));
        }
    }
    Ok(there)
}

fn header(range: IpNet) -> Rtmsg {
    const UNICAST: u8 = 1;
    const LINK: u8 = 253;
    const UNIVERSE: u8 = 0;
    Rtmsg {
        rtm_family: number(family_of(range)),
        rtm_dst_len: range.prefix_len(),
        rtm_protocol: PROTOCOL,
        rtm_scope: if range.addr().is_ipv4() { LINK } else { UNIVERSE },
        rtm_type: UNICAST,
        ..Rtmsg::new()
    }
}

fn add(socket: &mut NetlinkSocket, range: IpNet, source: Option<IpAddr>) -> Result<(), RoutesError> {
    let mut request = rt_route::Request::new().set_change().op_newroute_do(&header(range));
    let _ = request
        .encode()
        .push_dst(range.network())
        .push_oif(LOOPBACK)
        .push_table(TABLE);
    if let Some(source) = source {
        let _ = request.encode().push_prefsrc(source);
    }
    let result = acknowledged(socket, &request);
    result.map_err(|error| failed(format!("adding route {range} dev lo table {TABLE}"))(error.into()))
}

fn remove(socket: &mut NetlinkSocket, range: IpNet) -> Result<(), RoutesError> {
    let mut request = rt_route::Request::new().op_delroute_do(&header(range));
    let _ = request
        .encode()
        .push_dst(range.network())
        .push_oif(LOOPBACK)
        .push_table(TABLE);
    let result = acknowledged(socket, &request);
    settled(result, &[libc::ESRCH])
        .map(drop)
        .map_err(failed(format!("removing route {range} dev lo table {TABLE}")))
}

/// Adds or removes the rule that leads a family's own packets to the table; false where it was so before.
fn rule(socket: &mut NetlinkSocket, family: IpFamily, there: bool) -> Result<bool, RoutesError> {
    const TO_TABLE: u8 = 1;
    let header = FibRuleHdr {
        family: number(family),
        action: TO_TABLE,
        ..FibRuleHdr::new()
    };
    let what = failed(format!("the {family} rule to routing table {TABLE}"));
    let result = if there {
        let mut request = rt_rule::Request::new().set_create().set_excl().op_newrule_do(&header);
        describe(request.encode());
        acknowledged(socket, &request)
    } else {
        let mut request = rt_rule::Request::new().op_delrule_do(&header);
        describe(request.encode());
        acknowledged(socket, &request)
    };
    settled(result, &[libc::EEXIST, libc::ENOENT]).map_err(what)
}

/// What the rule is known by.
fn describe(rule: PushFibRuleAttrs<&mut Vec<u8>>) {
    let _ = rule
        .push_priority(PRIORITY)
        .push_iifname(c"lo")
        .push_table(TABLE)
        .push_protocol(PROTOCOL);
}

fn acknowledged(socket: &mut NetlinkSocket, request: &impl NetlinkRequest) -> Result<(), ReplyError> {
    socket.request(request)?.recv_ack()
}
