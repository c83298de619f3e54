//! SCTP for kernels without SCTP sockets: it opens associations over raw IP sockets.
//!
//! The client sends INIT. The server answers with INIT ACK, with its message in place of the state cookie. The client
//! ends the association with ABORT. Checksums are right, so connection tracking follows the association and NAT
//! rewrites it. A kernel that has SCTP answers such packets itself, so ordinary sockets are used there.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::any;

/// The protocol's number in IP headers.
pub const PROTOCOL: socket2::Protocol = socket2::Protocol::SCTP;

const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const ABORT: u8 = 6;
const STATE_COOKIE: u16 = 7;

/// Source port, destination port, verification tag, checksum.
const HEADER: usize = 12;
/// Chunk header, initiate tag, window, streams out and in, first sequence number.
const INIT_CHUNK: usize = 20;

/// Whether the kernel has SCTP sockets.
pub fn in_kernel() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| Socket::new(Domain::IPV4, Type::STREAM, Some(PROTOCOL)).is_ok())
}

/// A packet with one chunk that this module understands.
#[derive(Debug, Eq, PartialEq)]
struct Packet {
    source: u16,
    destination: u16,
    tag: u32,
    chunk: Chunk,
}

#[derive(Debug, Eq, PartialEq)]
enum Chunk {
    Init { tag: u32 },
    InitAck { tag: u32, cookie: Vec<u8> },
    Abort,
}

/// Opens an association and returns the server's message from its state cookie.
pub(super) fn ask(to: SocketAddr, from: Option<SocketAddr>, timeout: Duration) -> io::Result<String> {
    let socket = raw(from.unwrap_or_else(|| any(to)))?;
    socket.connect(without_port(to))?;
    let port = from
        .map(|source| source.port())
        .filter(|port| *port != 0)
        .unwrap_or_else(next_port);
    let tag = 0x7464_0000 + u32::from(port);
    let opening = Packet {
        source: port,
        destination: to.port(),
        tag: 0,
        chunk: Chunk::Init { tag },
    };
    socket.send(&opening.encode())?;
    let deadline = Instant::now() + timeout;
    let mut buffer = [0; 2048];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let length = socket.recv(&mut buffer)?;
        let Some(reply) = Packet::decode(payload(to, &buffer[..length])) else {
            continue;
        };
        if reply.source != to.port() || reply.destination != port || reply.tag != tag {
            continue;
        }
        match reply.chunk {
            Chunk::Init { .. } => {}
            Chunk::InitAck { tag, cookie } => {
                let end = Packet {
                    source: port,
                    destination: to.port(),
                    tag,
                    chunk: Chunk::Abort,
                };
                socket.send(&end.encode())?;
                return Ok(String::from_utf8_lossy(&cookie).into_owned());
            }
            Chunk::Abort => return Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }
}

/// A server: receives all SCTP packets to its address, and answers those to its port.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: UdpSocket,
    address: SocketAddr,
}

impl Listener {
    pub(crate) fn bind(address: SocketAddr, patience: Duration) -> io::Result<Self> {
        let socket = raw(address)?;
        socket.set_read_timeout(Some(patience))?;
        Ok(Self { socket, address })
    }

