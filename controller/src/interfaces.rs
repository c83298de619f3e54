//! The addresses that this node's interfaces have, followed through rtnetlink. Told to the engine when they change.

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

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

/// The wait before what could not be read is read again.
const AGAIN: Duration = Duration::from_secs(1);
/// The wait after a loss: more changes are likely to come.
const AFTER_LOSS: Duration = Duration::from_millis(100);

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
        read(&mut self.socket, &self.names)
    }

    /// Follows changes until the engine is gone. Blocks: give it a thread of its own.
    pub fn follow(self, events: &Sender<Event>) {
        let Self {
            mut socket,
            names,
            mut changes,
        } = self;
        follow(
            || read(&mut socket, &names),
            || changes.recv().map(drop).map_err(|error| error.to_string()),
            |found: Found| {
                found
                    .into_events()
                    .into_iter()
                    .all(|event| events.blocking_send(event).is_ok())
            },
            std::thread::sleep,
        );
    }
}

fn read(socket: &mut NetlinkSocket, names: &UnixDatagram) -> Result<Found, InterfacesError> {
    let listed = list(socket).inspect_err(|_| {
        // Whatever of the answer is still to come goes with its socket.
        *socket = NetlinkSocket::new();
    })?;
    Ok(named(names, listed))
}

fn list(socket: &mut NetlinkSocket) -> Result<Vec<(IpAddr, u32)>, InterfacesError> {
    let request = Request::new().op_getaddr_dump(&Ifaddrmsg::new());
    let mut reply = socket
        .request(&request)
        .map_err(|error| InterfacesError(error.to_string()))?;
    let mut found = Vec::new();
    while let Some(answer) = reply.recv() {
        let (header, attributes) = answer.map_err(|error| InterfacesError(error.to_string()))?;
        // On a point-to-point link `address` is the other end's; `local` is missing for IPv6.
        let address = attributes.get_local().or_else(|_| attributes.get_address());
        found.extend(address.ok().map(|address| (address, header.ifa_index)));
    }
    Ok(found)
}

fn named(names_of: &UnixDatagram, found: Vec<(IpAddr, u32)>) -> Found {
    let mut names: HashMap<u32, Option<InterfaceName>> = HashMap::new();
    let mut name = |index| {
        // An interface may be gone by now: then its addresses are, too, and that is told next.
        *names.entry(index).or_insert_with(|| {
            let name = index_to_name(names_of, index).ok()?;
            InterfaceName::parse(&name).ok()
        })
    };
    let mut addresses: Vec<IpAddr> = found.iter().map(|(address, _)| *address).collect();
    addresses.sort_unstable();
    addresses.dedup();
    let pairs = found
        .into_iter()
        .filter_map(|(address, index)| Some((address, name(index)?)));
    let mut pairs: Vec<_> = pairs.collect();
    pairs.sort_unstable_by_key(|(address, name)| (*address, *name.padded()));
    Found {
        addresses,
        named: pairs,
    }
}

/// Reads, tells what is new, and waits for the next change, until nobody listens any more. What could not be read is
/// read again: no other change may come for a long time.
fn follow<A: Clone + Default + PartialEq>(
    mut read: impl FnMut() -> Result<A, InterfacesError>,
    mut wait: impl FnMut() -> Result<(), String>,
    mut tell: impl FnMut(A) -> bool,
    mut sleep: impl FnMut(Duration),
) {
    let (mut known, mut complaint) = (A::default(), None);
    loop {
        match read() {
            Ok(addresses) => {
                complaint = None;
                if addresses != known {
                    known.clone_from(&addresses);
                    if !tell(addresses) {
                        return;
                    }
                }
            }
            Err(InterfacesError(error)) => {
                if complaint.as_ref() != Some(&error) {
                    tracing::warn!("{}; the addresses known last are used", InterfacesError(error.clone()));
                }
                complaint = Some(error);
                sleep(AGAIN);
                continue;
            }
        }
        // A notification that was lost (ENOBUFS) is answered like one that came: by reading all again.
        if let Err(error) = wait() {
            tracing::debug!("a change of addresses was lost: {error}");
            sleep(AFTER_LOSS);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::net::IpAddr;

    use super::{AGAIN, InterfacesError, follow};

    #[test]
    fn addresses_that_could_not_be_read_are_read_again_without_another_change() {
        let address = |n: u8| vec![IpAddr::from([192, 0, 2, n])];
        let lost = || Err(InterfacesError("no buffer space".to_owned()));
        let mut answers = vec![
            Ok(address(1)),
            lost(),
            lost(),
            Ok(address(2)),
            Ok(address(2)),
            Ok(address(3)),
        ]
        .into_iter();
        let (mut told, waits, mut slept) = (Vec::new(), Cell::new(0), Vec::new());
        follow(
            || answers.next().unwrap(),
            || {
                waits.set(waits.get() + 1);
                Ok(())
            },
            |addresses| {
                told.push((addresses, waits.get()));
                told.len() < 3
            },
            |time| slept.push(time),
        );
        assert_eq!(told, [(address(1), 0), (address(2), 1), (address(3), 3)]);
        assert_eq!(slept, [AGAIN, AGAIN]);
    }
}
