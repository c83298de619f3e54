//! Decides whether a table that exists can be taken over as it is: by its sets, its chains and the numbers of its
//! picks. Pure.

use std::collections::{HashMap, HashSet};

use tandem_core::family::IpFamily;
use tandem_core::id::PICK_BITS;
use tandem_core::plane::Place;

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

/// The chains made on demand, each with the number that leads to it.
type OnDemand = HashMap<PickChain, Option<PickNumber>>;

/// Gives the chains made on demand and where the nat chains stand, or why the table cannot be taken over.
pub(super) fn check(
    family: IpFamily,
    sets: &HashMap<String, Shape>,
    chains: &HashMap<String, ChainInfo>,
    picks: &HashMap<PickNumber, String>,
) -> Result<(OnDemand, Option<Place>), Incompatible> {
    check_sets(family, sets)?;
    let place = check_chains(chains)?;
    Ok((on_demand(chains, picks)?, place))
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

/// Gives where the nat chains stand. They were registered in one transaction, so they stand in one place. Those that
/// stand in for them while they are registered anew may be in the other one already.
fn check_chains(chains: &HashMap<String, ChainInfo>) -> Result<Option<Place>, Incompatible> {
    let places = [Place::First, Place::Second];
    let stands = |chain: &FixedChain, info: &ChainInfo, place| match chain.hook(place) {
        None => !info.hooked,
        Some(hook) => {
            info.kind.as_deref() == Some(hook.kind) && info.number == hook.number && info.priority == hook.priority
        }
    };
    let mut found = None;
    for (name, info) in chains {
        let of_stand_in = name.strip_suffix(STAND_IN);
        let known = match FixedChain::of(of_stand_in.unwrap_or(name)) {
            Some(chain) => {
                let possible: Vec<Place> = places
                    .into_iter()
                    .filter(|place| stands(&chain, info, *place))
                    .collect();
                match (&possible[..], of_stand_in) {
                    ([place], None) => *found.get_or_insert(*place) == *place,
                    (possible, _) => !possible.is_empty(),
                }
            }
            None => !info.hooked && name.parse::<PickChain>().is_ok(),
        };
        if !known {
            return Err(Incompatible::Chain(name.clone()));
        }
    }
    Ok(found)
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
