//! Netlink messages and attributes as bytes: one reused buffer that becomes one nftables transaction. Used by
//! everything that encodes; never does I/O.

pub(crate) mod answer;
pub(crate) mod attr;
pub(crate) mod outcome;
pub(crate) mod owner;
pub(crate) mod socket;

use netlink_bindings::utils::{align, chop_header, finalize_nested_header, push_header, push_nested_header};

/// The name by which a transaction's anonymous sets go until the kernel numbers them.
pub(crate) const ANONYMOUS: &str = "__set%d";

/// nftables' number among netfilter's subsystems.
pub(crate) const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
/// Bytes of netlink's own header.
const NETLINK_HEADER: usize = 16;
/// Where netlink's header holds a message's kind, flags and number.
const KIND_AT: usize = 4;
const FLAGS_AT: usize = 6;
const SEQUENCE_AT: usize = 8;
/// Bytes of netfilter's header, which follows netlink's: family, version, resource.
const NETFILTER_HEADER: usize = 4;
/// Bytes before the attributes of a message.
pub(crate) const HEADERS: usize = NETLINK_HEADER + NETFILTER_HEADER;
/// Elements in one message stay below the 64 KiB that an attribute can hold.
const FULL: usize = 60_000;

/// What a message asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Command {
    NewTable = 0,
    GetTable = 1,
    DelTable = 2,
    NewChain = 3,
    GetChain = 4,
    DelChain = 5,
    NewRule = 6,
    DelRule = 8,
    NewSet = 9,
    GetSet = 10,
    NewSetElem = 12,
    GetSetElem = 13,
    DelSetElem = 14,
    GetGeneration = 16,
    NewObject = 18,
    GetObject = 19,
}

pub(crate) const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
pub(crate) const DUMP: u16 = 0x300;
/// Refuse what exists already.
pub(crate) const EXCLUSIVE: u16 = 0x200;
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const APPEND: u16 = 0x800;

/// One transaction being written. Messages are numbered in sequence, so that an answer names its message.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    nfproto: u8,
    /// Number of the next message.
    sequence: u32,
    /// Where the last message starts.
    last: usize,
    elements: Option<Elements>,
    /// How many anonymous sets the transaction makes.
    sets: u32,
}

/// A message with elements that more elements can join.
#[derive(Debug)]
struct Elements {
    command: Command,
    set: &'static str,
    list: usize,
}

impl Batch {
    /// Starts an empty transaction whose first message has this number.
    pub(crate) fn begin(&mut self, nfproto: u8, sequence: u32) {
        self.bytes.clear();
        self.nfproto = nfproto;
        self.sequence = sequence;
        self.elements = None;
        self.sets = 0;
        self.last = 0;
        self.control(BATCH_BEGIN);
    }

    /// Ends the transaction. Only the last message asks for an answer: the kernel sends it after all errors.
    pub(crate) fn end(&mut self) {
        self.close_elements();
        if let Some(flags) = self.bytes.get_mut(self.last + FLAGS_AT..self.last + SEQUENCE_AT) {
            let value = u16::from_ne_bytes([flags[0], flags[1]]) | ACK;
            flags.copy_from_slice(&value.to_ne_bytes());
        }
        self.control(BATCH_END);
    }

    /// The transaction as far as it is written.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The number of the last message that is not the end marker, once there is one.
    pub(crate) fn last_sequence(&self) -> u32 {
        self.bytes
            .get(self.last + SEQUENCE_AT..self.last + SEQUENCE_AT + 4)
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(self.sequence, u32::from_ne_bytes)
    }

    /// The number that the next message will have.
    pub(crate) fn next_sequence(&self) -> u32 {
        self.sequence
    }

    /// A number for an anonymous set, unique in the transaction.
    pub(crate) fn anonymous_set(&mut self) -> u32 {
        self.sets += 1;
        self.sets
    }

    /// Writes one message; `attributes` writes what follows its headers.
    pub(crate) fn message(&mut self, command: Command, flags: u16, attributes: impl FnOnce(&mut Vec<u8>)) {
        self.close_elements();
        self.open(command, flags);
        attributes(&mut self.bytes);
        self.close();
    }

