//! A bare nftables socket. It measures netlink without Tandem, and receives what the kernel reports of all changes.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with};

/// `NFNL_SUBSYS_NFTABLES << 8`
const NFTABLES: u16 = 10 << 8;
const NEWSETELEM: u16 = NFTABLES | 0x0c;
const DELSETELEM: u16 = NFTABLES | 0x0e;
const NEWGEN: u16 = NFTABLES | 0x0f;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const ERROR: u16 = 2;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const CREATE: u16 = 0x400;
/// The length of a netlink header.
const HEADER: usize = 16;
/// The multicast group `NFNLGRP_NFTABLES` (7), as a bit.
const CHANGES: u32 = 1 << 6;

/// A netlink socket of the calling thread's namespace.
#[derive(Debug)]
pub struct Nftables {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Nftables {
    /// A socket for transactions.
    pub fn open() -> Result<Self> {
        Self::with_groups(0)
    }

    /// A socket that receives every change.
    pub fn listen() -> Result<Self> {
        Self::with_groups(CHANGES)
    }

    fn with_groups(groups: u32) -> Result<Self> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(NETFILTER),
        )
        .context("make a netlink socket")?;
        bind(&socket, &SocketAddrNetlink::new(0, groups)).context("bind a netlink socket")?;
        set_socket_recv_buffer_size_force(&socket, 8 << 20).context("make room in a netlink socket")?;
        Ok(Self {
            socket,
            buffer: vec![0; 64 << 10],
        })
    }

    /// Sends a transaction and waits for the kernel's answer. Returns how long both took.
    pub fn apply(&mut self, transaction: &[u8]) -> Result<Duration> {
        let started = Instant::now();
        send(&self.socket, transaction, SendFlags::empty()).context("send a transaction")?;
        let (length, _) =
            recv(&self.socket, &mut self.buffer[..], RecvFlags::empty()).context("wait for the kernel")?;
        let took = started.elapsed();
        let answer = &self.buffer[..length];
        let (kind, body) = Messages(answer).next().context("the kernel sent nothing readable")?;
        let code = body
            .get(..4)
            .and_then(|code| code.try_into().ok())
            .map(i32::from_ne_bytes);
        match code {
            Some(0) if kind == ERROR => Ok(took),
            _ => bail!("the kernel refused a transaction: message {kind}, error {code:?}"),
        }
    }

    /// The elements that the next transaction adds and removes, as messages for [`transaction`].
    pub fn elements(&mut self) -> Result<Vec<(u16, Vec<u8>)>> {
        let mut elements = Vec::new();
        loop {
            let (length, _) =
                recv(&self.socket, &mut self.buffer[..], RecvFlags::empty()).context("listen for changes")?;
            for (kind, body) in Messages(&self.buffer[..length]) {
                match kind {
                    NEWSETELEM | DELSETELEM => elements.push((kind, body.to_vec())),
                    NEWGEN => return Ok(elements),
                    _ => {}
                }
            }
        }
    }
}

/// The kinds and bodies of the messages in one datagram.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (length, kind) = (self.0.get(..4)?.try_into().ok()?, self.0.get(4..6)?.try_into().ok()?);
        let length = usize::try_from(u32::from_ne_bytes(length)).ok()?;
        let body = self.0.get(HEADER..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes(kind), body))
    }
}

/// Makes a transaction from these messages (their kinds, and what follows the netlink header). The kernel sends one
/// answer, after the last message.
pub fn transaction(messages: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let border = [0, 0, 0, (NFTABLES >> 8) as u8];
    let mut bytes = Vec::new();
    message(&mut bytes, BATCH_BEGIN, REQUEST, &border);
    for (at, (kind, body)) in messages.iter().enumerate() {
        let create = if *kind == NEWSETELEM { CREATE } else { 0 };
        let ack = if at + 1 == messages.len() { ACK } else { 0 };
        message(&mut bytes, *kind, REQUEST | create | ack, body);
    }
    message(&mut bytes, BATCH_END, REQUEST, &border);
    bytes
}

fn message(into: &mut Vec<u8>, kind: u16, flags: u16, body: &[u8]) {
    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    into.extend(length.to_ne_bytes());
    into.extend(kind.to_ne_bytes());
    into.extend(flags.to_ne_bytes());
    into.extend([0; 8]);
    into.extend(body);
    into.resize(into.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_apart_as_they_were_put_together() {
        let bytes = transaction(&[(NEWSETELEM, vec![2, 0, 0, 0, 7]), (DELSETELEM, vec![10, 0, 0, 0])]);
        let kinds: Vec<u16> = Messages(&bytes).map(|(kind, _)| kind).collect();
        assert_eq!(kinds, [BATCH_BEGIN, NEWSETELEM, DELSETELEM, BATCH_END]);
        let bodies: Vec<&[u8]> = Messages(&bytes).map(|(_, body)| body).collect();
        assert_eq!(bodies[1], [2, 0, 0, 0, 7]);
    }
}
