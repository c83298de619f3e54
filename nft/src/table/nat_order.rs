//! Has the kernel ask this table's nat chains before those of other programs, or, in second place, after those of
//! kube-proxy.
//!
//! The kernel asks nat chains of equal priority in the order of their registration, the youngest first. Once one of
//! them has translated a connection, no other chain is asked. A table of iptables that is made after this one would
//! mark, redirect or masquerade what is addressed to a Service before the rules of this table see it. So if another
//! program adds such a chain, this table's chains are registered anew. The thread that makes the changes calls this
//! between them. A change that comes meanwhile waits for one listing, and for three small transactions if chains are
//! registered anew.

use std::collections::HashSet;

use tandem_core::family::Family;

use crate::family::numbers;
use crate::rules;
use crate::rules::fixed::encode_fixed;
use crate::rules::fixed_chain::FixedChain;
use crate::table::error::TableError;
use crate::table::foreign::{self, ForeignNatChain};
use crate::table::listing;
use crate::table::session::{self, Session};
use crate::wire::batch::Batch;

/// What the last check found.
#[derive(Debug, Default)]
pub(crate) struct LastCheck {
    /// The nat chains of other programs.
    foreign: HashSet<ForeignNatChain>,
    /// Those of them after which this table's chains were registered.
    behind: HashSet<ForeignNatChain>,
    /// Whether the old iptables, which nftables does not list, had a nat table.
    legacy: bool,
    /// When it was.
    at: Option<Moment>,
    /// Whether the check failed.
    failed: bool,
}

/// A moment, told by the transactions that the kernel had carried out.
#[derive(Clone, Copy, Debug)]
struct Moment {
    /// The kernel's generation: all transactions of the network namespace.
    generation: u32,
    /// Those of this thread.
    own: u32,
}

impl Moment {
    /// Whether every transaction since then was this thread's own.
    fn is_undisturbed_since(self, then: Self) -> bool {
        self.generation.wrapping_sub(then.generation) == self.own.wrapping_sub(then.own)
    }
}

/// Registers this table's chains anew if any other program has nat chains, because the order is not known.
pub(crate) fn put_first<F: Family>(session: &mut Session<F>, last: &mut LastCheck) -> Result<(), TableError> {
    record(session, last)?;
    if last.legacy || !last.foreign.is_empty() {
        register_anew(session)?;
    }
    Ok(())
}

/// Checks whether another program added a nat chain, and if so registers this table's chains anew. Those of a kube-proxy
/// count only if that is asked for: whether they come first is decided elsewhere
/// ([`Place`](tandem_core::plane::Place)). Gives whether it did. An error says that the chains may be half way. If only
/// the check fails, nothing is wrong with them: it is done again next time.
pub(crate) fn keep_first<F: Family>(
    session: &mut Session<F>,
    last: &mut LastCheck,
    also_kube_proxy: bool,
) -> Result<bool, TableError> {
    let mut now = match check(session, last) {
        Ok(now) => now,
        Err(error) => {
            if !std::mem::replace(&mut last.failed, true) {
                tracing::warn!("{error}; whether others are asked first is not known");
            }
            return Ok(false);
        }
    };
    let mut newcomers = now.foreign.difference(&last.behind);
    let came = now.legacy && !last.legacy || newcomers.any(|chain| also_kube_proxy || !chain.kube_proxy);
    now.behind = if came {
        register_anew(session)?;
        now.foreign.clone()
    } else {
        last.behind.intersection(&now.foreign).copied().collect()
    };
    *last = now;
    Ok(came)
}

/// Lists the nat chains of other programs, if anybody else changed nftables since the last check.
fn check<F: Family>(session: &mut Session<F>, last: &LastCheck) -> Result<LastCheck, TableError> {
    let unread = |error| TableError::reading(F::FAMILY, error);
    let at = Moment {
        generation: listing::generation(&mut session.socket).map_err(unread)?,
        own: session::own_transactions(),
    };
    let undisturbed = last.at.is_some_and(|then| at.is_undisturbed_since(then));
    let foreign = if undisturbed {
        last.foreign.clone()
    } else {
        foreign::nat_chains(&mut session.socket, F::FAMILY).map_err(unread)?
    };
    Ok(LastCheck {
        foreign,
        behind: HashSet::new(),
        legacy: foreign::legacy_nat(F::FAMILY),
        at: Some(at),
        failed: false,
    })
}

/// Records which chains of other programs are there. Called when this table's chains were just registered.
pub(crate) fn record<F: Family>(session: &mut Session<F>, last: &mut LastCheck) -> Result<(), TableError> {
    let foreign = foreign::nat_chains(&mut session.socket, F::FAMILY);
    last.foreign = foreign.map_err(|error| TableError::reading(F::FAMILY, error))?;
    last.behind.clone_from(&last.foreign);
    (last.legacy, last.at) = (foreign::legacy_nat(F::FAMILY), None);
    Ok(())
}

/// Registers the nat chains anew. One transaction cannot do that for a packet that passes meanwhile: it may meet
/// neither the old chain nor the new one. So chains with the same rules stand in for them until the new ones are
/// there.
pub(crate) fn register_anew<F: Family>(session: &mut Session<F>) -> Result<(), TableError> {
    let settings = session.settings;
    transaction(session, |batch| {
        for (chain, hook) in FixedChain::of_nat(settings.place) {
            let stand_in = chain.stand_in();
            rules::encode_chain(batch, &stand_in, Some(hook));
            encode_fixed(batch, F::FAMILY, chain, &stand_in, settings);
        }
    })?;
    transaction(session, |batch| {
        for (chain, hook) in FixedChain::of_nat(settings.place) {
            rules::encode_flush(batch, chain.name());
            rules::encode_delete(batch, chain.name());
            rules::encode_chain(batch, chain.name(), Some(hook));
            encode_fixed(batch, F::FAMILY, chain, chain.name(), settings);
        }
    })?;
    transaction(session, |batch| {
        for (chain, _) in FixedChain::of_nat(settings.place) {
            rules::encode_stand_in_goes(batch, chain);
        }
    })
}

fn transaction<F: Family>(session: &mut Session<F>, write: impl FnOnce(&mut Batch)) -> Result<(), TableError> {
    let first = session.begin();
    write(&mut session.batch);
    session
        .commit(first)
        .carried_out()
        .map_err(|source| TableError::PutFirst {
            family: numbers(F::FAMILY).name,
            source,
        })
}
