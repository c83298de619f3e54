//! Rules for packets whose endpoint XDP has chosen. The source MAC says which slot it is: `tandem_core::plane::chosen`.
//! The chains that pick endpoints use them.
//!
//! Whoever can send frames to this node can write such a MAC too. What it names is another endpoint of the same list, or
//! none. Of a list with affinity, the client's share is remembered with the endpoint that it names. So other clients of
//! that share may go there with their next connection too.

use netlink_bindings::nftables::{CmpOps, MetaKeys, PayloadBase};
use tandem_core::id::ENDPOINT_BITS;
use tandem_core::plane::CHOSEN;

use crate::elements::field::Field;
use crate::elements::sets::Set;
use crate::rules::action::AffinityChange;
use crate::rules::expr::ExprList;
use crate::rules::{CLIENT, Rules, SERVICE, UNREMEMBERED};
use crate::wire::{attr, number, value};

/// Where an Ethernet header holds the source MAC, and where in it the slot is.
const SOURCE_OFFSET: u32 = 6;
const SLOT_OFFSET: u32 = 10;
const MAC_LEN: u32 = 6;
const SLOT_LEN: u32 = 2;
/// The kernel's type of a device with Ethernet headers (`ARPHRD_ETHER`).
const ETHERNET: u16 = 1;

/// How many clients can be remembered anew in a second by one chain. Without a limit, a flood of SYNs would fill the map
/// with elements that made way for others: each takes room until the kernel has collected it, up to a second later.
const ANEW: u32 = 1000;
/// For how many seconds a client is not remembered anew with the same endpoint. The kernel finds no place for a key that
/// went some dozens of times since it last collected such elements.
const NOTED: u32 = 1;

/// Leads to the chosen slot, if there is one and the list has it.
pub(super) fn pick(rules: &mut Rules<'_, '_>) {
    rules.dnat_if(
        |r| {
            r.is_chosen();
        },
        |r| {
            r.load_chosen().map(Set::Endpoints);
        },
    );
}

/// The same for a list with affinity. XDP keeps affinity itself. So what it chose counts, not what is remembered here,
/// and is remembered instead of it.
pub(super) fn stick(rules: &mut Rules<'_, '_>, seconds: u32) {
    let has_endpoint = |r: &mut ExprList<'_>| {
        r.load(&[Field::Priority]).bits(ENDPOINT_BITS).is_not(0);
    };
    let remember = |r: &mut ExprList<'_>| {
        r.affinity(AffinityChange::Update { seconds });
        r.load(&[Field::Priority]).map(Set::EndpointIds);
    };
    rules.rule(|r| {
        r.is_chosen().load_chosen().map(Set::StickyEndpoints).set_priority();
    });
    // The client was remembered with this endpoint just now.
    rules.dnat_if(
        |r| {
            has_endpoint(r);
            r.load(CLIENT).map(Set::Affinity).set_priority();
        },
        remember,
    );
    // An update keeps the value of an element that exists, so that goes first.
    rules.rule(|r| {
        has_endpoint(r);
        r.at_most(ANEW);
        r.affinity(AffinityChange::Delete);
        r.affinity(AffinityChange::Note { seconds: NOTED });
    });
    rules.dnat_if(has_endpoint, remember);
    // Reached if the map `affinity` is full.
    rules.dnat_if(
        |r| {
            has_endpoint(r);
            r.count(UNREMEMBERED);
        },
        |r| {
            r.load(&[Field::Priority]).map(Set::EndpointIds);
        },
    );
    rules.keep_bits(SERVICE);
}

impl ExprList<'_> {
    /// Requires that the packet came in by a device with Ethernet headers, and that its source MAC says what was chosen.
    /// A packet of this host's own came in by no device, so nothing was chosen for it. nft prints the first two
    /// expressions as a part of `ether saddr`.
    fn is_chosen(&mut self) -> &mut Self {
        let [first, second, third, fourth] = CHOSEN;
        self.meta(MetaKeys::Iftype, 0)
            .compare(CmpOps::Eq, &ETHERNET.to_ne_bytes())
            .payload(PayloadBase::LinkLayerHeader, SOURCE_OFFSET, MAC_LEN, 0)
            .bitwise(&[0xff, 0xff, 0xff, 0xff, 0, 0], &[0; 6], 0)
            .compare(CmpOps::Eq, &[first, second, third, fourth, 0, 0])
    }

    /// Loads the key of the chosen slot: the service, then `@ll,80,16`.
    fn load_chosen(&mut self) -> &mut Self {
        self.load(&[Field::Priority])
            .payload(PayloadBase::LinkLayerHeader, SLOT_OFFSET, SLOT_LEN, 1)
    }

    /// Lets so many packets pass in a second, and as many at once. The builder does not have this expression.
    fn at_most(&mut self, packets: u32) {
        const SECOND: u64 = 1;
        const PACKETS: u32 = 0;
        self.expression("limit", |buf| {
            value(buf, attr::limit::RATE, &u64::from(packets).to_be_bytes());
            value(buf, attr::limit::UNIT, &SECOND.to_be_bytes());
            number(buf, attr::limit::BURST, packets);
            number(buf, attr::limit::TYPE, PACKETS);
        });
    }
}
