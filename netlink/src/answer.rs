//! The kernel's answers as they arrive: headers, acknowledgements and refusals. This code handles bytes only, and does
//! not trust the lengths in them.

use std::{fmt, io};

use crate::message::{FLAGS_AT, HEADER, KIND_AT, SEQUENCE_AT};

/// `NLMSG_ERROR`: an acknowledgement or a refusal.
const ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a listing.
const DONE: u16 = 3;
/// `NLM_F_DUMP_INTR`: the objects changed during the listing.
const INTERRUPTED: u16 = 0x10;
/// `NLM_F_CAPPED`: only the header of the refused request is copied into the answer.
const CAPPED: u16 = 0x100;
/// `NLM_F_ACK_TLVS`: attributes follow that explain the refusal.
const EXPLAINED: u16 = 0x200;
/// `NLMSGERR_ATTR_MSG`: the kernel's own words.
const WORDS: u16 = 1;

/// One message of an answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The number of the message that this one answers; 0 in a notification.
    pub sequence: u32,
    /// Whether the objects changed during the listing.
    pub interrupted: bool,
    /// What the message says.
    pub content: Content<'a>,
}

/// What a message says.
#[derive(Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// A part of a listing, or a notification.
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
    /// The kernel's own words. It rarely sends any.
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

/// The messages of one datagram. It ends at the first message that is not complete; the rest of the datagram stays in
/// it.
#[derive(Debug)]
pub struct Messages<'a>(pub &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let header = self.0.get(..HEADER)?;
        let length = usize::try_from(u32_at(header, 0)?).ok()?;
        let (kind, flags, sequence) = (
            u16_at(header, KIND_AT)?,
            u16_at(header, FLAGS_AT)?,
            u32_at(header, SEQUENCE_AT)?,
        );
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

/// Reads the words from an error. They follow the copy of the refused request.
fn words(body: &[u8], flags: u16) -> Option<String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_and_refusals_are_told_apart() {
        // First length, kind, flags, number and port. Then the error and the header of the refused message.
        let message = |flags: u16, errno: i32, rest: &[u8]| {
            let length = u32::try_from(36 + rest.len()).unwrap();
            let mut bytes = length.to_ne_bytes().to_vec();
            bytes.extend([2_u16, flags].map(u16::to_ne_bytes).as_flattened());
            bytes.extend([7_u32, 0].map(u32::to_ne_bytes).as_flattened());
            bytes.extend((-errno).to_ne_bytes());
            bytes.extend([0; 16]);
            bytes.extend(rest);
            bytes
        };
        let words = [8, 0, 1, 0, b'n', b'o', b'!', 0];
        let contents = |bytes: &[u8]| {
            Messages(bytes)
                .map(|message| match message.content {
                    Content::Refused(refusal) => Some(refusal),
                    _ => None,
                })
                .collect::<Vec<_>>()
        };
        let refusal = |words: Option<&str>| Refusal {
            sequence: 7,
            errno: 17,
            words: words.map(str::to_owned),
        };
        let both = [
            message(0x100, 17, &[]),
            message(0x100, 0, &[]),
            message(0x300, 17, &words),
        ]
        .concat();
        assert_eq!(contents(&both), [Some(refusal(None)), None, Some(refusal(Some("no!")))]);
        for length in 0..both.len() {
            contents(&both[..length]);
        }
    }
}
