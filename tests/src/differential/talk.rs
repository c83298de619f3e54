//! A client's socket, in one of the worlds. Nothing here waits: many of them talk at the same time.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::io::Errno;
use socket2::{Domain, Socket, Type};

use super::words;

/// How a question ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Seen {
    /// This pod answered, and saw this source.
    Answered(usize, SocketAddr),
    Refused,
    /// There is no way there.
    Unreachable,
    Silent,
    /// A connection ended.
    Ended,
}

/// Where a socket is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Connecting,
    Waiting,
    Done(Seen),
}

/// A socket.
#[derive(Debug)]
pub(super) struct Talk {
    socket: Socket,
    is_udp: bool,
    stage: Stage,
    /// The number of the question.
    number: u32,
    question: Vec<u8>,
    heard: Vec<u8>,
}

impl Talk {
    /// A socket with this address and port of its own, in the namespace of the calling thread.
    pub(super) fn open(own: SocketAddr, to: SocketAddr, is_udp: bool) -> io::Result<Self> {
        let kind = if is_udp { Type::DGRAM } else { Type::STREAM };
        let socket = Socket::new(Domain::for_address(own), kind, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&own.into())?;
        if !is_udp {
            // Thousands of connections must not leave their ports behind.
            socket.set_linger(Some(Duration::ZERO))?;
            socket.set_tcp_nodelay(true)?;
        }
        let stage = match socket.connect(&to.into()) {
            Ok(()) if is_udp => Stage::Waiting,
            Ok(()) => Stage::Connecting,
            Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => Stage::Connecting,
            Err(error) => Stage::Done(seen_of(&error).ok_or(error)?),
        };
        Ok(Self {
            socket,
            is_udp,
            stage,
            number: 0,
            question: Vec::new(),
            heard: Vec::new(),
        })
    }

    /// Asks a question of so many bytes: at once, or as soon as the connection stands.
    pub(super) fn ask(&mut self, len: usize) {
        self.number += 1;
        self.question = words::question(len, self.number);
        self.heard.clear();
        match self.stage {
            Stage::Connecting | Stage::Done(Seen::Refused | Seen::Unreachable | Seen::Ended) => {}
            Stage::Waiting | Stage::Done(_) => self.say(),
        }
    }

    /// Sends the question, or sends it again: an answer to either counts.
    pub(super) fn say(&mut self) {
        self.stage = match (&self.socket).write(&self.question) {
            Ok(count) if count == self.question.len() => Stage::Waiting,
            Ok(_) => Stage::Done(Seen::Ended),
            Err(error) => seen_of(&error).map_or(Stage::Waiting, Stage::Done),
        };
    }

    /// Looks what came.
    pub(super) fn look(&mut self) {
        match self.stage {
            Stage::Done(_) => {}
            Stage::Connecting => match self.socket.take_error() {
                Ok(Some(error)) | Err(error) => self.stage = Stage::Done(seen_of(&error).unwrap_or(Seen::Silent)),
                Ok(None) if self.socket.peer_addr().is_ok() => self.say(),
                Ok(None) => {}
            },
            Stage::Waiting => self.listen(),
        }
    }

    fn listen(&mut self) {
        let mut buffer = [0; 8192];
        // As many as there can be: answers to earlier questions, or the parts of one.
        for _ in 0..64 {
            match (&self.socket).read(&mut buffer) {
                Ok(0) if !self.is_udp => return self.stage = Stage::Done(Seen::Ended),
                Ok(count) => {
                    if self.is_udp {
                        self.heard.clear();
                    }
                    self.heard.extend(&buffer[..count]);
                    if let Some((by, source)) = words::read(&self.heard, self.number) {
                        return self.stage = Stage::Done(Seen::Answered(by, source));
                    }
                }
                Err(error) => {
                    if let Some(seen) = seen_of(&error) {
                        self.stage = Stage::Done(seen);
                    }
                    return;
                }
            }
        }
    }

    /// What is waited for.
    pub(super) fn waits_for(&self) -> PollFlags {
        if self.stage == Stage::Connecting {
            PollFlags::OUT
        } else {
            PollFlags::IN
        }
    }

    /// How the question ended; none if it has not yet.
    pub(super) fn seen(&self) -> Option<Seen> {
        match self.stage {
            Stage::Done(seen) => Some(seen),
            _ => None,
        }
    }

    /// Whether it is a socket of datagrams.
    pub(super) fn is_udp(&self) -> bool {
        self.is_udp
    }
}

impl AsFd for Talk {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What an error says about who answers; none if it says nothing.
fn seen_of(error: &io::Error) -> Option<Seen> {
    match error.kind() {
        ErrorKind::ConnectionRefused => Some(Seen::Refused),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Some(Seen::Unreachable),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => Some(Seen::Ended),
        ErrorKind::TimedOut => Some(Seen::Silent),
        _ => None,
    }
}
