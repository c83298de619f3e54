//! One request and how it ended.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use socket2::{Domain, Socket, Type};

use super::{Answer, Outcome, Protocol, Request, any, sctp};
use crate::netns::Namespace;

impl Request {
    /// Sends the request from inside the namespace and waits for its end.
    pub fn send(&self, from: &Namespace) -> Result<Outcome> {
        from.run(|| self.send_here())
    }

    /// Sends it from the namespace that the calling thread is in.
    pub(crate) fn send_here(&self) -> Outcome {
        self.send_here_from(&mut None)
    }

    /// The same. Notes the own address and port of the socket, if it got an answer or waited for one.
    pub(crate) fn send_here_from(&self, own: &mut Option<SocketAddr>) -> Outcome {
        let start = Instant::now();
        let answer = match self.protocol {
            Protocol::Udp => self.datagram(own),
            Protocol::Sctp if self.own_packets || !sctp::in_kernel() => sctp::ask(self.to, self.from, self.timeout),
            Protocol::Tcp | Protocol::Sctp => self.connection(own),
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

    /// Connects and reads the line with which the server greets.
    fn connection(&self, own: &mut Option<SocketAddr>) -> io::Result<String> {
        let mut socket = self.connect()?;
        *own = socket.local_addr()?.as_socket();
        if let Some(size) = self.size {
            socket.write_all(&question(size))?;
            socket.shutdown(Shutdown::Write)?;
            let mut answer = Vec::new();
            socket.read_to_end(&mut answer)?;
            return whole(&answer, size);
        }
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

    /// Connects in a way that leaves no TIME_WAIT, because thousands of connections a second from one address must not
    /// use up its ports.
    pub(crate) fn connect(&self) -> io::Result<Socket> {
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
        socket.set_write_timeout(Some(self.timeout))?;
        Ok(socket)
    }

    fn bind(&self) -> io::Result<UdpSocket> {
        bind_fresh(self.from.unwrap_or_else(|| any(self.to)))
    }

    fn datagram(&self, own: &mut Option<SocketAddr>) -> io::Result<String> {
        let own_socket;
        let socket = match self.kept.as_ref().map(|kept| (kept.get(), kept)) {
            Some((Some(socket), _)) => {
                drain(socket)?;
                socket
            }
            Some((None, kept)) => {
                let socket = self.bind()?;
                kept.get_or_init(|| socket)
            }
            None => {
                own_socket = self.bind()?;
                &own_socket
            }
        };
        if !self.unconnected {
            socket.connect(self.to)?;
        }
        *own = socket.local_addr().ok();
        socket.set_read_timeout(Some(self.timeout))?;
        let size = self.size.unwrap_or_default();
        let mut answer = vec![0; size.max(512)];
        let length = if self.unconnected {
            socket.send_to(&question(size), self.to)?;
            let (length, by) = socket.recv_from(&mut answer)?;
            if by != self.to {
                return Err(io::Error::other(format!("an answer from {by} instead of {}", self.to)));
            }
            length
        } else {
            socket.send(&question(size))?;
            socket.recv(&mut answer)?
        };
        whole(&answer[..length], size)
    }
}

/// Reads what came too late for earlier requests.
fn drain(socket: &UdpSocket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    while socket.recv_from(&mut [0; 16]).is_ok() {}
    socket.set_nonblocking(false)
}

/// What a client sends, filled with blanks to this size.
fn question(size: usize) -> Vec<u8> {
    let mut bytes = b"who are you?\n".to_vec();
    bytes.resize(size.max(bytes.len()), b'\n');
    bytes
}

/// The answer as text, if it is as long as the question was.
fn whole(answer: &[u8], size: usize) -> io::Result<String> {
    if answer.len() < size {
        let text = format!("an answer of {} bytes instead of {size}", answer.len());
        return Err(io::Error::other(text));
    }
    Ok(String::from_utf8_lossy(answer).into_owned())
}

/// A socket on a port from which this process has sent no datagram recently. If a port is used again, its old conntrack
/// entry decides where the datagram goes.
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
