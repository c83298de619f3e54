//! The netlink socket: all netlink I/O of this crate, and its system calls that need `unsafe`. One socket per family
//! for the life of the process, because the kernel ties a table's owner to it. Used by `Kernel`; never looks into what
//! is sent.
//!
//! The kernel carries a request out while it is being sent, so every answer waits in the socket when `send` returns:
//! nothing here ever blocks. An empty socket without the answer means that the answer was lost.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with, sockopt,
};

use crate::answer::{Content, Messages, Refusal};
use crate::wire::{Command, request};

/// Holds 250,000 rows with their comments in one transaction, twice over.
const SEND_BUFFER: usize = 128 << 20;
/// Holds one refusal for each of 100,000 rows.
const RECEIVE_BUFFER: usize = 64 << 20;
/// Listings come in datagrams of 32 KiB.
const DATAGRAM: usize = 64 << 10;
/// How often a listing is begun again because the tables changed under it.
const ATTEMPTS: usize = 20;

/// An open socket.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    port: u32,
    sequence: u32,
    datagram: Vec<u8>,
    request: Vec<u8>,
    /// The largest transaction that can be sent in one piece.
    limit: usize,
}

/// How a transaction ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// All of it was carried out.
    Done,
    /// None of it was carried out, for these reasons.
    Refused(Vec<Refusal>),
    /// None of it was carried out: it could not be sent.
    NotSent(io::Error),
    /// Nobody knows: the answer was lost.
    Lost(String),
}

/// Why a listing failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the tables changed {ATTEMPTS} times while they were read")]
    Restless,
}

impl Socket {
    pub(crate) fn open() -> io::Result<Self> {
        let fd = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(NETFILTER),
        )?;
        let port = bind_to_pid(&fd)?;
        netlink_option(&fd, libc::NETLINK_EXT_ACK)?;
        netlink_option(&fd, libc::NETLINK_CAP_ACK)?;
        if sockopt::set_socket_send_buffer_size_force(&fd, SEND_BUFFER).is_err() {
            sockopt::set_socket_send_buffer_size(&fd, SEND_BUFFER)?;
        }
        if sockopt::set_socket_recv_buffer_size_force(&fd, RECEIVE_BUFFER).is_err() {
            sockopt::set_socket_recv_buffer_size(&fd, RECEIVE_BUFFER)?;
        }
        // The kernel doubles what it is asked for, to pay for its own bookkeeping, and reports the double.
        let limit = sockopt::socket_send_buffer_size(&fd)? / 2;
        if limit < SEND_BUFFER {
            tracing::warn!(
                bytes = limit,
                "the kernel grants no large socket buffer (CAP_NET_ADMIN in the first user namespace is missing): \
                 large changes are split into several transactions"
            );
        }
        Ok(Self {
            fd,
            port,
            sequence: 1,
            datagram: vec![0; DATAGRAM],
            request: Vec::new(),
            limit,
        })
    }

    /// The netlink port id by which the kernel knows this socket.
    pub(crate) fn port(&self) -> u32 {
        self.port
    }

    /// The largest transaction that can be sent in one piece.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// The number for the next message.
    pub(crate) fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Sends a transaction whose messages are numbered from `first`, and gathers the answers up to that for `last`.
    pub(crate) fn transact(&mut self, bytes: &[u8], first: u32, last: u32) -> Outcome {
        self.sequence = last.wrapping_add(2); // the end marker has a number too
        match send(&self.fd, bytes, SendFlags::empty()) {
            Ok(sent) if sent == bytes.len() => {}
            Ok(sent) => return Outcome::Lost(format!("{sent} of {} bytes were sent", bytes.len())),
            Err(rustix::io::Errno::INTR) => return Outcome::Lost("sending was interrupted".to_owned()),
            Err(error) => return Outcome::NotSent(error.into()),
        }
        let mut refusals = Vec::new();
        let mut overrun = false;
        loop {
            let received = match recv(&self.fd, &mut self.datagram[..], RecvFlags::DONTWAIT) {
                Ok((_, received)) => received,
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::NOBUFS) => {
                    overrun = true;
                    continue;
                }
                Err(_) if !refusals.is_empty() => return Outcome::Refused(refusals),
                Err(rustix::io::Errno::AGAIN) if overrun => {
                    return Outcome::Lost("the kernel's answer did not fit into the socket's buffer".to_owned());
                }
                Err(rustix::io::Errno::AGAIN) => return Outcome::Lost("the kernel did not answer".to_owned()),
                Err(error) => return Outcome::Lost(format!("receiving the kernel's answer: {error}")),
            };
            for message in Messages(self.datagram.get(..received).unwrap_or_default()) {
                if message.sequence.wrapping_sub(first) > last.wrapping_sub(first) {
                    continue; // an answer to something earlier, left behind by an overrun
                }
                if let Content::Refused(refusal) = message.content {
                    refusals.push(refusal);
                }
                if message.sequence == last {
                    return if refusals.is_empty() {
                        Outcome::Done
                    } else {
                        Outcome::Refused(refusals)
                    };
                }
            }
        }
    }

    /// Asks one question; `answer` is called with each message of the answer, and `restart` before the question is
    /// asked again because the tables changed.
    pub(crate) fn list<S>(
        &mut self,
        command: Command,
        flags: u16,
        nfproto: u8,
        attributes: impl Fn(&mut Vec<u8>),
        start: impl Fn() -> S,
        answer: impl Fn(&mut S, &[u8]),
    ) -> Result<S, ListError> {
        for _ in 0..ATTEMPTS {
            let mut state = start();
            let sequence = self.sequence;
            self.sequence = self.sequence.wrapping_add(1);
            request(&mut self.request, command, flags, sequence, nfproto, &attributes);
            send(&self.fd, &self.request, SendFlags::empty()).map_err(io::Error::from)?;
            if self.receive(sequence, flags & crate::wire::DUMP != 0, |body| {
                answer(&mut state, body);
            })? {
                return Ok(state);
            }
        }
        Err(ListError::Restless)
    }

    /// Receives the answers to one question; false if they contradict each other.
    fn receive(&mut self, sequence: u32, many: bool, mut answer: impl FnMut(&[u8])) -> io::Result<bool> {
        let mut whole = true;
        loop {
            let received = match recv(&self.fd, &mut self.datagram[..], RecvFlags::DONTWAIT) {
                Ok((_, received)) => received,
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::NOBUFS) => {
                    whole = false;
                    continue;
                }
                Err(rustix::io::Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(error.into()),
            };
            for message in Messages(self.datagram.get(..received).unwrap_or_default()) {
                if message.sequence != sequence {
                    continue;
                }
                whole &= !message.interrupted;
                match message.content {
                    Content::Data { body, .. } => answer(body),
                    Content::End | Content::Done => return Ok(whole),
                    Content::Refused(refusal) if refusal.errno == libc::EINTR => whole = false,
                    Content::Refused(refusal) => return Err(io::Error::from_raw_os_error(refusal.errno)),
                }
                if !many {
                    return Ok(whole);
                }
            }
        }
    }
}

