//! How a program asks, and what its socket is told.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvFlags, SendFlags, recvmsg, sendto};
use socket2::{Domain, MsgHdr, SockAddr, Socket, Type};

use crate::traffic::{Answer, Outcome, Protocol, Request};

/// `MSG_FASTOPEN`: connect, and send with the first packet.
const FAST_OPEN: SendFlags = SendFlags::from_bits_retain(0x2000_0000);
/// `EINPROGRESS`
const IN_PROGRESS: i32 = 115;
const QUESTION: &[u8] = b"who are you?\n";

/// The calls by which a program asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// `connect`, TCP.
    Tcp,
    /// `connect` that does not wait, TCP, then `poll` and `SO_ERROR`.
    NonBlocking,
    /// `sendto` with `MSG_FASTOPEN`, TCP.
    FastOpen,
    /// `connect`, MPTCP.
    Mptcp,
    /// `sendto` and `recvfrom`, UDP.
    SendTo,
    /// `sendmsg` and `recvmsg`, UDP.
    SendMsg,
    /// `connect`, `send` and `recvfrom`, UDP.
    ConnectedUdp,
    /// One association, by the kernel's sockets if it has them, else by packets of its own.
    Sctp,
}

/// What a socket is bound to before it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// To nothing.
    Nothing,
    /// To a device.
    Device(&'static str),
    /// To an address of its own.
    Address(IpAddr),
    /// To a port that the kernel chooses.
    Port,
}

/// One question.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// The calls.
    pub way: Way,
    /// The address that the program names.
    pub to: SocketAddr,
    /// What its socket is bound to.
    pub bound: Bound,
    /// Whether it should be told of a refusal. Over SCTP, it then makes its packets itself.
    pub hears_refusals: bool,
    /// How long it waits.
    pub patience: Duration,
}

/// What a program was told.
#[derive(Clone, Debug)]
pub struct Seen {
    /// How it ended.
    pub outcome: Outcome,
    /// The socket's own port.
    pub port: Option<u16>,
    /// What `getpeername` said.
    pub peer: Option<SocketAddr>,
    /// What `recvfrom` or `recvmsg` said.
    pub sender: Option<SocketAddr>,
}

impl Way {
    /// The transport, as connection tracking sees it.
    pub fn protocol(self) -> Protocol {
        match self {
            Self::Tcp | Self::NonBlocking | Self::FastOpen | Self::Mptcp => Protocol::Tcp,
            Self::SendTo | Self::SendMsg | Self::ConnectedUdp => Protocol::Udp,
            Self::Sctp => Protocol::Sctp,
        }
    }

    /// Whether its socket has a peer.
    pub fn has_peer(self) -> bool {
        !matches!(self, Self::SendTo | Self::SendMsg)
    }

    /// Whether `getpeername` tells the peer. Packets over SCTP are made on a socket that this test does not see.
    pub fn connects(self) -> bool {
        self.has_peer() && self != Self::Sctp
    }
}

impl fmt::Display for Way {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Tcp => "TCP",
            Self::NonBlocking => "TCP that does not wait",
            Self::FastOpen => "TCP Fast Open",
            Self::Mptcp => "MPTCP",
            Self::SendTo => "UDP sendto",
            Self::SendMsg => "UDP sendmsg",
            Self::ConnectedUdp => "connected UDP",
            Self::Sctp => "SCTP",
        })
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => Ok(()),
            Self::Device(name) => write!(formatter, ", bound to device {name}"),
            Self::Address(_) => formatter.write_str(", bound to an address"),
            Self::Port => formatter.write_str(", bound to a port"),
        }
    }
}

impl Question {
    /// Asks on a new socket of the calling thread.
    pub fn ask(&self) -> Seen {
        if self.way == Way::Sctp {
            let request = Request::sctp(self.to).timeout(self.patience);
            let outcome = request.own_packets(self.hears_refusals).send_here();
            return Seen::nothing_but(outcome);
        }
        match self.open() {
            Ok(socket) => self.ask_on(&socket),
            Err(error) => Seen::nothing_but(Outcome::Failed(format!("make a socket: {error}"))),
        }
    }

    /// A socket that has asked for nothing yet.
    pub fn open(&self) -> io::Result<Socket> {
        let (kind, protocol) = match self.way {
            Way::Mptcp => (Type::STREAM, socket2::Protocol::MPTCP),
            Way::Tcp | Way::NonBlocking | Way::FastOpen | Way::Sctp => (Type::STREAM, socket2::Protocol::TCP),
            Way::SendTo | Way::SendMsg | Way::ConnectedUdp => (Type::DGRAM, socket2::Protocol::UDP),
        };
        let socket = Socket::new(Domain::for_address(self.to), kind, Some(protocol))?;
        match self.bound {
            Bound::Nothing => {}
            Bound::Device(name) => socket.bind_device(Some(name.as_bytes()))?,
            Bound::Address(address) => socket.bind(&SocketAddr::new(address, 0).into())?,
            Bound::Port => socket.bind(&crate::traffic::any(self.to).into())?,
        }
        Ok(socket)
    }

