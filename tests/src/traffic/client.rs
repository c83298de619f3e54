//! One request and how it ended.

use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use socket2::{Domain, Socket, Type};

use super::{Answer, Outcome, Protocol, Request, sctp};
use crate::netns::Namespace;

impl Request {
    /// Sends the request from inside the namespace and waits for its end.
    pub fn send(&self, from: &Namespace) -> Result<Outcome> {
        from.run(|| self.send_here())
    }

    /// Sends it from the namespace that the calling thread is in.
    pub(crate) fn send_here(&self) -> Outcome {
        let start = Instant::now();
        let answer = match self.protocol {
            Protocol::Udp => self.datagram(),
            Protocol::Sctp if !sctp::in_kernel() => sctp::ask(self.to, self.from, self.timeout),
            Protocol::Tcp | Protocol::Sctp => self.connection(),
        };
        let elapsed = start.elapsed();
        match answer {
            Ok(line) => match Answer::parse(&line, elapsed) {
                Ok(answer) => Outcome::Answered(answer),
                Err(error) => Outcome::Failed(format!("{error:#}")),
            },
            Err(error) => Outcome::from_error(&error, elapsed),
        }
    }

    /// Connects and reads the line that the server greets with.
    fn connection(&self) -> io::Result<String> {
        let mut socket = self.connect()?;
        let mut line = Vec::new();
        let mut chunk = [0; 128];
        while !line.ends_with(b"\n") {
            let length = socket.read(&mut chunk)?;
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            line.extend_from_slice(&chunk[..length]);
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// A connection that leaves no TIME_WAIT behind: thousands a second from one address must not run out of ports.
    pub(super) fn connect(&self) -> io::Result<Socket> {
        let protocol = match self.protocol {
            Protocol::Sctp => sctp::PROTOCOL,
            _ => socket2::Protocol::TCP,
        };
        let socket = Socket::new(Domain::for_address(self.to), Type::STREAM, Some(protocol))?;
        if let Some(source) = self.from {
            socket.set_reuse_address(true)?;
            socket.bind(&source.into())?;
        }
        socket.connect_timeout(&self.to.into(), self.timeout)?;
        if self.protocol == Protocol::Tcp {
            socket.set_linger(Some(Duration::ZERO))?;
            socket.set_tcp_nodelay(true)?;
        }
        socket.set_read_timeout(Some(self.timeout))?;
        Ok(socket)
    }

    fn datagram(&self) -> io::Result<String> {
        let socket = bind_fresh(self.from.unwrap_or_else(|| any(self.to)))?;
        socket.connect(self.to)?;
        socket.set_read_timeout(Some(self.timeout))?;
        socket.send(b"who are you?\n")?;
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
    }
}

/// A socket on a port that no datagram of this process has used lately: one that is used again meets the conntrack entry
/// of its last use, and goes where that went.
fn bind_fresh(source: SocketAddr) -> io::Result<UdpSocket> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 50_000;
    if source.port() != 0 {
        return UdpSocket::bind(source);
    }
    for _ in 0..100 {
        let port = FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        match UdpSocket::bind(SocketAddr::new(source.ip(), port)) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            result => return result,
        }
    }
    UdpSocket::bind(source)
}

/// Any address of the family, any port.
pub(super) fn any(like: SocketAddr) -> SocketAddr {
    let address = match like {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(address, 0)
}