/// Binds to a port id that names this process: its pid, or, as libnl does, the pid with a number above it.
fn bind_to_pid(fd: &OwnedFd) -> io::Result<u32> {
    const TRIES: u32 = 1024;
    let pid = std::process::id() & crate::owner::PID;
    for n in 0..TRIES {
        let port = pid | n << crate::owner::PID.count_ones();
        match bind(fd, &SocketAddrNetlink::new(port, 0)) {
            Err(rustix::io::Errno::ADDRINUSE) => {}
            result => return result.map(|()| port).map_err(io::Error::from),
        }
    }
    Err(io::Error::from(rustix::io::Errno::ADDRINUSE))
}

#[expect(
    unsafe_code,
    reason = "no safe crate in use offers these two options of netlink sockets"
)]
fn netlink_option(fd: &OwnedFd, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    // An int is four bytes.
    let size: libc::socklen_t = 4;
    // SAFETY: the descriptor is open, and the pointer leads to an int that lives until the call has returned.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_NETLINK, option, (&raw const on).cast(), size) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The process at the other end of a unix socket; 0 if it is in a pid namespace that this process does not see.
#[expect(
    unsafe_code,
    reason = "the safe wrapper in use takes a pid of 0, which it declares impossible, for valid"
)]
pub(crate) fn peer_pid(stream: &std::os::unix::net::UnixStream) -> io::Result<u32> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    // Three words.
    let mut size: libc::socklen_t = 12;
    // SAFETY: the descriptor is open, and both pointers lead to values that live until the call has returned; the
    // kernel writes at most `size` bytes, which is what an ucred has.
    let result = unsafe {
        let peer = (&raw mut peer).cast();
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            peer,
            &raw mut size,
        )
    };
    if result == 0 {
        Ok(peer.pid.unsigned_abs())
    } else {
        Err(io::Error::last_os_error())
    }
}
