//! How a transaction ended, as the kernel's answers tell it. The answers may come in any order, and some may be
//! missing. Used by the socket. Pure bytes, no I/O.
//!
//! The kernel names each message that it refuses. It acknowledges the last message even if it refused others, so that
//! acknowledgement alone says nothing about them. A transaction counts as carried out only if every answer arrived.
//! It counts as refused if one refusal arrived. Otherwise the outcome is unknown.

use std::io;

use tandem_netlink::answer::{Content, Messages, Refusal};

/// How a transaction ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// All of it was carried out.
    Done,
    /// None of it was carried out, for these reasons. Other refusals may have been lost.
    Refused(Vec<Refusal>),
    /// None of it was carried out: it could not be sent.
    NotSent(io::Error),
    /// It is not known whether it was carried out: answers were lost.
    Lost(LostError),
}

/// Why it is not known whether a transaction was carried out.
#[derive(Debug, thiserror::Error)]
pub enum LostError {
    /// The socket is empty and the answer was not in it.
    #[error("the kernel did not answer")]
    NoAnswer,
    /// An answer without its end.
    #[error("the kernel's answer was cut off")]
    Truncated,
    /// The socket was full, and the kernel dropped an answer.
    #[error("the kernel's answer did not fit into the socket's buffer")]
    Overrun,
    /// The socket failed.
    #[error("receiving the kernel's answer: {0}")]
    Receive(#[source] io::Error),
    /// The socket took only a part of the transaction.
    #[error("{sent} of {whole} bytes were sent")]
    SentInPart {
        /// Bytes that were sent.
        sent: usize,
        /// Bytes of the transaction.
        whole: usize,
    },
    /// A signal came while the transaction was sent.
    #[error("sending was interrupted")]
    Interrupted,
}

/// The kernel refused a request.
#[derive(Debug, thiserror::Error)]
pub enum RefusedError {
    /// The kernel gave this reason.
    #[error("the kernel refused: {0}")]
    For(#[source] Refusal),
    /// The kernel gave no reason.
    #[error("the kernel refused without a reason")]
    WithoutReason,
}

impl RefusedError {
    /// The first of a transaction's refusals.
    pub(crate) fn first(refusals: &[Refusal]) -> Self {
        refusals.first().map_or(Self::WithoutReason, Self::from)
    }
}

impl From<&Refusal> for RefusedError {
    fn from(refusal: &Refusal) -> Self {
        Self::For(refusal.clone())
    }
}

/// Why a transaction was not carried out, or may not have been.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub enum TransactionError {
    /// It was refused.
    Refused(#[from] RefusedError),
    /// It was not sent.
    NotSent(io::Error),
    /// It is not known.
    Lost(#[from] LostError),
}

impl Outcome {
    /// Whether it was carried out, else why not.
    pub(crate) fn carried_out(self) -> Result<(), TransactionError> {
        match self {
            Self::Done => Ok(()),
            Self::Refused(refusals) => Err(RefusedError::first(&refusals).into()),
            Self::NotSent(error) => Err(TransactionError::NotSent(error)),
            Self::Lost(error) => Err(error.into()),
        }
    }
}

/// The answers to one transaction so far.
#[derive(Debug)]
pub(crate) struct Answers {
    first: u32,
    last: u32,
    refusals: Vec<Refusal>,
    /// The last message was answered. No more answers will come.
    answered: bool,
    /// Why answers are missing, if any may be.
    lost: Option<LostError>,
}

impl Answers {
    /// No answers yet to a transaction whose messages are numbered from `first` to `last`.
    pub(crate) fn new(first: u32, last: u32) -> Self {
        Self {
            first,
            last,
            refusals: Vec::new(),
            answered: false,
            lost: None,
        }
    }

    /// Takes one datagram. Gives true once no more answers will come.
    pub(crate) fn take(&mut self, datagram: &[u8]) -> bool {
        let mut messages = Messages(datagram);
        for message in &mut messages {
            if message.sequence.wrapping_sub(self.first) > self.last.wrapping_sub(self.first) {
                continue; // an answer to something earlier, left behind by an overrun
            }
            let answer = match message.content {
                Content::Refused(refusal) => {
                    self.refusals.push(refusal);
                    true
                }
                Content::Done => true,
                Content::Data { .. } | Content::End => false,
            };
            self.answered |= answer && message.sequence == self.last;
        }
        if !messages.0.is_empty() {
            self.lose(LostError::Truncated);
        }
        self.answered
    }

    /// Records that answers may be missing.
    pub(crate) fn lose(&mut self, why: LostError) {
        self.lost.get_or_insert(why);
    }

    /// How the transaction ended, by the answers so far.
    pub(crate) fn end(self) -> Outcome {
        match self.lost {
            _ if !self.refusals.is_empty() => Outcome::Refused(self.refusals),
            Some(why) => Outcome::Lost(why),
            None if self.answered => Outcome::Done,
            None => Outcome::Lost(LostError::NoAnswer),
        }
    }
}

#[cfg(test)]
mod tests;
