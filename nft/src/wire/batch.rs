//! One nftables transaction as bytes, in one buffer that is used again. Used by everything that encodes. Does no I/O.

use netlink_bindings::utils::{finalize_nested_header, push_nested_header};

use tandem_netlink::message::{FLAGS_AT, SEQUENCE_AT};

use crate::wire::{ACK, CREATE, Command, EXCLUSIVE, REQUEST, SUBSYSTEM, attr, close, header, nested, text};

const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
/// One message holds fewer bytes of elements than this: an attribute can hold 64 KiB.
const FULL: usize = 60_000;
/// The buffer keeps room for a transaction of this size. Only a load needs more.
const KEPT: usize = 64 << 10;

/// A transaction that is being written. Messages are numbered in sequence, and an answer names the number of its
/// message.
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

    /// Forgets a transaction that was sent, and gives the memory of a large one back.
    pub(crate) fn forget(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
    }

    /// Ends the transaction. Only the last message asks for an acknowledgement: the kernel sends that after all
    /// errors.
    pub(crate) fn end(&mut self) {
        self.end_without_marker();
        self.control(BATCH_END);
    }

    /// Ends a transaction that is only to be checked. Without the end marker, the kernel looks at every message, answers
    /// as otherwise, and carries nothing out.
    pub(crate) fn end_without_marker(&mut self) {
        self.close_elements();
        if let Some(flags) = self.bytes.get_mut(self.last + FLAGS_AT..self.last + SEQUENCE_AT) {
            let value = u16::from_ne_bytes([flags[0], flags[1]]) | ACK;
            flags.copy_from_slice(&value.to_ne_bytes());
        }
    }

    /// The transaction as far as it is written.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The number of the last message, the end marker not counted.
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

    /// Writes one element. It joins the message before, if that message is about the same set and has room. Returns
    /// the number of the message that holds the element.
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

    /// Writes one more element into the message of the element before. The kernel takes both or none.
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