    /// Waits for one packet. If it is an INIT to this port, answers it with what `speak` returns for that client.
    pub(crate) fn answer(&self, speak: impl Fn(SocketAddr) -> String) -> io::Result<()> {
        let mut buffer = [0; 2048];
        let (length, client) = self.socket.recv_from(&mut buffer)?;
        match Packet::decode(payload(self.address, &buffer[..length])) {
            Some(Packet {
                source,
                destination,
                chunk: Chunk::Init { tag },
                ..
            }) if destination == self.address.port() => {
                let cookie = speak(SocketAddr::new(client.ip(), source)).into_bytes();
                let chunk = Chunk::InitAck { tag: !tag, cookie };
                let reply = Packet {
                    source: destination,
                    destination: source,
                    tag,
                    chunk,
                };
                self.socket.send_to(&reply.encode(), without_port(client)).map(drop)
            }
            _ => Ok(()),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Packet {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.source.to_be_bytes());
        bytes.extend(self.destination.to_be_bytes());
        bytes.extend(self.tag.to_be_bytes());
        bytes.extend([0; 4]); // the checksum is computed with zeros in its own place
        match &self.chunk {
            Chunk::Init { tag } => encode_init(&mut bytes, INIT, *tag, &[]),
            Chunk::InitAck { tag, cookie } => encode_init(&mut bytes, INIT_ACK, *tag, cookie),
            Chunk::Abort => bytes.extend([ABORT, 0, 0, 4]),
        }
        let checksum = crc32c(&bytes).to_le_bytes();
        bytes[8..HEADER].copy_from_slice(&checksum);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let short = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let long = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let chunk = match *bytes.get(HEADER)? {
            INIT => Chunk::Init { tag: long(HEADER + 4)? },
            INIT_ACK => {
                let parameter = HEADER + INIT_CHUNK;
                let end = parameter + usize::from(short(parameter + 2)?);
                let is_cookie = short(parameter)? == STATE_COOKIE;
                let cookie = bytes.get(parameter + 4..end).filter(|_| is_cookie)?.to_vec();
                Chunk::InitAck {
                    tag: long(HEADER + 4)?,
                    cookie,
                }
            }
            ABORT => Chunk::Abort,
            _ => return None,
        };
        Some(Self {
            source: short(0)?,
            destination: short(2)?,
            tag: long(4)?,
            chunk,
        })
    }
}

/// Appends an INIT or INIT ACK chunk with one stream each way; a cookie becomes its only parameter.
fn encode_init(bytes: &mut Vec<u8>, kind: u8, tag: u32, cookie: &[u8]) {
    let parameter = if cookie.is_empty() { 0 } else { 4 + cookie.len() };
    let length = |bytes: usize| u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes();
    bytes.extend([kind, 0]);
    bytes.extend(length(INIT_CHUNK + parameter));
    bytes.extend(tag.to_be_bytes());
    bytes.extend(65_536_u32.to_be_bytes());
    bytes.extend([0, 1, 0, 1]);
    bytes.extend(1_u32.to_be_bytes());
    if parameter > 0 {
        bytes.extend(STATE_COOKIE.to_be_bytes());
        bytes.extend(length(parameter));
        bytes.extend(cookie);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
}

/// The checksum of SCTP, computed bit by bit, because packets here are few and small.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| {
        if crc & 1 == 0 {
            crc >> 1
        } else {
            (crc >> 1) ^ 0x82f6_3b78
        }
    };
    !bytes
        .iter()
        .fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

/// What follows the IP header. Raw IPv4 sockets deliver that header, and raw IPv6 sockets do not.
fn payload(like: SocketAddr, packet: &[u8]) -> &[u8] {
    let header = match like {
        SocketAddr::V4(_) => usize::from(packet.first().unwrap_or(&0) & 0x0f) * 4,
        SocketAddr::V6(_) => 0,
    };
    packet.get(header..).unwrap_or_default()
}

/// A raw socket with the calls of a UDP socket.
fn raw(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::RAW, Some(PROTOCOL))?;
    socket.bind(&without_port(address).into())?;
    Ok(socket.into())
}

/// Raw sockets have no ports, and refuse an address that has one.
fn without_port(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), 0)
}

fn next_port() -> u16 {
    static COUNT: AtomicU16 = AtomicU16::new(0);
    32_768 + COUNT.fetch_add(1, Ordering::Relaxed) % 28_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_standard_one() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_packet_comes_back_as_it_was_sent() {
        let chunks = [
            Chunk::Init { tag: 7 },
            Chunk::InitAck {
                tag: 8,
                cookie: b"web-1 192.0.2.1:80\n".to_vec(),
            },
            Chunk::Abort,
        ];
        for chunk in chunks {
            let packet = Packet {
                source: 1,
                destination: 2,
                tag: 3,
                chunk,
            };
            assert_eq!(Packet::decode(&packet.encode()), Some(packet));
        }
    }

    #[test]
    fn a_packet_that_is_cut_short_is_nobodys() {
        let chunk = Chunk::InitAck {
            tag: 8,
            cookie: b"web-1".to_vec(),
        };
        let bytes = Packet {
            source: 1,
            destination: 2,
            tag: 3,
            chunk,
        }
        .encode();
        for length in 0..bytes.len() - 3 {
            assert_eq!(Packet::decode(&bytes[..length]), None, "{length} bytes");
        }
    }
}
