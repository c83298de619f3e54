//! The addresses that this node's interfaces have, followed through rtnetlink. Told to the engine when they change.

use std::net::IpAddr;

use netlink_bindings::rt_addr::{Ifaddrmsg, Request};
use netlink_socket2::{MulticastSocketRaw, NetlinkSocket};
use tokio::sync::mpsc::Sender;

use crate::event::Event;

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
    changes: MulticastSocketRaw,
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
            changes,
        })
    }

    /// The addresses as they are, sorted.
    pub fn read(&mut self) -> Result<Vec<IpAddr>, InterfacesError> {
        let request = Request::new().op_getaddr_dump(&Ifaddrmsg::new());
        let error = |error: netlink_socket2::ReplyError| InterfacesError(error.to_string());
        let mut reply = self
            .socket
            .request(&request)
            .map_err(|error| InterfacesError(error.to_string()))?;
        let mut addresses = Vec::new();
        while let Some((_, attributes)) = reply.recv().transpose().map_err(error)? {
            // On a point-to-point link `address` is the other end's; `local` is missing for IPv6.
            addresses.extend(attributes.get_local().or_else(|_| attributes.get_address()).ok());
        }
        addresses.sort_unstable();
        addresses.dedup();
        Ok(addresses)
    }

    /// Follows changes until the engine is gone. Blocks: give it a thread of its own.
    pub fn follow(mut self, events: &Sender<Event>) {
        let mut known = Vec::new();
        loop {
            match self.read() {
                Ok(addresses) if addresses != known => {
                    known.clone_from(&addresses);
                    if events.blocking_send(Event::Interfaces(addresses)).is_err() {
                        return;
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
