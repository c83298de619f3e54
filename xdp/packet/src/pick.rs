//! Which endpoint answers a client.

use tandem_xdp_layout::{
    self as layout, AffinityWord, Class, Endpoint, FlowKey, FrontendKey, FrontendWord, List, Reason, Switch,
    VisitorKey, Which,
};

use crate::ip::Ip;
use crate::settings::pick_seed;
use crate::world::FamilyWorld;

/// The seed of the choice by Maglev. It is the same on every node, so that all choose the same.
const SPREAD: u32 = 0x7461_6e64;

/// The list of the frontend that a packet goes to, if it is one whose flows are taken.
#[inline(always)]
pub(crate) fn list<A: Ip>(world: &impl FamilyWorld<A>, key: &FlowKey<A>, switch: Switch) -> Result<List<A>, Reason> {
    let to = key.frontend();
    let of_address = FrontendKey::new(to.addr, to.port, key.protocol);
    let word = match layout::frontend(world, &of_address) {
        Err(Reason::NoFrontend) => node_port(world, to, key.protocol, switch)?,
        found => found?,
    };
    match word.class() {
        Some(Class::External | Class::NodePort) => {}
        Some(Class::Cluster) => return Err(Reason::ClusterIp),
        None => return Err(Reason::Changing),
    }
    if word.list().is_some_and(layout::ListIndex::is_local) {
        return Err(Reason::LocalPolicy);
    }
    let list = layout::list(world, word, Which::Own)?;
    if word.restricted() && !world.allows(&of_address, key.client) {
        return Err(Reason::Denied);
    }
    Ok(list)
}

#[inline(always)]
fn node_port<A: Ip>(
    world: &impl FamilyWorld<A>,
    to: Endpoint<A>,
    protocol: u8,
    switch: Switch,
) -> Result<FrontendWord, Reason> {
    if !layout::takes_node_port(world, &to, switch, false) {
        return Err(Reason::NoFrontend);
    }
    layout::frontend(world, &FrontendKey::<A>::node_port(to.port, protocol))
}

/// The slot of the endpoint for a client: the one that it had before, or the one that its address and port lead to.
#[inline(always)]
pub(crate) fn slot<A: Ip>(world: &impl FamilyWorld<A>, list: &List<A>, key: &FlowKey<A>) -> Result<u16, Reason> {
    let any = if list.header.cells != 0 {
        list.cell(world, A::choice(key.client(), SPREAD))
            .ok_or(Reason::Changing)?
    } else {
        let choice = A::choice(key.client(), pick_seed(world));
        ((choice as u64 * list.header.count as u64) >> 32) as u16
    };
    let slot = if list.header.sticky {
        sticky(world, list, key, any)
    } else {
        Some(any)
    };
    slot.ok_or(Reason::Changing)
}

/// The slot of the endpoint that a client had before, else `any`. It is remembered from now on.
#[inline(always)]
fn sticky<A: Ip>(world: &impl FamilyWorld<A>, list: &List<A>, key: &FlowKey<A>, any: u16) -> Option<u16> {
    let visitor = VisitorKey::new(key.client, list.header.index, list.header.generation);
    let now = world.now();
    let known = world.visitor(&visitor).map(AffinityWord);
    let number = known.and_then(|word| word.number(&visitor, now, list.header.seconds));
    let before = number.and_then(|number| list.slot_of_number(world, number));
    let slot = before.filter(|slot| *slot < list.header.count).unwrap_or(any);
    let word = AffinityWord::new(&visitor, list.number(world, slot)?, now);
    if known != Some(word) {
        world.remember(&visitor, word.0);
    }
    Some(slot)
}
