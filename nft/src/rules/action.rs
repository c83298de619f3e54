//! The expressions that do something with a packet: a verdict, a translation, a refusal, or a change of what is
//! remembered. The expressions that load and compare are in `expr`.

use std::ops::RangeInclusive;

use netlink_bindings::nftables::{NatRangeFlags, PushExprMasqAttrs, RejectTypes};
use tandem_core::id::ENDPOINT_BITS;

use crate::elements::field::Field;
use crate::elements::sets::Set;
use crate::elements::verdict::Verdict;
use crate::rules::expr::{BEHIND_KEY, ExprList, VERDICT, register};
use crate::wire::{attr, nested, number, text, value};

/// How to answer that there is no endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reject {
    /// ICMP: port unreachable.
    Unreachable,
    /// A TCP reset.
    Reset,
}

/// How a packet changes what is remembered of its client.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AffinityChange {
    /// `update @affinity { service . share timeout T : endpoint id }`. If the element exists, it keeps its value.
    Update { seconds: u32 },
    /// `delete @affinity { service . share : endpoint id }`
    Delete,
    /// `update @affinity { endpoint id . share timeout T : endpoint id }`: says that this endpoint was remembered just now.
    /// No Service has such a key, because an endpoint id is no service id.
    Note { seconds: u32 },
}

const FULLY_RANDOM: u32 = NatRangeFlags::ProtoRandomFully as u32;
/// `NFT_DYNSET_OP_UPDATE`
const UPDATE: u32 = 1;
/// `NFT_DYNSET_OP_DELETE`
const DELETE: u32 = 2;
/// Milliseconds of a second: the kernel counts timeouts in them.
const MILLISECONDS: u64 = 1000;

impl ExprList<'_> {
    pub(crate) fn verdict(&mut self, verdict: Verdict<'_>) {
        let mut immediate = self.list().nested_elem().nested_data_immediate().push_dreg(VERDICT);
        let buf = netlink_bindings::traits::Pusher::as_vec_mut(&mut immediate);
        nested(buf, attr::immediate::DATA, |buf| verdict.encode(buf));
    }

    /// Translates the connection to the endpoint that is loaded.
    pub(crate) fn dnat(&mut self) {
        const DNAT: u32 = 1;
        let port = register(u32::from(self.family.addr_len) / 4);
        let nfproto = u32::from(self.family.nfproto);
        let _ = self
            .list()
            .nested_elem()
            .nested_data_nat()
            .push_type(DNAT)
            .push_family(nfproto)
            .push_reg_addr_min(register(0))
            .push_reg_proto_min(port);
    }

    pub(crate) fn reject(&mut self, with: Reject) {
        let (kind, code) = match with {
            Reject::Unreachable => (RejectTypes::IcmpUnreach, self.family.port_unreachable),
            Reject::Reset => (RejectTypes::TcpRst, 0),
        };
        let _ = self
            .list()
            .nested_elem()
            .nested_data_reject()
            .push_type(kind as u32)
            .push_icmp_code(code);
    }

    /// `masquerade fully-random`. The builder does not have this expression.
    pub(crate) fn masquerade(&mut self) {
        self.expression("masq", |buf| {
            let _ = PushExprMasqAttrs::new(buf).push_flags(FULLY_RANDOM);
        });
    }

    /// `masquerade to :1024-49151 fully-random`, with these ports. The packet must have ports.
    pub(crate) fn masquerade_to(&mut self, ports: RangeInclusive<u16>) {
        const PORTS_GIVEN: u32 = NatRangeFlags::ProtoSpecified as u32;
        self.load_bytes(&ports.start().to_be_bytes(), 0)
            .load_bytes(&ports.end().to_be_bytes(), BEHIND_KEY);
        self.expression("masq", |buf| {
            let _ = PushExprMasqAttrs::new(buf)
                .push_flags(FULLY_RANDOM | PORTS_GIVEN)
                .push_reg_proto_min(register(0))
                .push_reg_proto_max(register(BEHIND_KEY));
        });
    }

    /// Changes what is remembered of the packet's share of clients. The builder does not have this expression.
    pub(crate) fn affinity(&mut self, what: AffinityChange) {
        let (op, seconds) = match what {
            AffinityChange::Update { seconds } | AffinityChange::Note { seconds } => (UPDATE, seconds),
            AffinityChange::Delete => (DELETE, 0),
        };
        let timeout = u64::from(seconds) * MILLISECONDS;
        self.load(&[Field::Priority]);
        if !matches!(what, AffinityChange::Note { .. }) {
            self.bits(!ENDPOINT_BITS);
        }
        self.load_at(Field::Share, 1);
        self.update(Set::Affinity, op, timeout);
    }

    /// Remembers the packet's priority for as long as it takes to find its endpoint.
    pub(crate) fn keep_priority(&mut self) {
        self.load(&[Field::Connection]);
        self.update(Set::Priorities, UPDATE, MILLISECONDS);
    }

    /// Changes an element. Its key is what is loaded, and its value is the packet's priority.
    fn update(&mut self, set: Set, op: u32, timeout: u64) {
        self.load_at(Field::Priority, BEHIND_KEY);
        self.expression("dynset", |buf| {
            number(buf, attr::dynset::SREG_KEY, register(0));
            number(buf, attr::dynset::SREG_DATA, register(BEHIND_KEY));
            number(buf, attr::dynset::OP, op);
            text(buf, attr::dynset::SET, set.name());
            if timeout > 0 {
                value(buf, attr::dynset::TIMEOUT, &timeout.to_be_bytes());
            }
        });
    }
}
