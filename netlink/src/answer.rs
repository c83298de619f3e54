//! The kernel's answers as they arrive: headers, acknowledgements and refusals. Pure bytes, whose lengths are not trusted.

use std::{fmt, io};

use crate::message::HEADER;

const ERROR: u16 = 2;
const DONE: u16 = 3;
const INTERRUPTED: u16 = 0x10;
const CAPPED: u16 = 0x100;
const EXPLAINED: u16 = 0x200;

/// One message of an answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The number of the message that this one answers; 0 in a notification.
    pub sequence: u32,
    /// The listing changed while it was read.
    pub interrupted: bool,
    /// What the message says.
    pub content: Content<'a>,
}

/// What a message says.
#[derive(Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// Something that was asked for, without netlink's header.
    Data {
        /// The message's type.
        kind: u16,
        /// What follows netlink's header.
        body: &'a [u8],
    },
    /// The end of a listing.
    End,
    /// The request was carried out.
    Done,
    /// The request was refused.
    Refused(Refusal),
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The number of the message that was refused.
    pub sequence: u32,
    /// The kernel's error number, positive.
    pub errno: i32,
    /// The kernel's own words, which it seldom has.
    pub words: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = io::Error::from_raw_os_error(self.errno);
        match &self.words {
            Some(words) => write!(f, "{words} ({number})"),
            None => write!(f, "{number}"),
        }
    }
}

impl std::error::Error for Refusal {}

/// A sentence with the kernel's words, or with those for its number.
pub fn reason(refusal: Option<&Refusal>) -> String {
    match refusal {
        Some(refusal) => format!("the kernel refused: {refusal}"),
        None => "the kernel refused without a reason".to_owned(),
    }
}

/// The messages of one datagram; ends at the first that is not whole, with what is left of the datagram.
#[derive(Debug)]
pub struct Messages<'a>(pub &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let header = self.0.get(..HEADER)?;
        let length = usize::try_from(u32_at(header, 0)?).ok()?;
        let (kind, flags, sequence) = (u16_at(header, 4)?, u16_at(header, 6)?, u32_at(header, 8)?);
        let body = self.0.get(HEADER..length)?;
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

/// The words behind the copy of the request that an error carries.
fn words(body: &[u8], flags: u16) -> Option<String> {
    const WORDS: u16 = 1;
    let copied = if flags & CAPPED != 0 {
        HEADER
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
