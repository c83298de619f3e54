//! The sets and maps of a table: their names, what their keys and values are made of, and how they are made. Used to
//! make a table, to compare one that is there, and to encode and decode elements; never holds rows.

use netlink_bindings::nftables::{PushSetAttrs, SetFlags};
use tandem_core::family::IpFamily;
use tandem_core::row::Protocol;

use crate::elements::field::{Field, SHARES, Value};
use crate::elements::udata;
use crate::family::{Numbers, numbers};
use crate::wire::{ANONYMOUS, Batch, CREATE, Command, attr, nested, number, text, value};

/// A set or map of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Set {
    ClusterFrontends,
    ExternalFrontends,
    NodePorts,
    Services,
    Picks,
    Endpoints,
    StickyEndpoints,
    EndpointIds,
    Affinity,
    Priorities,
    ClusterIps,
    ServiceCidrs,
    LocalPods,
    NodeAddresses,
    Hairpin,
    RestrictedFrontends,
    AllowedSources,
}

/// How many shares of clients a family's map remembers, over all Services; of one Service it remembers at most 16,384.
pub const REMEMBERED_MOST: u32 = 16 * SHARES;

/// How many connections' priorities are kept at a time.
const PRIORITIES: u32 = 16_384;

/// How a set is made.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) name: &'static str,
    comment: &'static str,
    pub(crate) key: &'static [Field],
    pub(crate) value: Value,
    size: Option<u32>,
    flags: u32,
    counter: bool,
}

pub(crate) const ANONYMOUS_SET: u32 = SetFlags::Anonymous as u32;
const CONSTANT: u32 = SetFlags::Constant as u32;
pub(crate) const INTERVAL: u32 = SetFlags::Interval as u32;
const MAP: u32 = SetFlags::Map as u32;
const TIMEOUT: u32 = SetFlags::Timeout as u32;
/// nft's `flags dynamic`: rules write into it.
const DYNAMIC: u32 = SetFlags::Eval as u32;
const CONCAT: u32 = SetFlags::Concat as u32;
/// The "data type" of verdicts.
const VERDICT_TYPE: u32 = 0xffff_ff00;
/// What an element with a verdict takes in the kernel.
const VERDICT_LEN: u32 = 16;

/// The key of a frontend.
pub(crate) const SOCKET: &[Field] = &[Field::Daddr, Field::Protocol, Field::Port];
const ENDPOINT: Value = Value::Fields(&[Field::Daddr, Field::Port]);
const ID: Value = Value::Fields(&[Field::Priority]);

