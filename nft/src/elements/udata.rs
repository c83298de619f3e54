//! Userdata: what nft stores beside sets and elements so that it can print them, `typeof` and comments. The kernel
//! does not look at it. Used by sets, elements and the table. Does no I/O.
//!
//! It is written exactly as nft 1.0.6 writes it. That version crashes on some userdata of newer versions, and newer
//! versions read that of 1.0.6.

use netlink_bindings::nftables::{MetaKeys, NumgenTypes};
use netlink_bindings::utils::push_header;

use crate::elements::field::{Field, SLOTS, Value};
use crate::family::Numbers;

/// Bytes of the longest comment. nft refuses longer ones, so they are cut here.
pub(crate) const COMMENT_LEN: usize = 127;

const SET_KEY_ORDER: u8 = 0;
const SET_DATA_ORDER: u8 = 1;
const SET_KEY_TYPEOF: u8 = 3;
const SET_DATA_TYPEOF: u8 = 4;
const SET_DATA_INTERVAL: u8 = 6;
const SET_COMMENT: u8 = 7;
/// The number of a comment of an element, of a table or of a counter.
const COMMENT: u8 = 0;

const MIXED_ORDER: u32 = 0;
const HOST_ORDER: u32 = 1;
const NETWORK_ORDER: u32 = 2;

/// nft's numbers of kinds of expressions in a `typeof`.
const VERDICT: u32 = 1;
const PAYLOAD: u32 = 7;
const META: u32 = 9;
const CONCAT: u32 = 13;
const NUMGEN: u32 = 23;

/// nft's numbers of the parts that describe an expression.
const TYPEOF_KIND: u8 = 0;
const TYPEOF_DATA: u8 = 1;
const PAYLOAD_HEADER: u8 = 0;
const PAYLOAD_FIELD: u8 = 1;
const META_KEY: u8 = 0;
const NUMGEN_TYPE: u8 = 0;
const NUMGEN_MODULUS: u8 = 1;
const NUMGEN_OFFSET: u8 = 2;

/// The userdata of a set.
pub(crate) fn set(key: &[Field], data: Value, comment: &str, family: &Numbers) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    number(&mut out, SET_KEY_ORDER, order(key));
    match data {
        Value::None => {}
        Value::Fields(fields) => number(&mut out, SET_DATA_ORDER, order(fields)),
        Value::Verdict => number(&mut out, SET_DATA_ORDER, MIXED_ORDER),
    }
    nested(&mut out, SET_KEY_TYPEOF, |out| concat(out, key, family));
    match data {
        Value::None => {}
        Value::Fields(fields) => nested(&mut out, SET_DATA_TYPEOF, |out| concat(out, fields, family)),
        Value::Verdict => nested(&mut out, SET_DATA_TYPEOF, |out| expression(out, VERDICT, |_| ())),
    }
    if !matches!(data, Value::None) {
        number(&mut out, SET_DATA_INTERVAL, 0);
    }
    text(&mut out, SET_COMMENT, comment);
    out
}

/// The userdata of the anonymous set of protocols.
pub(crate) fn protocols() -> Vec<u8> {
    let mut out = Vec::with_capacity(32);
    number(&mut out, SET_KEY_ORDER, HOST_ORDER);
    nested(&mut out, SET_KEY_TYPEOF, |out| meta(out, MetaKeys::L4Proto));
    out
}

/// The userdata of the table, or of a counter: a comment.
pub(crate) fn commented(comment: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    text(&mut out, COMMENT, comment);
    out
}

/// Writes the userdata of an element with a label, as an attribute of this kind.
pub(crate) fn element(buf: &mut Vec<u8>, attribute: u16, label: &str) {
    let label = cut(label);
    push_header(buf, attribute, u16::from(len(label.len() + 1)) + 2);
    text(buf, COMMENT, label);
}

/// As much of a label as a comment can hold, in whole characters.
pub(crate) fn cut(label: &str) -> &str {
    &label[..label.floor_char_boundary(COMMENT_LEN)]
}

/// Reads the comment from userdata. It is empty if there is none.
pub(crate) fn comment(mut bytes: &[u8]) -> &str {
    while let [kind, len, rest @ ..] = bytes {
        let Some((value, rest)) = rest.split_at_checked(usize::from(*len)) else {
            break;
        };
        if *kind == COMMENT {
            let text = value.split(|byte| *byte == 0).next().unwrap_or_default();
            return std::str::from_utf8(text).unwrap_or_default();
        }
        bytes = rest;
    }
    ""
}

fn order(fields: &[Field]) -> u32 {
    match fields {
        [Field::Saddr | Field::Daddr | Field::Port] => NETWORK_ORDER,
        [Field::Protocol | Field::Priority | Field::Slot | Field::Share | Field::Connection] => HOST_ORDER,
        _ => MIXED_ORDER,
    }
}

fn concat(out: &mut Vec<u8>, fields: &[Field], family: &Numbers) {
    if let [one] = fields {
        return field(out, *one, family);
    }
    expression(out, CONCAT, |out| {
        for (i, part) in (0..).zip(fields) {
            nested(out, i, |out| field(out, *part, family));
        }
    });
}

fn field(out: &mut Vec<u8>, field: Field, family: &Numbers) {
    /// nft's number of "any transport header", and of its destination port.
    const TRANSPORT: u32 = 11;
    const DPORT: u32 = 2;
    match field {
        Field::Saddr => payload(out, family.header_id, family.saddr_id),
        Field::Daddr => payload(out, family.header_id, family.daddr_id),
        Field::Port => payload(out, TRANSPORT, DPORT),
        Field::Protocol => meta(out, MetaKeys::L4Proto),
        Field::Priority => meta(out, MetaKeys::Priority),
        Field::Slot | Field::Share | Field::Connection => expression(out, NUMGEN, |out| {
            number(out, NUMGEN_TYPE, NumgenTypes::Random as u32);
            number(out, NUMGEN_MODULUS, SLOTS);
            number(out, NUMGEN_OFFSET, 0);
        }),
    }
}

fn payload(out: &mut Vec<u8>, header: u32, field: u32) {
    expression(out, PAYLOAD, |out| {
        number(out, PAYLOAD_HEADER, header);
        number(out, PAYLOAD_FIELD, field);
    });
}

fn meta(out: &mut Vec<u8>, key: MetaKeys) {
    expression(out, META, |out| number(out, META_KEY, key as u32));
}

fn expression(out: &mut Vec<u8>, kind: u32, data: impl FnOnce(&mut Vec<u8>)) {
    number(out, TYPEOF_KIND, kind);
    nested(out, TYPEOF_DATA, data);
}

fn nested(out: &mut Vec<u8>, kind: u8, inner: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(&[kind, 0]);
    let start = out.len();
    inner(out);
    out[start - 1] = len(out.len() - start);
}

fn number(out: &mut Vec<u8>, kind: u8, value: u32) {
    out.extend_from_slice(&[kind, 4]);
    out.extend_from_slice(&value.to_ne_bytes());
}

fn text(out: &mut Vec<u8>, kind: u8, text: &str) {
    out.extend_from_slice(&[kind, len(text.len() + 1)]);
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

/// A length always fits: comments are cut, and the longest `typeof` takes 90 bytes.
fn len(len: usize) -> u8 {
    u8::try_from(len).unwrap_or(u8::MAX)
}
