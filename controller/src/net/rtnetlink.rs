//! The socket that lists and changes objects.

use std::io;

use tandem_netlink::answer::{Content, Messages, Refusal};
use tandem_netlink::message::{ACK, DUMP, push};
use tandem_netlink::socket::{Received, Socket, Switch};

use super::object::{Change, Listed};

/// How often a listing is tried if objects change while it is read.
const ATTEMPTS: u32 = 5;
/// How many changes are sent at once. The refusals of all of them fit into the socket.
const BATCH: usize = 128;

/// Why the kernel's network configuration cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The socket cannot be opened.
    #[error("cannot open an rtnetlink socket: {0}")]
    Open(#[source] io::Error),
    /// The kernel does not list a kind of object.
    #[error("cannot read {what}: {source}")]
    Read {
        /// The kind of object.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The listing was never complete.
    #[error("cannot read {what}: they changed {ATTEMPTS} times while they were read")]
    Restless {
        /// The kind of object.
        what: &'static str,
    },
    /// A change could not be sent. The kernel has not seen it.
    #[error("cannot send a change to the kernel: {0}")]
    Send(#[source] io::Error),
    /// It is not known whether the kernel carried the change out.
    #[error("the kernel's answer to a change was lost")]
    Lost,
    /// The kernel's reports of changes cannot be received.
    #[error("cannot follow changes: {0}")]
    Follow(#[source] io::Error),
}

/// The kernel's answer to one change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was carried out.
    Done,
    /// There was nothing to do: the object existed already, or was gone already.
    AlreadySo,
    /// It was refused. The other changes were carried out all the same.
    Refused(Refusal),
}

/// A socket that lists and changes objects in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Rtnetlink {
    socket: Socket,
    sequence: u32,
    request: Vec<u8>,
    /// Whether a part of an earlier answer may still be in the socket.
    unsettled: bool,
}

impl Rtnetlink {
    /// Opens the socket.
    pub fn open() -> Result<Self, NetError> {
        let open = || {
            let socket = Socket::open(None)?;
            socket.bind(0)?;
            socket.switch_on(Switch::Words)?;
            socket.switch_on(Switch::ShortRefusals)?;
            // Kernels before 4.20 list more than was asked for. `Listed::passes` removes the rest.
            let _ = socket.switch_on(Switch::Strict);
            Ok(socket)
        };
        Ok(Self {
            socket: open().map_err(NetError::Open)?,
            sequence: 1,
            request: Vec::new(),
            unsettled: false,
        })
    }

    /// Lists the objects of one kind.
    pub fn list<O: Listed>(&mut self, filter: &O::Filter) -> Result<Vec<O>, NetError> {
        let failed = |source| NetError::Read { what: O::NAME, source };
        for _ in 0..ATTEMPTS {
            self.settle();
            let sequence = self.number(1);
            self.request.clear();
            push(&mut self.request, O::GET, DUMP, sequence, |body| O::ask(filter, body));
            self.unsettled = true;
            match self.socket.send(&self.request) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(failed(error.into())),
            }
            let mut found = Vec::new();
            let whole = self.gather(sequence, |body| {
                found.extend(O::decode(body).filter(|object| object.passes(filter)));
            });
            if whole.map_err(failed)? {
                self.unsettled = false;
                return Ok(found);
            }
        }
        Err(NetError::Restless { what: O::NAME })
    }

    /// Carries changes out in this order. If one is refused, the next ones are tried all the same. Returns an answer to
    /// each.
    ///
    /// After an error, some changes may have been carried out. So read the objects again before the next change.
    pub fn apply(&mut self, changes: &[Change]) -> Result<Vec<Answer>, NetError> {
        let mut answers = Vec::with_capacity(changes.len());
        for batch in changes.chunks(BATCH) {
            self.send(batch, &mut answers)?;
        }
        Ok(answers)
    }

    fn send(&mut self, batch: &[Change], answers: &mut Vec<Answer>) -> Result<(), NetError> {
        self.settle();
        let start = answers.len();
        let first = self.number(batch.len());
        self.request.clear();
        let mut last = first;
        for (index, change) in batch.iter().enumerate() {
            let (kind, flags) = change.head();
            last = first.wrapping_add(u32::try_from(index).unwrap_or_default());
            // Refusals always arrive. The acknowledgement of the last change says that there are no more.
            let ack = if index + 1 == batch.len() { ACK } else { 0 };
            push(&mut self.request, kind, flags | ack, last, |body| change.encode(body));
            answers.push(Answer::Done);
        }
        self.unsettled = true;
        let sent = self.socket.send(&self.request);
        let sent = sent.map_err(|error| NetError::Send(error.into()))?;
        if sent != self.request.len() {
            return Err(NetError::Lost);
        }
        loop {
            let Received::Datagram(datagram) = self.socket.receive() else {
                return Err(NetError::Lost);
            };
            for message in Messages(datagram) {
                let index = usize::try_from(message.sequence.wrapping_sub(first)).unwrap_or(usize::MAX);
                let Some(change) = batch.get(index) else {
                    continue; // of an earlier batch
                };
                if let Content::Refused(refusal) = message.content {
                    answers[start + index] = if change.is_settled_by(refusal.errno) {
                        Answer::AlreadySo
                    } else {
                        Answer::Refused(refusal)
                    };
                }
                if message.sequence == last {
                    self.unsettled = false;
                    return Ok(());
                }
            }
        }
    }

    /// The first of `count` numbers for messages. None of them is 0, the number of notifications.
    fn number(&mut self, count: usize) -> u32 {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        if self.sequence.checked_add(count).is_none() {
            self.sequence = 1;
        }
        let first = self.sequence;
        self.sequence += count;
        first
    }

    /// Discards the rest of an earlier answer.
    fn settle(&mut self) {
        while self.unsettled {
            self.unsettled = !matches!(self.socket.receive(), Received::Nothing | Received::Failed(_));
        }
    }

    /// Receives the answer to one listing. Returns false if it is not complete.
    fn gather(&mut self, sequence: u32, mut each: impl FnMut(&[u8])) -> io::Result<bool> {
        let mut whole = true;
        loop {
            let datagram = match self.socket.receive() {
                Received::Datagram(datagram) => datagram,
                Received::Truncated(_) | Received::Overrun => {
                    whole = false;
                    continue;
                }
                Received::Nothing => return Ok(false),
                Received::Failed(error) => return Err(error),
            };
            for message in Messages(datagram).filter(|message| message.sequence == sequence) {
                whole &= !message.interrupted;
                match message.content {
                    Content::Data { body, .. } => each(body),
                    Content::End | Content::Done => return Ok(whole),
                    Content::Refused(refusal) => {
                        return match refusal.errno {
                            // This routing table or link does not exist, so it contains nothing.
                            libc::ENOENT | libc::ENODEV => Ok(whole),
                            libc::EINTR => Ok(false),
                            errno => Err(io::Error::from_raw_os_error(errno)),
                        };
                    }
                }
            }
        }
    }
}
