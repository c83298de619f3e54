//! Decides whether a table that exists can be taken over as it is: by its sets, its chains and the numbers of its
//! picks. Pure.

use std::collections::{HashMap, HashSet};

use tandem_core::family::IpFamily;
use tandem_core::id::PICK_BITS;

use crate::elements::layout::Shape;
use crate::elements::sets::Set;
use crate::picks::chain::PickChain;
use crate::picks::chains::{self, PickNumber};
use crate::rules::STAND_IN;
use crate::rules::fixed_chain::FixedChain;
use crate::table::listing::ChainInfo;

/// Why a table cannot be taken over as it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum Incompatible {
    #[error("set {0} has another layout")]
    Layout(String),
    #[error("set {0} is unknown")]
    Set(String),
    #[error("chain {0} is unknown or has another hook")]
    Chain(String),
    #[error("map picks holds elements that no tandem wrote")]
    Elements,
    #[error("map picks leads to one chain by two numbers")]
    TwoNumbers,
    #[error("no number leads to chain {0}")]
    NoNumber(String),
    #[error("number {number} does not lead to chain {name}")]
    OtherChain { number: PickNumber, name: &'static str },
}

/// Gives the chains made on demand, or why the table cannot be taken over.
pub(super) fn check(
    family: IpFamily,
    sets: &HashMap<String, Shape>,
    chains: &HashMap<String, ChainInfo>,
    picks: &HashMap<PickNumber, String>,
) -> Result<HashMap<PickChain, Option<PickNumber>>, Incompatible> {
    check_sets(family, sets)?;
    check_chains(chains)?;
    on_demand(chains, picks)
}

fn check_sets(family: IpFamily, sets: &HashMap<String, Shape>) -> Result<(), Incompatible> {
    for (name, shape) in sets {
        match Set::ALL.into_iter().find(|set| set.name() == name) {
            Some(set) if fits(shape, &set.layout().shape(family)) => {}
            Some(_) => return Err(Incompatible::Layout(name.clone())),
            None => return Err(Incompatible::Set(name.clone())),
        }
    }
    Ok(())
}

fn check_chains(chains: &HashMap<String, ChainInfo>) -> Result<(), Incompatible> {
    for (name, chain) in chains {
        let fixed_name = name.strip_suffix(STAND_IN).unwrap_or(name);
        let known = match FixedChain::of(fixed_name).map(FixedChain::hook) {
            Some(None) => !chain.hooked,
            Some(Some(hook)) => {
                chain.kind.as_deref() == Some(hook.kind)
                    && chain.number == hook.number
                    && chain.priority == hook.priority
            }
            None => !chain.hooked && name.parse::<PickChain>().is_ok(),
        };
        if !known {
            return Err(Incompatible::Chain(name.clone()));
        }
    }
    Ok(())
}

/// Whether a set that exists has the layout that is wanted.
pub(super) fn fits(there: &Shape, wanted: &Shape) -> bool {
    // If the layout has no limit, the kernel chooses the size.
    let size = if wanted.size == 0 { 0 } else { there.size };
    Shape { size, ..there.clone() } == *wanted
}

/// The chains made on demand that exist, and those that they lead to, which somebody may have deleted. Each has the
/// number that leads to it. It is an error if `picks` holds what no Tandem wrote.
fn on_demand(
    chains: &HashMap<String, ChainInfo>,
    picks: &HashMap<PickNumber, String>,
) -> Result<HashMap<PickChain, Option<PickNumber>>, Incompatible> {
    if chains::picks_by_number(picks).len() != picks.len()
        || picks.keys().any(|number| *number == 0 || *number > PICK_BITS)
    {
        return Err(Incompatible::Elements);
    }
    if picks.values().collect::<HashSet<_>>().len() < picks.len() {
        return Err(Incompatible::TwoNumbers);
    }
    let mut on_demand = HashMap::new();
    for (name, chain) in chains
        .keys()
        .filter_map(|name| Some((name, name.parse::<PickChain>().ok()?)))
    {
        let number = picks
            .iter()
            .find(|(_, there)| *there == name)
            .map(|(number, _)| *number);
        if chain.pick().is_some() && number.is_none() {
            return Err(Incompatible::NoNumber(name.clone()));
        }
        for target in chain.targets() {
            on_demand.entry(target).or_default();
        }
        on_demand.insert(chain, number);
    }
    for (number, name) in chains::FIXED {
        if picks.get(&number).is_some_and(|there| there != name) {
            return Err(Incompatible::OtherChain { number, name });
        }
    }
    Ok(on_demand)
}