    /// Asks on a socket that may have asked before.
    pub fn ask_on(&self, socket: &Socket) -> Seen {
        let start = Instant::now();
        let mut sender = None;
        let answer = self.exchange(socket, &mut sender);
        let elapsed = start.elapsed();
        let outcome = match answer {
            Ok(line) => Answer::parse(&line, elapsed)
                .map_or_else(|error| Outcome::Failed(format!("{error:#}")), Outcome::Answered),
            // This is how a `connect` that waits tells that `SO_SNDTIMEO` is over.
            Err(error) if error.raw_os_error() == Some(IN_PROGRESS) => Outcome::TimedOut { after: elapsed },
            Err(error) => Outcome::from_error(&error, elapsed),
        };
        let address = |of: io::Result<SockAddr>| of.ok().and_then(|address| address.as_socket());
        Seen {
            outcome,
            port: address(socket.local_addr())
                .map(|local| local.port())
                .filter(|port| *port != 0),
            peer: address(socket.peer_addr()),
            sender,
        }
    }

    fn exchange(&self, socket: &Socket, sender: &mut Option<SocketAddr>) -> io::Result<String> {
        socket.set_write_timeout(Some(self.patience))?; // `connect` obeys it too
        socket.set_read_timeout(Some(self.patience))?;
        let to = SockAddr::from(self.to);
        match self.way {
            Way::Tcp | Way::Mptcp => {
                socket.connect(&to)?;
                greeting(socket)
            }
            Way::NonBlocking => {
                connect_later(socket, &to, self.patience)?;
                greeting(socket)
            }
            Way::FastOpen => {
                sendto(socket, QUESTION, FAST_OPEN | SendFlags::NOSIGNAL, &self.to)?;
                greeting(socket)
            }
            Way::SendTo => {
                socket.send_to(QUESTION, &to)?;
                datagram(socket, sender)
            }
            Way::SendMsg => {
                let bytes = [IoSlice::new(QUESTION)];
                socket.sendmsg(&MsgHdr::new().with_addr(&to).with_buffers(&bytes), 0)?;
                message(socket, sender)
            }
            Way::ConnectedUdp => {
                socket.connect(&to)?;
                socket.send(QUESTION)?;
                datagram(socket, sender)
            }
            Way::Sctp => Err(ErrorKind::Unsupported.into()),
        }
    }
}

impl Seen {
    fn nothing_but(outcome: Outcome) -> Self {
        Self {
            outcome,
            port: None,
            peer: None,
            sender: None,
        }
    }
}

/// Connects without waiting in `connect`, as event loops do.
fn connect_later(socket: &Socket, to: &SockAddr, patience: Duration) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    match socket.connect(to) {
        Err(error) if error.raw_os_error() == Some(IN_PROGRESS) => {
            let wait = Timespec::try_from(patience).map_err(io::Error::other)?;
            if poll(&mut [PollFd::new(socket, PollFlags::OUT)], Some(&wait))? == 0 {
                return Err(ErrorKind::TimedOut.into());
            }
            if let Some(error) = socket.take_error()? {
                return Err(error);
            }
        }
        connected => connected?,
    }
    socket.set_nonblocking(false)
}

/// The line with which a server greets. Afterwards the connection is reset, so that it leaves nothing behind.
fn greeting(mut socket: &Socket) -> io::Result<String> {
    let _ = socket.set_linger(Some(Duration::ZERO)); // MPTCP may not have it
    let mut line = Vec::new();
    let mut chunk = [0; 128];
    while !line.contains(&b'\n') {
        let length = socket.read(&mut chunk)?;
        if length == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        line.extend_from_slice(&chunk[..length]);
    }
    let text = String::from_utf8_lossy(&line).into_owned();
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn datagram(socket: &Socket, sender: &mut Option<SocketAddr>) -> io::Result<String> {
    let mut bytes = [0; 512];
    let (length, from) =
        rustix::net::recvfrom(socket, &mut bytes, RecvFlags::empty()).map(|(length, _, from)| (length, from))?;
    *sender = from.and_then(|from| SocketAddr::try_from(from).ok());
    Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
}

fn message(socket: &Socket, sender: &mut Option<SocketAddr>) -> io::Result<String> {
    let mut bytes = [0; 512];
    let mut into = [IoSliceMut::new(&mut bytes)];
    let got = recvmsg(
        socket,
        &mut into,
        &mut RecvAncillaryBuffer::default(),
        RecvFlags::empty(),
    )?;
    *sender = got.address.and_then(|from| SocketAddr::try_from(from).ok());
    Ok(String::from_utf8_lossy(&bytes[..got.bytes]).into_owned())
}
