//! Which chains are there on demand, and how many services use each. Kept by `Kernel` so that a change knows, without
//! asking the kernel, which chains it has to make; never does I/O.

use std::collections::{HashMap, HashSet};

use tandem_core::delta::Delta;
use tandem_core::family::Family;
use tandem_core::row::Row;

use crate::chain::Chain;

/// The chains made on demand.
#[derive(Debug, Default)]
pub(crate) struct Demand {
    /// How many services use each chain that is there.
    uses: HashMap<Chain, usize>,
    /// The chains that the transaction being written makes.
    fresh: HashSet<Chain>,
}

impl Demand {
    /// Starts over with what is in the kernel.
    pub(crate) fn reset<'r, F: Family>(
        &mut self,
        chains: impl IntoIterator<Item = Chain>,
        rows: impl IntoIterator<Item = &'r Row<F>>,
    ) {
        self.fresh.clear();
        self.uses = chains.into_iter().map(|chain| (chain, 0)).collect();
        for row in rows {
            self.count(row, true);
        }
    }

    /// The chains that this row needs and that are not there; each is named once in a transaction, targets first.
    pub(crate) fn missing<F: Family>(&mut self, row: &Row<F>) -> impl Iterator<Item = Chain> + use<F> {
        let (mut missing, mut len) = ([None; 3], 0);
        if let Row::Service { pick, .. } = row
            && let Some(chain) = Chain::of(*pick)
            && !self.uses.contains_key(&chain)
        {
            for chain in chain.targets().chain([chain]) {
                if !self.uses.contains_key(&chain) && self.fresh.insert(chain) {
                    missing[len] = Some(chain);
                    len += 1;
                }
            }
        }
        missing.into_iter().flatten()
    }

    /// A transaction is being written anew.
    pub(crate) fn begin(&mut self) {
        self.fresh.clear();
    }

    /// The transaction was carried out.
    pub(crate) fn commit<F: Family>(&mut self, delta: &Delta<F>) {
        for chain in self.fresh.drain() {
            self.uses.entry(chain).or_default();
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
            && let Some(uses) = Chain::of(*pick).and_then(|chain| self.uses.get_mut(&chain))
        {
            *uses = if there { *uses + 1 } else { uses.saturating_sub(1) };
        }
    }

    /// The chains that nothing uses, those that lead to others first.
    pub(crate) fn unused(&self) -> Vec<Chain> {
        let used: HashSet<_> = self
            .uses
            .iter()
            .filter(|(_, uses)| **uses > 0)
            .flat_map(|(chain, _)| chain.targets().chain([*chain]))
            .collect();
        let mut unused: Vec<_> = self
            .uses
            .keys()
            .filter(|chain| !used.contains(chain))
            .copied()
            .collect();
        unused.sort_by_key(|chain| {
            (
                matches!(chain, Chain::Recall { .. } | Chain::Remember { .. }),
                chain.to_string(),
            )
        });
        unused
    }

    /// A chain was removed.
    pub(crate) fn removed(&mut self, chain: Chain) {
        self.uses.remove(&chain);
    }
}
