//! The socket for nftables: all netlink I/O of this crate. Used by sessions. It does not look into what is sent.
//!
//! A family has one socket for as long as its table is open, because the kernel ties a table's owner to the socket.
//! After a failure the table is opened over a new socket.
//!
//! Nothing here blocks (see `tandem_netlink::socket`). If the socket is empty and the answer was not in it, the answer
//! was lost.

use std::io;

use tandem_netlink::answer::{Content, Messages};
use tandem_netlink::socket::{NETFILTER, Received, Socket, Switch};

use crate::wire::outcome::{Answers, LostError, Outcome};
use crate::wire::owner::PID_BITS;
use crate::wire::{Command, request};

/// How often a listing is begun again if the tables change meanwhile.
const ATTEMPTS: usize = 20;

/// How much a socket can hold, in bytes. The kernel grants small buffers to everybody. It grants large ones to a
/// process with CAP_NET_ADMIN in the first user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Buffers {
    /// The largest transaction that can be sent in one piece.
    pub(crate) send: usize,
    /// Room for the refusals of one transaction.
    pub(crate) receive: usize,
}

impl Buffers {
    /// Room for twice 250,000 rows with their comments in one transaction, and for a refusal of each of 100,000 rows.
    pub(crate) const LARGE: Self = Self {
        send: 128 << 20,
        receive: 64 << 20,
    };

    /// Room for a handful of messages.
    pub(crate) const SMALL: Self = Self {
        send: 64 << 10,
        receive: 64 << 10,
    };
}

/// An open socket.
#[derive(Debug)]
pub(crate) struct NetlinkSocket {
    socket: Socket,
    port: u32,
    sequence: u32,
    request: Vec<u8>,
    /// The largest transaction that can be sent in one piece.
    limit: usize,
    /// A part of an earlier answer may wait in the socket. Once the socket was too full, the kernel drops answers
    /// without a word until the socket is empty.
    undrained: bool,
}

/// Why a listing failed.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The socket failed, or the kernel refused the question.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Others change the tables faster than they can be read.
    #[error("the tables changed {ATTEMPTS} times while they were read")]
    KeepsChanging,
}

impl NetlinkSocket {
    pub(crate) fn open() -> io::Result<Self> {
        Self::with(Buffers::LARGE)
    }

    pub(crate) fn with(buffers: Buffers) -> io::Result<Self> {
        let socket = Socket::open(Some(NETFILTER))?;
        let port = bind_to_pid(&socket)?;
        socket.switch_on(Switch::Words)?;
        socket.switch_on(Switch::ShortRefusals)?;
        socket.receive_buffer(buffers.receive)?;
        let limit = socket.send_buffer(buffers.send)?;
        if limit < buffers.send {
            tracing::warn!(
                bytes = limit,
                "the kernel grants no large socket buffer (CAP_NET_ADMIN in the first user namespace is missing): \
                 large changes are split into several transactions"
            );
        }
        Ok(Self {
            socket,
            port,
            sequence: 1,
            request: Vec::new(),
            limit,
            undrained: false,
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

    /// Sends a transaction whose messages are numbered from `first`. Receives the answers up to the one for message
    /// `last`.
    pub(crate) fn transact(&mut self, bytes: &[u8], first: u32, last: u32) -> Outcome {
        self.drain();
        self.sequence = last.wrapping_add(2); // the end marker has a number too
        match self.socket.send(bytes) {
            Ok(sent) if sent == bytes.len() => {}
            Ok(sent) => {
                return self.lost(LostError::SentInPart {
                    sent,
                    whole: bytes.len(),
                });
            }
            Err(rustix::io::Errno::INTR) => return self.lost(LostError::Interrupted),
            Err(error) => return Outcome::NotSent(error.into()),
        }
        let mut answers = Answers::new(first, last);
        self.undrained = true;
        loop {
            match self.socket.receive() {
                Received::Datagram(datagram) => {
                    if answers.take(datagram) {
                        break;
                    }
                }
                Received::Truncated(datagram) => {
                    answers.lose(LostError::Truncated);
                    answers.take(datagram);
                }
                Received::Overrun => answers.lose(LostError::Overrun),
                Received::Nothing => break,
                Received::Failed(error) => {
                    answers.lose(LostError::Receive(error));
                    break;
                }
            }
        }
        let outcome = answers.end();
        self.undrained = !matches!(outcome, Outcome::Done);
        outcome
    }

    fn lost(&mut self, why: LostError) -> Outcome {
        self.undrained = true;
        Outcome::Lost(why)
    }

    /// Throws away what is left of an earlier answer.
    fn drain(&mut self) {
        while self.undrained {
            self.undrained = !matches!(self.socket.receive(), Received::Nothing | Received::Failed(_));
        }
    }

    /// Asks one question, and asks again if the tables changed meanwhile. Each time, `start` makes a new state, and
    /// `answer` takes each message of the answer into it.
    pub(crate) fn query<S>(
        &mut self,
        command: Command,
        flags: u16,
        nfproto: u8,
        attributes: impl Fn(&mut Vec<u8>),
        start: impl Fn() -> S,
        answer: impl Fn(&mut S, &[u8]),
    ) -> Result<S, ListError> {
        for _ in 0..ATTEMPTS {
            self.drain();
            let mut state = start();
            let sequence = self.sequence;
            self.sequence = self.sequence.wrapping_add(1);
            request(&mut self.request, command, flags, sequence, nfproto, &attributes);
            self.undrained = true;
            match self.socket.send(&self.request) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(io::Error::from(error).into()),
            }
            if self.receive_answers(sequence, flags & crate::wire::DUMP != 0, |body| {
                answer(&mut state, body);
            })? {
                self.undrained = false;
                return Ok(state);
            }
        }
        Err(ListError::KeepsChanging)
    }

    /// Receives the answers to one question. Gives false if answers are missing or contradict each other.
    fn receive_answers(&mut self, sequence: u32, many: bool, mut answer: impl FnMut(&[u8])) -> io::Result<bool> {
        let mut whole = true;
        loop {
            let datagram = match self.socket.receive() {
                Received::Datagram(datagram) => datagram,
                Received::Truncated(datagram) => {
                    whole = false;
                    datagram
                }
                Received::Overrun => {
                    whole = false;
                    continue;
                }
                Received::Nothing => return Ok(false),
                Received::Failed(error) => return Err(error),
            };
            let mut messages = Messages(datagram);
            for message in &mut messages {
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
            whole &= messages.0.is_empty();
        }
    }
}

/// Binds to a port id that names this process: its pid or, as libnl does, the pid with a number above it. Anybody may
/// bind to these. If all of them are taken, the kernel chooses one.
fn bind_to_pid(socket: &Socket) -> io::Result<u32> {
    const TRIES: u32 = 1024;
    let pid = std::process::id() & PID_BITS;
    for n in 0..TRIES {
        match socket.bind(pid | n << PID_BITS.count_ones()) {
            Err(rustix::io::Errno::ADDRINUSE) => {}
            Err(error) => return Err(error.into()),
            Ok(()) => return socket.port(),
        }
    }
    socket.bind(0)?;
    socket.port()
}
