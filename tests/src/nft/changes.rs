//! The elements that are written into Tandem's tables, as the kernel reports them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::io::Errno;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::sockopt::set_socket_timeout;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with, sockopt};

use super::TABLE;
use crate::addresses::Ip;
use crate::netns::Namespace;

/// `NFNL_SUBSYS_NFTABLES << 8`
const NFTABLES: u16 = 10 << 8;
const NEWSETELEM: u16 = NFTABLES | 0x0c;
const DELSETELEM: u16 = NFTABLES | 0x0e;
/// The multicast group `NFNLGRP_NFTABLES` (7), as a bit.
const GROUP: u32 = 1 << 6;

/// Listens in a namespace.
#[derive(Debug)]
pub struct Changes {
    socket: OwnedFd,
}

/// How many elements were added to and deleted from each set, by family.
pub type Counts = BTreeMap<(Ip, String), usize>;

impl Changes {
    /// Listens from now on.
    pub fn listen(node: &Namespace) -> Result<Self> {
        let open = || {
            let flags = SocketFlags::CLOEXEC;
            let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(NETFILTER))?;
            bind(&socket, &SocketAddrNetlink::new(0, GROUP))?;
            sockopt::set_socket_recv_buffer_size_force(&socket, 8 << 20)?;
            set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(Duration::from_millis(100)))?;
            Ok::<_, Errno>(Self { socket })
        };
        node.run(open)?.context("listen to nftables")
    }

    /// Counts what was written up to the element that holds these bytes. That element is not counted, and no element
    /// with `except`.
    pub fn until(&self, last: &[u8], except: IpAddr) -> Result<Counts> {
        let IpAddr::V4(except) = except else {
            bail!("only IPv4 marks an end")
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        let (mut counts, mut buffer) = (Counts::new(), vec![0; 64 << 10]);
        while Instant::now() < deadline {
            let length = match recv(&self.socket, buffer.as_mut_slice(), RecvFlags::empty()) {
                Ok((length, _)) => length,
                Err(Errno::AGAIN | Errno::INTR) => continue,
                Err(error) => return Err(error).context("read from nftables"),
            };
            for message in Messages(&buffer[..length]) {
                if message.kind == NEWSETELEM && contains(message.payload, last) {
                    return Ok(counts);
                }
                let (table, set) = (attribute(message.payload, 1), attribute(message.payload, 2));
                let ours = matches!(message.kind, NEWSETELEM | DELSETELEM)
                    && table == Some(TABLE)
                    && !contains(message.payload, &except.octets());
                if ours {
                    let family = if message.payload[0] == 2 { Ip::V4 } else { Ip::V6 };
                    *counts.entry((family, set.unwrap_or_default().to_owned())).or_default() += 1;
                }
            }
        }
        bail!("the last element was never written; before it: {counts:?}")
    }
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

struct Message<'b> {
    kind: u16,
    /// The message from its netfilter header on.
    payload: &'b [u8],
}

/// The messages of one datagram.
struct Messages<'b>(&'b [u8]);

impl<'b> Iterator for Messages<'b> {
    type Item = Message<'b>;

    fn next(&mut self) -> Option<Message<'b>> {
        let header = self.0.get(..20)?;
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let payload = self.0.get(16..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            payload,
        })
    }
}

/// A text attribute of a message.
fn attribute(payload: &[u8], wanted: u16) -> Option<&str> {
    let mut rest = payload.get(4..)?;
    while let [a, b, c, d, ..] = *rest {
        let (length, kind) = (
            usize::from(u16::from_ne_bytes([a, b])),
            u16::from_ne_bytes([c, d]) & 0x3fff,
        );
        let value = rest.get(4..length)?;
        if kind == wanted {
            return std::str::from_utf8(value).ok().map(|text| text.trim_end_matches('\0'));
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}
