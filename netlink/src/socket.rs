//! The netlink socket: open, bind, send, receive. Nothing here ever waits. The kernel carries a request out while it is
//! sent, so the whole answer is in the socket when `send` returns. If the socket is empty and the answer was not in it,
//! the answer was lost.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

pub use rustix::net::netlink::NETFILTER;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, getsockname, recv, send, socket_with,
    sockopt,
};

/// The kernel writes listings in datagrams of up to 32 KiB.
const DATAGRAM: usize = 64 << 10;

/// An option of netlink sockets that can be switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// `NETLINK_EXT_ACK`: refusals carry the kernel's own words.
    Words,
    /// `NETLINK_CAP_ACK`: refusals do not carry the whole request.
    ShortRefusals,
    /// `NETLINK_GET_STRICT_CHK` (Linux 4.20): the kernel checks requests, and filters listings by them.
    Strict,
}

impl Switch {
    fn number(self) -> libc::c_int {
        match self {
            Self::Words => libc::NETLINK_EXT_ACK,
            Self::ShortRefusals => libc::NETLINK_CAP_ACK,
            Self::Strict => libc::NETLINK_GET_STRICT_CHK,
        }
    }
}

/// What `receive` found in the socket.
#[derive(Debug)]
pub enum Received<'a> {
    /// A whole datagram.
    Datagram(&'a [u8]),
    /// The beginning of a datagram that did not fit into the buffer.
    Truncated(&'a [u8]),
    /// The kernel could not deliver something, because the socket was full.
    Overrun,
    /// Nothing waits.
    Nothing,
    /// The socket failed.
    Failed(io::Error),
}

/// An open netlink socket.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    datagram: Vec<u8>,
}

impl Socket {
    /// Opens a socket of a netlink protocol; `None` is `NETLINK_ROUTE`, whose number is 0.
    pub fn open(protocol: Option<Protocol>) -> io::Result<Self> {
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        Ok(Self {
            fd,
            datagram: vec![0; DATAGRAM],
        })
    }

    /// Binds to a port id; 0 lets the kernel choose one.
    pub fn bind(&self, port: u32) -> Result<(), rustix::io::Errno> {
        bind(&self.fd, &SocketAddrNetlink::new(port, 0))
    }

    /// The port id that the socket is bound to.
    pub fn port(&self) -> io::Result<u32> {
        Ok(SocketAddrNetlink::try_from(getsockname(&self.fd)?)?.pid())
    }

    /// Switches an option on.
    pub fn switch_on(&self, switch: Switch) -> io::Result<()> {
        self.option(switch.number(), 1)
    }

    /// Subscribes to a multicast group.
    pub fn join(&self, group: u32) -> io::Result<()> {
        self.option(libc::NETLINK_ADD_MEMBERSHIP, group)
    }

    /// Asks for a send buffer of this many bytes. Returns how many the kernel granted.
    pub fn send_buffer(&self, bytes: usize) -> io::Result<usize> {
        if sockopt::set_socket_send_buffer_size_force(&self.fd, bytes).is_err() {
            sockopt::set_socket_send_buffer_size(&self.fd, bytes)?;
        }
        // The kernel doubles the requested size to pay for its own bookkeeping, and reports the double.
        Ok(sockopt::socket_send_buffer_size(&self.fd)? / 2)
    }

    /// Asks for a receive buffer of this many bytes.
    pub fn receive_buffer(&self, bytes: usize) -> io::Result<()> {
        if sockopt::set_socket_recv_buffer_size_force(&self.fd, bytes).is_err() {
            sockopt::set_socket_recv_buffer_size(&self.fd, bytes)?;
        }
        Ok(())
    }

    /// Sends messages in one piece. Returns how many bytes the kernel took.
    pub fn send(&self, bytes: &[u8]) -> Result<usize, rustix::io::Errno> {
        send(&self.fd, bytes, SendFlags::empty())
    }

    /// Receives one datagram, if there is one.
    pub fn receive(&mut self) -> Received<'_> {
        // With TRUNC the length is that of the datagram, even if the buffer is shorter.
        let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
        loop {
            return match recv(&self.fd, self.datagram.as_mut_slice(), flags) {
                Ok((_, length)) => match self.datagram.get(..length) {
                    Some(datagram) => Received::Datagram(datagram),
                    None => Received::Truncated(&self.datagram),
                },
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::NOBUFS) => Received::Overrun,
                Err(rustix::io::Errno::AGAIN) => Received::Nothing,
                Err(error) => Received::Failed(error.into()),
            };
        }
    }

    #[expect(unsafe_code, reason = "no safe crate in use offers the options of netlink sockets")]
    fn option(&self, option: libc::c_int, value: u32) -> io::Result<()> {
        // A u32 is four bytes.
        let size: libc::socklen_t = 4;
        let value = (&raw const value).cast();
        // SAFETY: the descriptor is open, and the pointer leads to four bytes that live until the call has returned.
        let result = unsafe { libc::setsockopt(self.fd.as_raw_fd(), libc::SOL_NETLINK, option, value, size) };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
