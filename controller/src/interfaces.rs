//! The addresses that this node's interfaces have, followed through rtnetlink. Told to the engine when they change.

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::unix::net::UnixDatagram;

use netlink_bindings::rt_addr::{Ifaddrmsg, Request};
use netlink_socket2::{MulticastSocketRaw, NetlinkSocket};
use rustix::net::netdevice::index_to_name;
use tandem_core::node::InterfaceName;
use tokio::sync::mpsc::Sender;

use crate::event::{Around, Event};

/// rtnetlink's number among the netlink protocols.
const ROUTE: u16 = 0;
/// `RTNLGRP_IPV4_IFADDR` and `RTNLGRP_IPV6_IFADDR` of linux/rtnetlink.h
const GROUPS: [u32; 2] = [5, 9];

/// Why the node's addresses cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the addresses of this node's interfaces: {0}")]
pub struct InterfacesError(String);

/// A subscription that was made before the first reading, so that no change is missed in between.
pub struct Interfaces {
    socket: NetlinkSocket,
    /// Asked for the names of interfaces, which any socket tells.
    names: UnixDatagram,
    changes: MulticastSocketRaw,
}

/// The addresses at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Sorted, each once.
    pub addresses: Vec<IpAddr>,
    /// Sorted, each with the interface that has it.
    pub named: Vec<(IpAddr, InterfaceName)>,
}

impl Found {
    /// What the engine is told.
    pub fn into_events(self) -> [Event; 2] {
        [
            Event::Interfaces(self.addresses),
            Event::Around(Around::Addresses(self.named)),
        ]
    }
}

impl Interfaces {
    /// Subscribes to changes in this network namespace.
    pub fn open() -> Result<Self, InterfacesError> {
        let error = |error: std::io::Error| InterfacesError(error.to_string());
        let mut changes = MulticastSocketRaw::new(ROUTE).map_err(error)?;
        for group in GROUPS {
            changes.listen(group).map_err(error)?;
        }
        Ok(Self {
            socket: NetlinkSocket::new(),
            names: UnixDatagram::unbound().map_err(error)?,
            changes,
        })
    }

    /// The addresses as they are.
    pub fn read(&mut self) -> Result<Found, InterfacesError> {
        let request = Request::new().op_getaddr_dump(&Ifaddrmsg::new());
        let error = |error: netlink_socket2::ReplyError| InterfacesError(error.to_string());
        let mut reply = self
            .socket
            .request(&request)
            .map_err(|error| InterfacesError(error.to_string()))?;
        let mut found = Vec::new();
        while let Some((header, attributes)) = reply.recv().transpose().map_err(error)? {
            // On a point-to-point link `address` is the other end's; `local` is missing for IPv6.
            let address = attributes.get_local().or_else(|_| attributes.get_address());
            found.extend(address.ok().map(|address| (address, header.ifa_index)));
        }
        Ok(self.named(found))
    }

    fn named(&self, found: Vec<(IpAddr, u32)>) -> Found {
        let mut names: HashMap<u32, Option<InterfaceName>> = HashMap::new();
        let mut name = |index| {
            // An interface may be gone by now: then its addresses are, too, and that is told next.
            *names.entry(index).or_insert_with(|| {
                let name = index_to_name(&self.names, index).ok()?;
                InterfaceName::parse(&name).ok()
            })
        };
        let mut addresses: Vec<IpAddr> = found.iter().map(|(address, _)| *address).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let named = found
            .into_iter()
            .filter_map(|(address, index)| Some((address, name(index)?)));
        let mut named: Vec<_> = named.collect();
        named.sort_unstable_by_key(|(address, name)| (*address, *name.padded()));
        Found { addresses, named }
    }

    /// Follows changes until the engine is gone. Blocks: give it a thread of its own.
    pub fn follow(mut self, events: &Sender<Event>) {
        let mut known = Found::default();
        loop {
            match self.read() {
                Ok(found) if found != known => {
                    known.clone_from(&found);
                    for event in found.into_events() {
                        if events.blocking_send(event).is_err() {
                            return;
                        }
                    }
                }
                Ok(_) => {}
                Err(error) => tracing::warn!("{error}; the addresses known last are used"),
            }
            // A notification that was lost (ENOBUFS) is answered like one that came: by reading all again.
            if let Err(error) = self.changes.recv() {
                tracing::debug!("a change of addresses was lost: {error}");
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
        }
    }
}