    /// Writes one element, into the message before if that is about the same set and has room. Returns the number of
    /// the message that holds it.
    pub(crate) fn element(
        &mut self,
        command: Command,
        set: &'static str,
        alone: bool,
        attributes: impl FnOnce(&mut Vec<u8>),
    ) -> u32 {
        let joins = self.elements.as_ref().is_some_and(|open| {
            !alone && open.command == command && std::ptr::eq(open.set, set) && self.bytes.len() - open.list < FULL
        });
        if !joins {
            self.close_elements();
            self.open(
                command,
                if command == Command::NewSetElem {
                    CREATE | EXCLUSIVE
                } else {
                    0
                },
            );
            text(&mut self.bytes, attr::elements::TABLE, crate::TABLE);
            text(&mut self.bytes, attr::elements::SET, set);
            let list = push_nested_header(&mut self.bytes, attr::elements::ELEMENTS);
            self.elements = Some(Elements { command, set, list });
        }
        nested(&mut self.bytes, attr::LIST_ELEM, attributes);
        self.sequence.wrapping_sub(1)
    }

    /// Writes one more element into the message of the element before: the two stand or fall together.
    pub(crate) fn joined_element(&mut self, attributes: impl FnOnce(&mut Vec<u8>)) {
        nested(&mut self.bytes, attr::LIST_ELEM, attributes);
    }

    fn close_elements(&mut self) {
        if let Some(open) = self.elements.take() {
            finalize_nested_header(&mut self.bytes, open.list);
            self.close();
        }
    }

    fn open(&mut self, command: Command, flags: u16) {
        self.last = self.bytes.len();
        header(
            &mut self.bytes,
            SUBSYSTEM << 8 | command as u16,
            REQUEST | flags,
            self.sequence,
            self.nfproto,
            0,
        );
        self.sequence = self.sequence.wrapping_add(1);
    }

    fn close(&mut self) {
        close(&mut self.bytes, self.last);
    }

    fn control(&mut self, kind: u16) {
        header(&mut self.bytes, kind, REQUEST, self.sequence, 0, SUBSYSTEM.to_be());
        self.sequence = self.sequence.wrapping_add(1);
    }
}

/// Writes a request that is no part of a transaction.
pub(crate) fn request(
    bytes: &mut Vec<u8>,
    command: Command,
    flags: u16,
    sequence: u32,
    nfproto: u8,
    attributes: impl FnOnce(&mut Vec<u8>),
) {
    bytes.clear();
    header(
        bytes,
        SUBSYSTEM << 8 | command as u16,
        REQUEST | flags,
        sequence,
        nfproto,
        0,
    );
    attributes(bytes);
    close(bytes, 0);
}

fn header(bytes: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, nfproto: u8, resource: u16) {
    // Right for control messages; close() corrects the others.
    let length = u32::try_from(HEADERS).unwrap_or(u32::MAX);
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&[nfproto, 0]);
    bytes.extend_from_slice(&resource.to_ne_bytes());
}

fn close(bytes: &mut Vec<u8>, start: usize) {
    align(bytes);
    // A message holds one rule, one set or at most FULL bytes of elements: far below 4 GiB.
    let length = u32::try_from(bytes.len() - start).unwrap_or(u32::MAX);
    bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
}

/// Writes an attribute that holds attributes.
pub(crate) fn nested(bytes: &mut Vec<u8>, kind: u16, attributes: impl FnOnce(&mut Vec<u8>)) {
    let start = push_nested_header(bytes, kind);
    attributes(bytes);
    finalize_nested_header(bytes, start);
}

/// Writes an attribute that holds bytes.
pub(crate) fn value(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    // Values are keys, numbers and names of at most a few hundred bytes.
    push_header(bytes, kind, u16::try_from(value.len()).unwrap_or(u16::MAX));
    bytes.extend_from_slice(value);
}

/// Writes an attribute that holds a zero-terminated string.
pub(crate) fn text(bytes: &mut Vec<u8>, kind: u16, value: &str) {
    push_header(bytes, kind, u16::try_from(value.len() + 1).unwrap_or(u16::MAX));
    bytes.extend_from_slice(value.as_bytes());
    bytes.push(0);
}

/// Writes an attribute that holds a number in network order.
pub(crate) fn number(bytes: &mut Vec<u8>, kind: u16, value: u32) {
    self::value(bytes, kind, &value.to_be_bytes());
}

/// The attributes of a message that came without netlink's header.
pub(crate) fn message_attributes(body: &[u8]) -> &[u8] {
    body.get(NETFILTER_HEADER..).unwrap_or_default()
}

/// The family of such a message.
pub(crate) fn message_nfproto(body: &[u8]) -> u8 {
    body.first().copied().unwrap_or_default()
}

/// The attributes of a message or of an attribute, by kind; ends at the first that is not whole.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut position = 0;
    std::iter::from_fn(move || {
        bytes.get(position..)?;
        chop_header(bytes, &mut position).map(|(header, value)| (header.r#type, value))
    })
}

/// The first attribute of this kind, if there is one.
pub(crate) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find_map(|(found, value)| (found == kind).then_some(value))
}
