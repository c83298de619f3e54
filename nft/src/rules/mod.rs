//! The chains and their rules. Only the settings change the fixed ones. The others are made on demand, for each
//! number of endpoints and affinity timeout. Used to make a table, and by changes that need a new chain. It does not
//! know which Service needs a chain.

pub(crate) mod action;
mod chosen;
pub(crate) mod expr;
pub(crate) mod fixed;
pub(crate) mod fixed_chain;
pub(crate) mod pick;

use netlink_bindings::nftables::{ObjectType, PushChainAttrs, PushRuleAttrs, VerdictCode};
use tandem_core::family::IpFamily;
use tandem_core::id::{ENDPOINT_BITS, PICK_BITS};

use crate::elements::field::Field;
use crate::elements::protocols::encode_protocols;
use crate::elements::sets::Set;
use crate::elements::udata;
use crate::elements::verdict::Verdict;
use crate::family::numbers;
use crate::rules::expr::ExprList;
use crate::rules::fixed_chain::{FixedChain, Hook};
use crate::wire::batch::Batch;
use crate::wire::{APPEND, CREATE, Command, attr, nested, number, text, value};

/// The end of the name of a chain that stands in for another one while that is registered anew.
pub(crate) const STAND_IN: &str = "-stand-in";

/// The counter of connections whose client could not be remembered.
pub(crate) const UNREMEMBERED: &str = "unremembered";

/// The bits of a value in `services` that hold the number of the pick.
const PICK: u32 = PICK_BITS;

/// The key under which a client is remembered.
const CLIENT: &[Field] = &[Field::Priority, Field::Share];

/// The bits of an endpoint id that are its Service's.
const SERVICE: u32 = !ENDPOINT_BITS;

/// The type of a counter among the objects of a table.
pub(crate) const COUNTER: u32 = ObjectType::Counter as u32;

/// Writes that the counter is to exist. One that exists goes on counting.
pub(crate) fn encode_counter(batch: &mut Batch) {
    let comment = udata::commented("connections whose client could not be remembered: affinity was full");
    batch.message(Command::NewObject, CREATE, |buf| {
        text(buf, attr::object::TABLE, crate::TABLE);
        text(buf, attr::object::NAME, UNREMEMBERED);
        number(buf, attr::object::TYPE, COUNTER);
        nested(buf, attr::object::DATA, |buf| {
            value(buf, attr::counter::BYTES, &[0; 8]);
            value(buf, attr::counter::PACKETS, &[0; 8]);
        });
        value(buf, attr::object::USERDATA, &comment);
    });
}

/// Writes that a chain is to exist, without rules.
pub(crate) fn encode_chain(batch: &mut Batch, name: &str, hook: Option<Hook>) {
    const ACCEPT: u32 = VerdictCode::Accept as u32;
    batch.message(Command::NewChain, CREATE, |buf| {
        let mut attrs = PushChainAttrs::new(buf)
            .push_table_bytes(crate::TABLE.as_bytes())
            .push_name_bytes(name.as_bytes());
        if let Some(hook) = hook {
            attrs = attrs
                .nested_hook()
                .push_num(hook.number)
                .push_priority(hook.priority)
                .end_nested();
            let _ = attrs.push_policy(ACCEPT).push_type_bytes(hook.kind.as_bytes());
        }
    });
}

/// Writes that a chain is to lose its rules.
pub(crate) fn encode_flush(batch: &mut Batch, chain: &str) {
    batch.message(Command::DelRule, 0, |buf| {
        text(buf, attr::rule::TABLE, crate::TABLE);
        text(buf, attr::rule::CHAIN, chain);
    });
}

/// Writes that a chain without rules is to be removed.
pub(crate) fn encode_delete(batch: &mut Batch, chain: &str) {
    batch.message(Command::DelChain, 0, |buf| {
        text(buf, attr::chain::TABLE, crate::TABLE);
        text(buf, attr::chain::NAME, chain);
    });
}

/// Adds rules to one chain.
struct Rules<'b, 'c> {
    batch: &'b mut Batch,
    chain: &'c str,
    family: IpFamily,
}

impl Rules<'_, '_> {
    fn rule(&mut self, expressions: impl FnOnce(&mut ExprList<'_>)) {
        let family = numbers(self.family);
        self.batch.message(Command::NewRule, CREATE | APPEND, |buf| {
            let mut attrs = PushRuleAttrs::new(buf)
                .push_table_bytes(crate::TABLE.as_bytes())
                .push_chain_bytes(self.chain.as_bytes());
            let buf = netlink_bindings::traits::Pusher::as_vec_mut(&mut attrs);
            nested(buf, attr::rule::EXPRESSIONS, |buf| {
                expressions(&mut ExprList::new(buf, family));
            });
        });
    }

    /// Translates a packet that has ports to the endpoint that `endpoint` loads.
    fn dnat(&mut self, endpoint: impl FnOnce(&mut ExprList<'_>)) {
        self.dnat_if(|_| (), endpoint);
    }

    /// The same for a packet that meets a condition.
    fn dnat_if(&mut self, condition: impl FnOnce(&mut ExprList<'_>), endpoint: impl FnOnce(&mut ExprList<'_>)) {
        self.with_ports(condition, |r| {
            endpoint(r);
            r.dnat();
        });
    }

    /// Does something with a packet that meets a condition and has ports.
    fn with_ports(&mut self, condition: impl FnOnce(&mut ExprList<'_>), what: impl FnOnce(&mut ExprList<'_>)) {
        let protocols = encode_protocols(self.batch, self.family);
        self.rule(|r| {
            condition(r);
            r.has_ports(protocols);
            what(r);
        });
    }

    fn dnat_to_id(&mut self) {
        self.dnat(|r| {
            r.load(&[Field::Priority]).map(Set::EndpointIds);
        });
    }

    fn jump(&mut self, chain: &str) {
        self.rule(|r| r.verdict(Verdict::Jump(chain)));
    }

    fn keep_bits(&mut self, and: u32) {
        self.rule(|r| {
            r.load(&[Field::Priority]).bits(and).set_priority();
        });
    }
}

/// Writes that the chain that stood in for this one is to be removed.
pub(crate) fn encode_stand_in_goes(batch: &mut Batch, chain: FixedChain) {
    let stand_in = chain.stand_in();
    encode_flush(batch, &stand_in);
    encode_delete(batch, &stand_in);
}
