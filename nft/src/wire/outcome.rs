//! How a transaction ended, told from the kernel's answers to it: in whatever order they come, and whatever of them is
//! missing. Used by `socket`; pure bytes, no I/O.
//!
//! The kernel names each message that it refuses, and acknowledges the last one also where it refused others: that
//! acknowledgement alone says nothing about the rest. So "carried out" takes that every answer arrived, "refused" takes
//! that one refusal arrived, and all else is unknown.

use std::io;

use crate::wire::answer::{Content, Messages, Refusal, reason};

/// How a transaction ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// All of it was carried out.
    Done,
    /// None of it was carried out, for these reasons; others may have been lost on the way.
    Refused(Vec<Refusal>),
    /// None of it was carried out: it could not be sent.
    NotSent(io::Error),
    /// Nobody knows: answers were lost.
    Lost(String),
}

impl Outcome {
    /// Whether it was carried out, else why not, in words.
    pub(crate) fn carried_out(self) -> Result<(), String> {
        match self {
            Self::Done => Ok(()),
            Self::Refused(refusals) => Err(reason(refusals.first())),
            Self::NotSent(error) => Err(error.to_string()),
            Self::Lost(reason) => Err(reason),
        }
    }
}

/// The answers to one transaction so far.
#[derive(Debug)]
pub(crate) struct Answers {
    first: u32,
    last: u32,
    refusals: Vec<Refusal>,
    /// The last message was answered: nothing more is to come.
    answered: bool,
    /// Why answers are missing, if any may be.
    lost: Option<String>,
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

    /// Takes one datagram. True once nothing more is to come.
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
            self.lose("the kernel's answer was cut off");
        }
        self.answered
    }

    /// Notes that answers may be missing.
    pub(crate) fn lose(&mut self, why: impl Into<String>) {
        self.lost.get_or_insert_with(|| why.into());
    }

    /// What they amount to.
    pub(crate) fn end(self) -> Outcome {
        match self.lost {
            _ if !self.refusals.is_empty() => Outcome::Refused(self.refusals),
            Some(why) => Outcome::Lost(why),
            None if self.answered => Outcome::Done,
            None => Outcome::Lost("the kernel did not answer".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests;
