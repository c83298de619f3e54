//! Netlink messages and attributes as bytes: the headers, the attributes, and their readers. Used by everything that
//! encodes or decodes. Does no I/O.

pub(crate) mod attr;
pub(crate) mod batch;
pub(crate) mod outcome;
pub(crate) mod owner;
pub(crate) mod socket;

use netlink_bindings::utils::{align, chop_header, finalize_nested_header, push_header, push_nested_header};
use tandem_netlink::message::HEADER;

/// The name of each anonymous set in a transaction, until the kernel gives it a number.
pub(crate) const ANONYMOUS: &str = "__set%d";

/// nftables' number among netfilter's subsystems.
pub(crate) const SUBSYSTEM: u16 = 10;
/// Bytes of netfilter's header, which follows netlink's: family, version, resource.
const NETFILTER_HEADER: usize = 4;
/// Bytes before the attributes of a message.
pub(crate) const HEADERS: usize = HEADER + NETFILTER_HEADER;
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
    GetRule = 7,
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
/// Refuse if it exists already.
pub(crate) const EXCLUSIVE: u16 = 0x200;
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const APPEND: u16 = 0x800;

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
    // This length is right for control messages. `close` corrects that of the others.
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

/// The attributes in a message or in an attribute, each with its kind. Ends at the first attribute that is not whole.
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
