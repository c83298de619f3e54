//! The rules of the chains that are made on demand. Each is a way to pick an endpoint, and is made when the first
//! Service needs it.

use tandem_core::family::IpFamily;
use tandem_core::id::ENDPOINT_BITS;
use tandem_core::plane::Ahead;
use tandem_core::row::Port;

use crate::elements::element;
use crate::elements::field::Field;
use crate::elements::sets::Set;
use crate::elements::verdict::Verdict;
use crate::picks::chain::PickChain;
use crate::picks::chains::PickNumber;
use crate::rules::action::AffinityChange;
use crate::rules::expr::ExprList;
use crate::rules::{CLIENT, PICK, Rules, SERVICE, UNREMEMBERED, chosen};
use crate::wire::batch::Batch;
use crate::wire::{CREATE, Command, EXCLUSIVE, attr, text};

/// Writes chains that are made on demand, and the numbers that lead to them.
pub(crate) fn encode_pick_chains(
    batch: &mut Batch,
    family: IpFamily,
    ahead: Ahead,
    chains: impl Iterator<Item = (PickChain, Option<PickNumber>)>,
) {
    for (chain, number) in chains {
        encode_pick_chain(batch, chain, true);
        encode_pick_rules(batch, family, ahead, chain);
        if let Some(number) = number {
            element::add_pick(batch, number, &chain.to_string());
        }
    }
}

/// Writes a chain without its rules. If `new` is set, the chain must not exist yet.
pub(crate) fn encode_pick_chain(batch: &mut Batch, chain: PickChain, new: bool) {
    let name = chain.to_string();
    batch.message(Command::NewChain, CREATE | if new { EXCLUSIVE } else { 0 }, |buf| {
        text(buf, attr::chain::TABLE, crate::TABLE);
        text(buf, attr::chain::NAME, &name);
    });
}

/// Writes the rules of a chain.
pub(crate) fn encode_pick_rules(batch: &mut Batch, family: IpFamily, ahead: Ahead, chain: PickChain) {
    let name = chain.to_string();
    let mut rules = Rules {
        batch,
        chain: &name,
        family,
    };
    match chain {
        PickChain::Pick { count } => {
            rules.keep_bits(!PICK);
            if follows(ahead, count) {
                chosen::pick(&mut rules);
            }
            // If the list became shorter meanwhile, its first endpoint still exists, unless the list is empty.
            let draws = [u32::from(count.get()), 1];
            for below in draws.into_iter().take(if count.get() == 1 { 1 } else { 2 }) {
                rules.dnat(|r| {
                    r.load(&[Field::Priority]).random(below, 1).map(Set::Endpoints);
                });
            }
        }
        PickChain::Recall { seconds } => {
            rules.rule(|r| {
                r.load(CLIENT).map(Set::Affinity).set_priority();
            });
            rules.rule(|r| {
                r.load(&[Field::Priority])
                    .bits(ENDPOINT_BITS)
                    .is(0)
                    .verdict(Verdict::Return);
            });
            rules.rule(|r| r.affinity(AffinityChange::Update { seconds }));
            rules.dnat_to_id();
            rules.rule(|r| r.affinity(AffinityChange::Delete));
            rules.keep_bits(SERVICE);
        }
        PickChain::Remember { seconds } => {
            rules.rule(|r| r.affinity(AffinityChange::Update { seconds }));
            rules.keep_bits(SERVICE);
            rules.rule(|r| {
                r.load(CLIENT).map(Set::Affinity).set_priority();
            });
            rules.dnat_to_id();
        }
        PickChain::Stick { count, seconds } => {
            let draw = |r: &mut ExprList<'_>, below: u32| {
                r.load(&[Field::Priority])
                    .random(below, 1)
                    .map(Set::StickyEndpoints)
                    .set_priority();
            };
            rules.keep_bits(SERVICE);
            if follows(ahead, count) {
                chosen::stick(&mut rules, seconds);
            }
            let count = u32::from(count.get());
            rules.jump(&PickChain::Recall { seconds }.to_string());
            let remember = PickChain::Remember { seconds }.to_string();
            rules.rule(|r| {
                draw(r, count);
                r.verdict(Verdict::Jump(&remember));
            });
            // Reached if the list became shorter meanwhile: draws the first endpoint.
            rules.keep_bits(SERVICE);
            rules.rule(|r| {
                draw(r, 1);
                r.verdict(Verdict::Jump(&remember));
            });
            // Reached if the map `affinity` is full: draws any endpoint, which is not remembered.
            rules.keep_bits(SERVICE);
            rules.rule(|r| draw(r, count));
            rules.rule(|r| {
                r.load(&[Field::Priority])
                    .bits(ENDPOINT_BITS)
                    .is_not(0)
                    .count(UNREMEMBERED);
            });
            rules.dnat_to_id();
            rules.keep_bits(SERVICE);
            rules.rule(|r| draw(r, 1));
            rules.dnat_to_id();
        }
    }
}

/// Whether a chain follows what was chosen before. With one endpoint, there is nothing to choose.
fn follows(ahead: Ahead, count: Port) -> bool {
    ahead == Ahead::Xdp && count != Port::MIN
}
