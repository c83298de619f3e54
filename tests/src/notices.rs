//! What the kernel reports about nftables transactions when they are committed: each element, and the generation at the
//! end.
//!
//! This module makes the socket itself, because a busy table needs a larger buffer than `netlink-socket2` allows.
//! `netlink-bindings` reads the messages.

use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context as _, Result};
use netlink_bindings::builtin::Nlmsghdr;
use netlink_bindings::nftables::{IterableSetelemListAttrs, Nfgenmsg, SetelemListAttrs};
use rustix::io::Errno;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_recv_buffer_size_force, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

/// `NFNL_SUBSYS_NFTABLES << 8`
const NFTABLES: u16 = 10 << 8;
const DELTABLE: u16 = NFTABLES | 0x02;
const DELSET: u16 = NFTABLES | 0x0b;
const NEWSETELEM: u16 = NFTABLES | 0x0c;
const DELSETELEM: u16 = NFTABLES | 0x0e;
const NEWGEN: u16 = NFTABLES | 0x0f;
/// The multicast group `NFNLGRP_NFTABLES` (7), as a bit.
const GROUP: u32 = 1 << 6;

/// A socket that receives every transaction in the namespace in which it was opened.
#[derive(Debug)]
pub(crate) struct Notices {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

/// One message of the kernel.
pub(crate) enum Notice<'b> {
    /// An element was added.
    Added(Element<'b>),
    /// An element was removed.
    Removed(Element<'b>),
    /// A table, or a set with a name, was removed. This is the table's name.
    Dropped(&'b str),
    /// A transaction is complete.
    Generation,
    /// Anything else.
    Other,
}

/// An element of a set, with its set and table.
pub(crate) struct Element<'b> {
    /// `NFPROTO_IPV4` or another.
    pub(crate) family: u8,
    attributes: IterableSetelemListAttrs<'b>,
}

impl Notices {
    /// Starts to listen, in the namespace of the calling thread.
    pub(crate) fn open() -> Result<Self> {
        let (family, flags) = (AddressFamily::NETLINK, SocketFlags::CLOEXEC);
        let socket = socket_with(family, SocketType::RAW, flags, Some(NETFILTER)).context("make a netlink socket")?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUP)).context("listen for changes of the ruleset")?;
        set_socket_recv_buffer_size_force(&socket, 32 << 20).context("make room in a netlink socket")?;
        Ok(Self {
            socket,
            buffer: vec![0; 64 << 10],
        })
    }

    /// Makes [`Self::next`] end after this time with [`Errno::AGAIN`].
    pub(crate) fn with_timeout(self, timeout: Duration) -> Result<Self> {
        set_socket_timeout(&self.socket, Timeout::Recv, Some(timeout)).context("give a netlink socket a timeout")?;
        Ok(self)
    }

    /// Waits for the next messages.
    pub(crate) fn next(&mut self) -> Result<impl Iterator<Item = Notice<'_>>, Errno> {
        let (length, _) = recv(&self.socket, &mut self.buffer[..], RecvFlags::empty())?;
        Ok(notices(&self.buffer[..length]))
    }
}

impl<'b> Element<'b> {
    fn new(payload: &'b [u8]) -> Option<Self> {
        let (header, attributes) = payload.split_at_checked(Nfgenmsg::len())?;
        Some(Self {
            family: Nfgenmsg::new_from_slice(header)?.nfgen_family,
            attributes: SetelemListAttrs::new(attributes),
        })
    }

    /// The name of its table.
    pub(crate) fn table(&self) -> Option<&'b str> {
        self.attributes.get_table().ok()?.to_str().ok()
    }

    /// The name of its set.
    pub(crate) fn set(&self) -> Option<&'b str> {
        self.attributes.get_set().ok()?.to_str().ok()
    }

    /// Whether any of its attributes contains these bytes, for example its key or value.
    pub(crate) fn contains(&self, wanted: &[u8]) -> bool {
        let bytes = self.attributes.get_buf();
        bytes.windows(wanted.len()).any(|window| window == wanted)
    }

    /// The port that stands behind this address in any of its attributes, in a value such as `10.244.1.10 . 8080`.
    pub(crate) fn port_behind(&self, address: &[u8]) -> Option<u16> {
        let bytes = self.attributes.get_buf();
        // In the kernel, each part of a value fills whole words. Another address behind this one does not end with zeros.
        let mut behind = bytes
            .windows(address.len() + 4)
            .filter_map(|window| window.strip_prefix(address));
        behind.find_map(|behind| match *behind {
            [high, low, 0, 0] => Some(u16::from_be_bytes([high, low])),
            _ => None,
        })
    }
}

/// The messages in one datagram.
fn notices(mut bytes: &[u8]) -> impl Iterator<Item = Notice<'_>> {
    std::iter::from_fn(move || {
        let header = Nlmsghdr::new_from_slice(bytes.get(..Nlmsghdr::len())?)?;
        let length = usize::try_from(header.len).ok()?;
        let payload = bytes.get(Nlmsghdr::len()..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        let element = Element::new(payload);
        Some(match (header.r#type, element) {
            (NEWSETELEM, Some(element)) => Notice::Added(element),
            (DELSETELEM, Some(element)) => Notice::Removed(element),
            (DELTABLE, Some(table)) => Notice::Dropped(table.table().unwrap_or_default()),
            // The sets inside rules have no name of their own.
            (DELSET, Some(set)) if !set.set().unwrap_or_default().starts_with("__") => {
                Notice::Dropped(set.table().unwrap_or_default())
            }
            (NEWGEN, _) => Notice::Generation,
            _ => Notice::Other,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, length: usize, payload: &[u8]) -> Vec<u8> {
        let mut header = Nlmsghdr::new();
        (header.len, header.r#type) = (u32::try_from(length).unwrap_or(u32::MAX), kind);
        let mut bytes = header.as_slice().to_vec();
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn has_generation(bytes: &[u8]) -> bool {
        notices(bytes).any(|notice| matches!(notice, Notice::Generation))
    }

    #[test]
    fn messages_behind_each_other_are_taken_apart() {
        let payload = b"\x02\0\0\0\x0b\0\x01\0tandem\0\0\x0a\0\x02\0picks\0";
        let element = message(NEWSETELEM, Nlmsghdr::len() + payload.len(), payload);
        let both = [element.clone(), message(NEWGEN, 20, &[0; 4])].concat();
        let mut both = notices(&both);
        let Some(Notice::Added(first)) = both.next() else {
            panic!("no element")
        };
        assert_eq!(
            (first.family, first.table(), first.set()),
            (2, Some("tandem"), Some("picks"))
        );
        assert!(first.contains(b"dem") && !first.contains(b"services"));
        assert_eq!(
            (first.port_behind(b"tand"), first.port_behind(b"pick")),
            (Some(0x656d), None)
        );
        assert!(matches!(both.next(), Some(Notice::Generation)));
        assert!(both.next().is_none());
        assert!(!has_generation(&element));
    }

    #[test]
    fn lengths_that_cannot_be_end_the_messages() {
        assert!(!has_generation(&message(0, 0, &[])));
        assert!(!has_generation(&message(NEWGEN, 400, &[0; 4])));
        assert!(!has_generation(&[7; 9]));
    }
}
