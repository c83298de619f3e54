//! Which chains exist on demand, the numbers that lead to them, and how many Services use each. `NftTable` keeps
//! this, so that a change knows which chains it has to make and does not ask the kernel. Does no I/O.

use std::collections::{BTreeSet, HashMap};

use tandem_core::family::Family;
use tandem_core::id::PICK_BITS;
use tandem_core::plane::Delta;
use tandem_core::row::{Pick, Row};

use crate::picks::chain::PickChain;

/// The number of a pick: the key of an element of the map `picks`. Zero stands for none.
pub(crate) type PickNumber = u32;

/// The two picks that always exist: their numbers and their chains.
pub(crate) const FIXED: [(PickNumber, &str); 2] = [(REFUSE, "refuse"), (DISCARD, "discard")];
const REFUSE: PickNumber = 1;
const DISCARD: PickNumber = 2;

/// Picks by their numbers.
pub(crate) type PicksByNumber = HashMap<PickNumber, Pick>;

/// The chains made on demand.
#[derive(Debug, Default)]
pub(crate) struct PickChains {
    /// The chains that exist.
    chains: HashMap<PickChain, Use>,
    /// The chains that the transaction makes.
    pending: Vec<(PickChain, Option<PickNumber>)>,
}

/// A chain that exists.
#[derive(Clone, Copy, Debug, Default)]
struct Use {
    /// How many Services go to it.
    services: usize,
    /// The number that leads to it. A chain that only other chains lead to has none.
    number: Option<PickNumber>,
}

/// All numbers are in use: there are too many different numbers of endpoints and affinity timeouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("every number for a way to pick an endpoint is in use")]
pub(crate) struct UsedUp;

impl PickChains {
    /// Starts again from what is in the kernel.
    pub(crate) fn reset<'r, F: Family>(
        &mut self,
        chains: impl IntoIterator<Item = (PickChain, Option<PickNumber>)>,
        rows: impl IntoIterator<Item = &'r Row<F>>,
    ) {
        self.pending.clear();
        self.chains = chains
            .into_iter()
            .map(|(chain, number)| (chain, Use { services: 0, number }))
            .collect();
        for row in rows {
            self.count(row, true);
        }
    }

    /// Adds the chains that this row needs to the transaction. Returns those that the transaction has to make,
    /// targets first, each with the number that will lead to it.
    pub(crate) fn require<F: Family>(
        &mut self,
        row: &Row<F>,
    ) -> Result<impl Iterator<Item = (PickChain, Option<PickNumber>)> + use<F>, UsedUp> {
        let (mut missing, mut len) = ([None; 3], 0);
        if let Row::Service { pick, .. } = row
            && let Some(chain) = PickChain::of(*pick)
            && self.number(*pick).is_none()
        {
            let number = self.lowest_free().ok_or(UsedUp)?;
            for (chain, number) in chain
                .targets()
                .map(|target| (target, None))
                .chain([(chain, Some(number))])
            {
                if !self.chains.contains_key(&chain) && self.pending.iter().all(|(pending, _)| *pending != chain) {
                    self.pending.push((chain, number));
                    missing[len] = Some((chain, number));
                    len += 1;
                }
            }
        }
        Ok(missing.into_iter().flatten())
    }

    /// The number of a pick, if its chain exists or is made by the transaction.
    pub(crate) fn number(&self, pick: Pick) -> Option<PickNumber> {
        let chain = match (pick, PickChain::of(pick)) {
            (_, Some(chain)) => chain,
            (Pick::Discard, None) => return Some(DISCARD),
            (_, None) => return Some(REFUSE),
        };
        let pending = || {
            self.pending
                .iter()
                .find(|(pending, _)| *pending == chain)
                .and_then(|(_, number)| *number)
        };
        self.chains.get(&chain).and_then(|there| there.number).or_else(pending)
    }

    /// The number that belongs into a row's element. It is zero for rows that have no pick. There is none if all
    /// numbers were in use.
    pub(crate) fn number_of<F: Family>(&self, row: &Row<F>) -> Option<PickNumber> {
        match row {
            Row::Service { pick, .. } => self.number(*pick),
            _ => Some(0),
        }
    }

    /// The picks whose chains exist.
    pub(crate) fn ways(&self) -> impl Iterator<Item = Pick> + '_ {
        let numbered = self.chains.iter().filter(|(_, there)| there.number.is_some());
        numbered.filter_map(|(chain, _)| chain.pick())
    }

    /// The lowest number that is free.
    fn lowest_free(&self) -> Option<PickNumber> {
        let taken: BTreeSet<PickNumber> = self
            .chains
            .values()
            .filter_map(|there| there.number)
            .chain(self.pending.iter().filter_map(|(_, number)| *number))
            .collect();
        (DISCARD + 1..=PICK_BITS).find(|number| !taken.contains(number))
    }

    /// A new transaction begins.
    pub(crate) fn begin(&mut self) {
        self.pending.clear();
    }

    /// The transaction was carried out.
    pub(crate) fn commit<F: Family>(&mut self, delta: &Delta<F>) {
        for (chain, number) in self.pending.drain(..) {
            self.chains.entry(chain).or_default().number = number;
        }
        for row in delta.removed.iter().chain(delta.changed.iter().map(|(old, _)| old)) {
            self.count(row, false);
        }
        for row in delta.added.iter().chain(delta.changed.iter().map(|(_, new)| new)) {
            self.count(row, true);
        }
    }

    fn count<F: Family>(&mut self, row: &Row<F>, there: bool) {
        if let Row::Service { pick, .. } = row
            && let Some(chain) = PickChain::of(*pick).and_then(|chain| self.chains.get_mut(&chain))
        {
            let services = chain.services;
            chain.services = if there {
                services + 1
            } else {
                services.saturating_sub(1)
            };
        }
    }

    /// The chains that nothing uses, with their numbers. A chain comes before those that it leads to.
    pub(crate) fn unused(&self) -> Vec<(PickChain, Option<PickNumber>)> {
        let used: Vec<PickChain> = self
            .chains
            .iter()
            .filter(|(_, there)| there.services > 0)
            .flat_map(|(chain, _)| chain.targets().chain([*chain]))
            .collect();
        let unused = self.chains.iter().filter(|(chain, _)| !used.contains(chain));
        let mut unused: Vec<_> = unused.map(|(chain, there)| (*chain, there.number)).collect();
        unused.sort_by_key(|(chain, _)| (chain.pick().is_none(), chain.to_string()));
        unused
    }

    /// A chain was removed.
    pub(crate) fn removed(&mut self, chain: PickChain) {
        self.chains.remove(&chain);
    }
}

/// The picks that the elements of the map `picks` lead to.
pub(crate) fn picks_by_number(picks: &HashMap<PickNumber, String>) -> PicksByNumber {
    let pick = |name: &str| match name {
        "refuse" => Some(Pick::Refuse),
        "discard" => Some(Pick::Discard),
        _ => name.parse::<PickChain>().ok()?.pick(),
    };
    picks
        .iter()
        .filter_map(|(number, name)| Some((*number, pick(name)?)))
        .collect()
}
