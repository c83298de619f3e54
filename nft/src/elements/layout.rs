//! The layout of a set or map: the fields of its keys and values, its flags, and the message that makes it. Also
//! compares a set that exists with the one that is wanted. Holds no rows.

use netlink_bindings::nftables::{PushSetAttrs, SetFlags};
use tandem_core::family::IpFamily;

use crate::elements::field::{Field, Value};
use crate::elements::udata;
use crate::family::{Numbers, numbers};
use crate::wire::batch::Batch;
use crate::wire::{CREATE, Command};

/// How a set or map is made.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) name: &'static str,
    pub(super) comment: &'static str,
    pub(crate) key: &'static [Field],
    pub(crate) value: Value,
    pub(super) size: Option<u32>,
    pub(super) flags: u32,
    pub(super) counter: bool,
}

pub(crate) const ANONYMOUS_SET: u32 = SetFlags::Anonymous as u32;
pub(super) const CONSTANT: u32 = SetFlags::Constant as u32;
pub(crate) const INTERVAL: u32 = SetFlags::Interval as u32;
pub(super) const MAP: u32 = SetFlags::Map as u32;
pub(super) const TIMEOUT: u32 = SetFlags::Timeout as u32;
/// nft's `flags dynamic`: packets write into the set.
pub(super) const DYNAMIC: u32 = SetFlags::Eval as u32;
pub(super) const CONCAT: u32 = SetFlags::Concat as u32;
/// The "data type" of verdicts.
const VERDICT_TYPE: u32 = 0xffff_ff00;
/// Bytes of a verdict in the kernel.
const VERDICT_LEN: u32 = 16;

/// A set without flags.
pub(super) const fn set(name: &'static str, comment: &'static str, key: &'static [Field]) -> Layout {
    Layout {
        name,
        comment,
        key,
        value: Value::None,
        size: None,
        flags: 0,
        counter: false,
    }
}

/// A map without further flags.
pub(super) const fn map(name: &'static str, comment: &'static str, key: &'static [Field], value: Value) -> Layout {
    Layout {
        name,
        comment,
        key,
        value,
        size: None,
        flags: MAP,
        counter: false,
    }
}

/// What the kernel lists of a set, as far as the rules depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) key_type: u32,
    pub(crate) key_len: u32,
    pub(crate) data_type: u32,
    pub(crate) data_len: u32,
    pub(crate) flags: u32,
    /// Zero means no limit.
    pub(crate) size: u32,
    pub(crate) counter: bool,
}

impl Layout {
    pub(crate) fn shape(&self, family: IpFamily) -> Shape {
        let family = numbers(family);
        let (data_type, data_len) = match self.value {
            Value::None => (0, 0),
            Value::Fields(fields) => combined(fields, family),
            Value::Verdict => (VERDICT_TYPE, VERDICT_LEN),
        };
        let (key_type, key_len) = combined(self.key, family);
        let size = self.size.unwrap_or_default();
        Shape {
            key_type,
            key_len,
            data_type,
            data_len,
            flags: self.flags,
            size,
            counter: self.counter,
        }
    }

    /// The userdata from which nft prints this set.
    pub(crate) fn userdata(&self, family: IpFamily) -> Vec<u8> {
        udata::set(self.key, self.value, self.comment, numbers(family))
    }

    /// Writes the message that makes this set.
    pub(crate) fn encode(&self, batch: &mut Batch, family: IpFamily) {
        let shape = self.shape(family);
        let userdata = self.userdata(family);
        let id = batch.anonymous_set();
        batch.message(Command::NewSet, CREATE, |buf| {
            let mut attrs = PushSetAttrs::new(buf)
                .push_table_bytes(crate::TABLE.as_bytes())
                .push_name_bytes(self.name.as_bytes())
                .push_flags(shape.flags)
                .push_key_type(shape.key_type)
                .push_key_len(shape.key_len);
            if self.flags & MAP != 0 {
                attrs = attrs.push_data_type(shape.data_type).push_data_len(match self.value {
                    Value::Verdict => 0,
                    _ => shape.data_len,
                });
            }
            attrs = attrs.push_id(id.to_be()); // the builder writes this one in host order
            if let Some(size) = self.size {
                attrs = attrs.nested_desc().push_size(size).end_nested();
            }
            if self.flags & CONCAT != 0 {
                let mut parts = attrs.nested_desc().nested_concat();
                for field in self.key {
                    parts = parts.nested_elem().push_len(field.len(numbers(family))).end_nested();
                }
                attrs = parts.end_nested().end_nested();
            }
            attrs = attrs.push_userdata(&userdata);
            if self.counter {
                let _ = attrs.nested_expr().nested_data_counter().push_bytes(0).push_packets(0);
            }
        });
    }
}

/// How many bits each part has in nft's type of a concatenation.
const TYPE_BITS: u32 = 6;

/// nft's type of a concatenation, and its length in the kernel.
fn combined(fields: &[Field], family: &Numbers) -> (u32, u32) {
    match fields {
        [field] => (field.data_type(family), field.len(family)),
        _ => fields.iter().fold((0, 0), |(kind, len), field| {
            (
                kind << TYPE_BITS | field.data_type(family),
                len + field.len(family).next_multiple_of(4),
            )
        }),
    }
}
