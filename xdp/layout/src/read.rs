//! From a frontend to its list.

use crate::address::{Address, Endpoint};
use crate::frontend::{FrontendKey, FrontendWord};
use crate::list::List;
use crate::maps::Maps;
use crate::reason::Reason;
use crate::service::ServiceWord;
use crate::switch::Switch;
use crate::way::Way;

/// Which of a Service port's lists is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The list that the frontend's traffic policy names.
    Own,
    /// All usable endpoints, whatever the traffic policy says.
    All,
}

/// What stands about a frontend.
#[inline(always)]
pub fn frontend<A: Address>(maps: &impl Maps<A>, key: &FrontendKey<A>) -> Result<FrontendWord, Reason> {
    let Some(word) = maps.frontend(key) else {
        return Err(Reason::NoFrontend);
    };
    let word = FrontendWord(word);
    if word.is_of(key) {
        Ok(word)
    } else {
        Err(Reason::Changing)
    }
}

/// Whether nodePorts are asked for at an address and port that is no frontend's own. If `loopback`, they are on loopback too.
#[inline(always)]
pub fn takes_node_port<A: Address>(maps: &impl Maps<A>, to: &Endpoint<A>, switch: Switch, loopback: bool) -> bool {
    if !switch.may_be_node_port(u16::from_be(to.port)) {
        return false;
    }
    maps.has_address(&to.addr) || (loopback && to.addr.is_loopback())
}

/// The list of a frontend.
#[inline(always)]
pub fn list<A: Address>(maps: &impl Maps<A>, frontend: FrontendWord, which: Which) -> Result<List<A>, Reason> {
    let Some(own) = frontend.list() else {
        return Err(Reason::Changing);
    };
    let index = match which {
        Which::Own => own,
        Which::All => own.all(),
    };
    let Some(word) = maps.service(index) else {
        return Err(Reason::Changing);
    };
    let word = ServiceWord(word);
    if word.generation() != frontend.generation() {
        return Err(Reason::Changing);
    }
    match word.way() {
        Some(Way::Any | Way::Sticky) => {}
        Some(Way::Refuse) => return Err(Reason::Refuse),
        Some(Way::Discard) => return Err(Reason::Discard),
        None => return Err(Reason::NoList),
    }
    let Some(list) = List::at(maps, word.place()) else {
        return Err(Reason::Changing);
    };
    // Both hold for every list that is published. They are asked because a list that is not must never answer.
    if list.header.index != index || list.header.generation != word.generation() || list.header.count == 0 {
        return Err(Reason::Changing);
    }
    Ok(list)
}
