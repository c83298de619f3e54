//! When the nftables ruleset of a namespace changes. Each committed transaction has a new generation.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::io::Errno;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

use crate::netns::Namespace;

/// `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWGEN`
const NEWGEN: u16 = 10 << 8 | 0x0f;
/// The multicast group `NFNLGRP_NFTABLES` (7), as a bit.
const CHANGES: u32 = 1 << 6;
/// The size of a netlink header.
const HEADER: usize = 16;

/// The moments at which generations began, since this was made.
#[derive(Debug)]
pub struct Generations(Receiver<Instant>);

impl Generations {
    /// Watches this namespace from now on, on a thread that lives as long as the process.
    pub fn watch(namespace: &Namespace) -> Result<Self> {
        let socket = namespace.run(listen)??;
        let (sender, generations) = channel();
        let listen = move || {
            let mut buffer = vec![0; 64 << 10];
            loop {
                let new = match recv(&socket, &mut buffer[..], RecvFlags::empty()) {
                    Ok((length, _)) => has_generation(&buffer[..length]),
                    // If a message did not fit, it was part of a change too. The generation comes last, in a message of
                    // its own.
                    Err(Errno::NOBUFS | Errno::INTR) => false,
                    Err(_) => return,
                };
                if new && sender.send(Instant::now()).is_err() {
                    return;
                }
            }
        };
        namespace.entrance().thread("generations", listen)?;
        Ok(Self(generations))
    }

    /// The next generation that was not returned yet; none if none comes in this time.
    pub fn next(&self, patience: Duration) -> Option<Instant> {
        self.0.recv_timeout(patience).ok()
    }

    /// Forgets the generations that have come.
    pub fn forget(&self) {
        while self.0.try_recv().is_ok() {}
    }
}

fn listen() -> Result<OwnedFd> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(NETFILTER),
    )
    .context("make a netlink socket")?;
    bind(&socket, &SocketAddrNetlink::new(0, CHANGES)).context("listen for changes of the ruleset")?;
    set_socket_recv_buffer_size_force(&socket, 32 << 20).context("make room in a netlink socket")?;
    Ok(socket)
}

/// Whether one of these messages, which were received at once, begins a generation.
fn has_generation(mut bytes: &[u8]) -> bool {
    while bytes.len() >= HEADER {
        let length = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        if u16::from_ne_bytes([bytes[4], bytes[5]]) == NEWGEN {
            return true;
        }
        let step = usize::try_from(length).unwrap_or(usize::MAX).max(HEADER);
        bytes = bytes
            .get(step.checked_next_multiple_of(4).unwrap_or(usize::MAX)..)
            .unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, length: u32) -> Vec<u8> {
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.resize(length.next_multiple_of(4) as usize, 0);
        bytes
    }

    #[test]
    fn a_generation_is_found_behind_other_messages() {
        let element = message(10 << 8 | 0x0c, 21);
        assert!(has_generation(&[element.clone(), message(NEWGEN, 20)].concat()));
        assert!(!has_generation(&element));
        assert!(!has_generation(&message(0, 0)), "a length of nothing ends");
    }
}