const fn set(name: &'static str, comment: &'static str, key: &'static [Field]) -> Layout {
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

const fn map(name: &'static str, comment: &'static str, key: &'static [Field], value: Value) -> Layout {
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

static LAYOUTS: [Layout; Set::ALL.len()] = [
    map("cluster-frontends", "ClusterIP . protocol . port : service", SOCKET, ID),
    map(
        "external-frontends",
        "externalIP or LoadBalancer ingress . protocol . port : service",
        SOCKET,
        ID,
    ),
    map(
        "node-ports",
        "protocol . nodePort : service",
        &[Field::Protocol, Field::Port],
        ID,
    ),
    Layout {
        counter: true,
        ..map(
            "services",
            "service : the same service with the number of the way to pick an endpoint",
            &[Field::Priority],
            ID,
        )
    },
    map(
        "picks",
        "number : the way to pick an endpoint",
        &[Field::Priority],
        Value::Verdict,
    ),
    map(
        "endpoints",
        "service . slot : endpoint",
        &[Field::Priority, Field::Slot],
        ENDPOINT,
    ),
    map(
        "sticky-endpoints",
        "service . slot : endpoint id, for services with ClientIP affinity",
        &[Field::Priority, Field::Slot],
        ID,
    ),
    map("endpoint-ids", "endpoint id : endpoint", &[Field::Priority], ENDPOINT),
    Layout {
        size: Some(REMEMBERED_MOST),
        flags: MAP | TIMEOUT | DYNAMIC,
        ..map(
            "affinity",
            "service . share of clients : endpoint id, written by the packets themselves",
            &[Field::Priority, Field::Slot],
            ID,
        )
    },
    Layout {
        size: Some(PRIORITIES),
        flags: MAP | TIMEOUT | DYNAMIC,
        ..map(
            "priorities",
            "connection : the priority that its first packet had, for a second",
            &[Field::Slot],
            ID,
        )
    },
    set(
        "cluster-ips",
        "ClusterIPs; their unknown ports are refused",
        &[Field::Daddr],
    ),
    Layout {
        flags: INTERVAL,
        ..set(
            "service-cidrs",
            "ranges of ClusterIPs; their unassigned addresses are dropped",
            &[Field::Daddr],
        )
    },
    Layout {
        flags: INTERVAL,
        ..set(
            "local-pods",
            "sources that count as pods (detectLocal)",
            &[Field::Saddr],
        )
    },
    set(
        "node-addresses",
        "addresses that accept NodePort traffic (nodePortAddresses)",
        &[Field::Daddr],
    ),
    set(
        "hairpin",
        "local endpoints reaching themselves through a service",
        &[Field::Saddr, Field::Daddr],
    ),
    set(
        "restricted-frontends",
        "frontends with loadBalancerSourceRanges",
        SOCKET,
    ),
    Layout {
        flags: INTERVAL | CONCAT,
        ..set(
            "allowed-sources",
            "frontend . client range",
            &[Field::Daddr, Field::Protocol, Field::Port, Field::Saddr],
        )
    },
];

impl Set {
    /// Every set, in the order in which a table lists them.
    pub(crate) const ALL: [Self; 17] = [
        Self::ClusterFrontends,
        Self::ExternalFrontends,
        Self::NodePorts,
        Self::Services,
        Self::Picks,
        Self::Endpoints,
        Self::StickyEndpoints,
        Self::EndpointIds,
        Self::Affinity,
        Self::Priorities,
        Self::ClusterIps,
        Self::ServiceCidrs,
        Self::LocalPods,
        Self::NodeAddresses,
        Self::Hairpin,
        Self::RestrictedFrontends,
        Self::AllowedSources,
    ];

    /// The sets that hold rows: not `picks`, which belongs to the rules, nor those that packets write.
    pub(crate) const ROWS: [Self; 14] = [
        Self::ClusterFrontends,
        Self::ExternalFrontends,
        Self::NodePorts,
        Self::Services,
        Self::Endpoints,
        Self::StickyEndpoints,
        Self::EndpointIds,
        Self::ClusterIps,
        Self::ServiceCidrs,
        Self::LocalPods,
        Self::NodeAddresses,
        Self::Hairpin,
        Self::RestrictedFrontends,
        Self::AllowedSources,
    ];

    pub(crate) fn layout(self) -> &'static Layout {
        &LAYOUTS[self as usize]
    }

    pub(crate) fn name(self) -> &'static str {
        self.layout().name
    }
}

/// The facts of a set by which the kernel tells whether it is the set that the rules need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) key_type: u32,
    pub(crate) key_len: u32,
    pub(crate) data_type: u32,
    pub(crate) data_len: u32,
    pub(crate) flags: u32,
    /// Zero is none.
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

    /// What nft finds beside this set.
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

/// Writes the set `{ tcp, udp, sctp }` that one rule looks protocols up in; returns its number in the transaction.
pub(crate) fn encode_protocols(batch: &mut Batch, family: IpFamily) -> u32 {
    const COUNT: u32 = 3;
    const PROTOCOLS: [Protocol; COUNT as usize] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let family = numbers(family);
    let id = batch.anonymous_set();
    batch.message(Command::NewSet, CREATE, |buf| {
        let _ = PushSetAttrs::new(buf)
            .push_table_bytes(crate::TABLE.as_bytes())
            .push_name_bytes(ANONYMOUS.as_bytes())
            .push_flags(ANONYMOUS_SET | CONSTANT)
            .push_key_type(Field::Protocol.data_type(family))
            .push_key_len(Field::Protocol.len(family))
            .push_id(id.to_be()) // the builder writes this one in host order
            .nested_desc()
            .push_size(COUNT)
            .end_nested()
            .push_userdata(&udata::protocols());
    });
    batch.message(Command::NewSetElem, CREATE, |buf| {
        text(buf, attr::elements::TABLE, crate::TABLE);
        text(buf, attr::elements::SET, ANONYMOUS);
        number(buf, attr::elements::SET_ID, id);
        nested(buf, attr::elements::ELEMENTS, |buf| {
            for protocol in PROTOCOLS {
                nested(buf, attr::LIST_ELEM, |buf| {
                    nested(buf, attr::element::KEY, |buf| {
                        value(buf, attr::data::VALUE, &[protocol.number()]);
                    });
                });
            }
        });
    });
    id
}
