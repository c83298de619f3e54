//! Netlink's answers as they come in: headers, acknowledgements and refusals. Used by the socket and by what decodes
//! listings. Pure bytes; it does not trust their lengths.

use std::io;

use crate::wire::{FLAGS_AT, KIND_AT, NETLINK_HEADER, SEQUENCE_AT};

/// `NLMSG_ERROR`: an acknowledgement or a refusal.
const ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a listing.
const DONE: u16 = 3;
/// `NLM_F_DUMP_INTR`: the tables changed during the listing.
const INTERRUPTED: u16 = 0x10;
/// `NLM_F_CAPPED`: only the header of the refused request is copied into the answer.
const CAPPED: u16 = 0x100;
/// `NLM_F_ACK_TLVS`: attributes follow that explain the refusal.
const EXPLAINED: u16 = 0x200;
/// `NLMSGERR_ATTR_MSG`: the kernel's own words.
const WORDS: u16 = 1;

/// One message of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub(crate) sequence: u32,
    /// The tables changed during the listing.
    pub(crate) interrupted: bool,
    pub(crate) content: Content<'a>,
}

/// What a message says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content<'a> {
    /// A part of a listing, without netlink's header.
    Data { kind: u16, body: &'a [u8] },
    /// The end of a listing.
    End,
    /// The request was carried out.
    Done,
    /// The request was refused.
    Refused(Refusal),
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) sequence: u32,
    pub(crate) errno: i32,
    /// The kernel's own words. It seldom sends any.
    pub(crate) words: Option<String>,
}

/// The kernel refused a request.
#[derive(Debug, thiserror::Error)]
pub enum RefusedError {
    /// The kernel explained it in words.
    #[error("the kernel refused: {words} ({source})")]
    Explained {
        /// The words.
        words: String,
        /// The error that its number stands for.
        source: io::Error,
    },
    /// The kernel sent an error number alone.
    #[error("the kernel refused: {0}")]
    Plain(#[source] io::Error),
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
        let source = io::Error::from_raw_os_error(refusal.errno);
        match refusal.words.clone() {
            Some(words) => Self::Explained { words, source },
            None => Self::Plain(source),
        }
    }
}

/// The messages of one datagram. Ends at the first message that is not whole; the rest of the datagram stays in it.
pub(crate) struct Messages<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let header = self.0.get(..NETLINK_HEADER)?;
        let length = usize::try_from(u32_at(header, 0)?).ok()?;
        let (kind, flags, sequence) = (
            u16_at(header, KIND_AT)?,
            u16_at(header, FLAGS_AT)?,
            u32_at(header, SEQUENCE_AT)?,
        );
        let body = self.0.get(NETLINK_HEADER..length)?;
        let rest = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        let content = match kind {
            DONE | ERROR => match i32::from_ne_bytes(body.get(..4)?.try_into().ok()?) {
                0 if kind == DONE => Content::End,
                0 => Content::Done,
                code => Content::Refused(Refusal {
                    sequence,
                    errno: code.wrapping_neg(),
                    words: (flags & EXPLAINED != 0 && kind == ERROR)
                        .then(|| words(body, flags))
                        .flatten(),
                }),
            },
            kind => Content::Data { kind, body },
        };
        self.0 = rest;
        Some(Message {
            sequence,
            interrupted: flags & INTERRUPTED != 0,
            content,
        })
    }
}

/// Reads the words from an error. They follow the copy of the refused request.
fn words(body: &[u8], flags: u16) -> Option<String> {
    let copied = if flags & CAPPED != 0 {
        NETLINK_HEADER
    } else {
        usize::try_from(u32_at(body, 4)?).ok()?
    };
    let mut attributes = body.get(4 + copied.next_multiple_of(4)..)?;
    loop {
        let length = usize::from(u16_at(attributes, 0)?);
        let value = attributes.get(4..length)?;
        if u16_at(attributes, 2)? == WORDS {
            let text = value.split(|byte| *byte == 0).next()?;
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
